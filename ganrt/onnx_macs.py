"""Count the multiply-accumulates (MACs) of an ONNX graph from the shapes of its tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import onnx
from onnx import shape_inference

from ganrt.errors import ArtifactError

Shape: TypeAlias = tuple[int, ...]


def count_graph_macs(model: onnx.ModelProto, inputs: Mapping[str, Shape], name: str = "the graph") -> int:
    """Return the multiply-accumulates of a graph for inputs of these shapes, those of its convolutions and matrix
    products. Multiplications with zeros count: those of padding, and those whose result a transposed convolution crops.

    Raises ArtifactError when a needed shape cannot be inferred from the shapes of the inputs.
    """
    return sum(product.macs for product in find_products(model, inputs, name))


class Product(NamedTuple):
    """A convolution or a matrix product."""

    macs: int
    tensors: int
    """Values of inputs and outputs."""
    weights: int
    """Values of weights."""


def find_products(model: onnx.ModelProto, inputs: Mapping[str, Shape], name: str) -> Iterator[Product]:
    """Yield the convolutions and matrix products of a graph. Arguments and errors are those of `count_graph_macs`."""
    bound = onnx.ModelProto()
    bound.CopyFrom(model)
    for value in bound.graph.input:
        if value.name in inputs:
            _set_shape(value, inputs[value.name])
    del bound.graph.value_info[:]
    for value in bound.graph.output:
        value.type.tensor_type.ClearField("shape")
    graph = shape_inference.infer_shapes(bound, strict_mode=True, data_prop=True).graph
    shapes = {value.name: _read_shape(value) for value in (*graph.input, *graph.value_info, *graph.output)}
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}

    def shape_of(tensor: str) -> Shape:
        shape = shapes.get(tensor)
        if shape is None:
            raise ArtifactError(f"{name}: the shape of {tensor} cannot be inferred from the shapes of the inputs")
        return shape

    constants = {tensor.name for tensor in graph.initializer}
    for node in [n for n in graph.node if n.domain == "" and n.op_type in _MACS_OF]:
        operands, result = [shape_of(tensor) for tensor in node.input[:2]], shape_of(node.output[0])
        sizes = {tensor: math.prod(shape) for tensor, shape in zip(node.input, operands, strict=False)}
        weights = sum(values for tensor, values in sizes.items() if tensor in constants)
        tensors = sum(sizes.values()) - weights + math.prod(result)
        yield Product(_MACS_OF[node.op_type](node, operands, result), tensors, weights)


def _conv_macs(node: onnx.NodeProto, operands: Sequence[Shape], result: Shape) -> int:
    """Every output value sums over the kernel and the input channels of its group."""
    return math.prod(result) * math.prod(operands[1][1:])


def _conv_transpose_macs(node: onnx.NodeProto, operands: Sequence[Shape], result: Shape) -> int:
    """Every input value is spread over the kernel and the output channels of its group."""
    return math.prod(operands[0]) * math.prod(operands[1][1:])


def _matmul_macs(node: onnx.NodeProto, operands: Sequence[Shape], result: Shape) -> int:
    return math.prod(result) * operands[0][-1]


def _gemm_macs(node: onnx.NodeProto, operands: Sequence[Shape], result: Shape) -> int:
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return math.prod(result) * operands[0][0 if transposed else 1]


_MACS_OF: dict[str, Callable[[onnx.NodeProto, Sequence[Shape], Shape], int]] = {
    "Conv": _conv_macs,
    "ConvTranspose": _conv_transpose_macs,
    "MatMul": _matmul_macs,
    "Gemm": _gemm_macs,
}
"""Operator -> MACs of a node with these operand shapes and this result shape."""


def _set_shape(value: onnx.ValueInfoProto, shape: Shape) -> None:
    for dimension, side in zip(value.type.tensor_type.shape.dim, shape, strict=True):
        dimension.dim_value = side


def _read_shape(value: onnx.ValueInfoProto) -> Shape | None:
    """None where a dimension is unknown."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    sides = value.type.tensor_type.shape.dim
    return tuple(side.dim_value for side in sides) if all(side.HasField("dim_value") for side in sides) else None
