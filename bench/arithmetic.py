"""How many multiply-accumulates a graph takes for one image, counted from the shapes of its tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import onnx
from onnx import shape_inference

from ganrt.errors import ArtifactError
from ganrt.spec import Image, Label, Latent, Spec

from .cases import Size

Shape: TypeAlias = tuple[int, ...]


def multiplications(path: Path, spec: Spec, size: Size | None) -> int:
    """Multiply-accumulates of the convolutions and matrix products of an ONNX file, for one image.

    What they multiply with zeros (of padding, of the borders that a transposed convolution cuts off) counts; norms,
    activations and resizing do not. Of convolutions on 8 bits the same is counted.

    Args:
        size: height and width of the pictures that the model is given, None for one that takes none.

    Raises ArtifactError when a shape that is needed does not follow from those of the inputs.
    """
    return sum(step.multiplications for step in _steps(*_one_image(path, spec, size)))


class Traffic(NamedTuple):
    """How many values convolutions and matrix products read and write for one image, if each moves once."""

    tensors: int
    """Inputs and outputs."""
    weights: int
    """Once for a whole batch."""


def traffic(path: Path, spec: Spec, size: Size | None) -> Traffic:
    """What an ONNX file moves; arguments and errors are those of `multiplications`."""
    steps = list(_steps(*_one_image(path, spec, size)))
    return Traffic(sum(step.tensors for step in steps), sum(step.weights for step in steps))


def count(model: onnx.ModelProto, inputs: Mapping[str, Shape], name: str = "the graph") -> int:
    """`multiplications` for inputs of these shapes."""
    return sum(step.multiplications for step in _steps(model, inputs, name))


class _Step(NamedTuple):
    """A convolution or matrix product."""

    multiplications: int
    tensors: int
    weights: int


def _one_image(path: Path, spec: Spec, size: Size | None) -> tuple[onnx.ModelProto, dict[str, Shape], str]:
    model = onnx.load(path, load_external_data=False)
    return model, {item.name: (1, *_shape(item, size)) for item in spec.inputs}, path.name


def _steps(model: onnx.ModelProto, inputs: Mapping[str, Shape], name: str) -> Iterator[_Step]:
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        if value.name in inputs:
            _set_shape(value, inputs[value.name])
    del fixed.graph.value_info[:]
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    found = shape_inference.infer_shapes(fixed, strict_mode=True, data_prop=True).graph
    shapes = {value.name: _dimensions(value) for value in (*found.input, *found.value_info, *found.output)}
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in found.initializer}

    def shape(tensor: str) -> Shape:
        known = shapes.get(tensor)
        if known is None:
            raise ArtifactError(f"{name}: the shape of {tensor} does not follow from those of the inputs")
        return known

    constant = {tensor.name for tensor in found.initializer}
    for node in [n for n in found.node if n.domain == "" and n.op_type in _COUNTED]:
        given, made = [shape(name) for name in node.input[:2]], shape(node.output[0])
        sizes = {name: math.prod(side) for name, side in zip(node.input, given, strict=False)}
        weights = sum(values for name, values in sizes.items() if name in constant)
        moved = sum(sizes.values()) - weights + math.prod(made)
        yield _Step(_COUNTED[node.op_type](node, given, made), moved, weights)


def _convolution(node: onnx.NodeProto, given: Sequence[Shape], made: Shape) -> int:
    """Every output value sums over the weight's input channels (of its group) and places."""
    return math.prod(made) * math.prod(given[1][1:])


def _transposed(node: onnx.NodeProto, given: Sequence[Shape], made: Shape) -> int:
    """Every input value goes to the weight's output channels (of its group) and places."""
    return math.prod(given[0]) * math.prod(given[1][1:])


def _product(node: onnx.NodeProto, given: Sequence[Shape], made: Shape) -> int:
    return math.prod(made) * given[0][-1]


def _gemm(node: onnx.NodeProto, given: Sequence[Shape], made: Shape) -> int:
    turned = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return math.prod(made) * given[0][0 if turned else 1]


_COUNTED: dict[str, Callable[[onnx.NodeProto, Sequence[Shape], Shape], int]] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "MatMul": _product,
    "Gemm": _gemm,
}


def _shape(item: object, size: Size | None) -> Shape:
    """Of one row of an input."""
    if isinstance(item, Latent):
        return item.shape
    if isinstance(item, Label):
        return (item.classes,) if item.encoding == "one_hot" else ()
    if isinstance(item, Image):
        height, width = item.size or size or (0, 0)
        return (item.channels, height, width)
    return ()


def _set_shape(value: onnx.ValueInfoProto, shape: Shape) -> None:
    dimensions = value.type.tensor_type.shape.dim
    for dimension, side in zip(dimensions, shape, strict=True):
        dimension.dim_value = side


def _dimensions(value: onnx.ValueInfoProto) -> Shape | None:
    """None where a side is not known."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    sides = value.type.tensor_type.shape.dim
    return tuple(side.dim_value for side in sides) if all(side.HasField("dim_value") for side in sides) else None
