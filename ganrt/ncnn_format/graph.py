"""Reads an ONNX graph for a batch of one row: shapes as far as they are known, and everything computed that can be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from ganrt.feeds import Array
from ganrt.ncnn_format.nodes import Node
from ganrt.ncnn_format.pixel_unshuffle import merge_pixel_unshuffles
from ganrt.onnx_shapes import Shape, infer_shapes

_COMPUTED = {
    *("Add", "Cast", "Concat", "Div", "Gather", "Identity", "Mul", "Reshape", "Slice", "Squeeze", "Sub", "Transpose"),
    "Unsqueeze",
}
"""Operators that are computed while reading when all their inputs are known: those that work out sizes. None of them
makes much of little."""


@dataclass(frozen=True)
class Graph:
    """A graph whose batches have one row."""

    inputs: tuple[str, ...]
    output: str
    nodes: tuple[Node, ...]
    """In an order in which they can be computed, without those that the output does not need."""
    constants: Mapping[str, Array]
    """Weights, and what was computed of them and of known sizes."""
    shapes: Mapping[str, Shape]
    """Shapes of the tensors whose number of sides is known."""
    users: Mapping[str, tuple[Node, ...]]
    """Name of a tensor -> the nodes that take it."""


def read_graph(path: Path) -> Graph:
    """Read an ONNX file with its external data. Raises the exceptions of onnx and protobuf for a file that is not a
    graph, or whose shapes contradict each other."""
    model = onnx.load(path)
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    shapes = infer_shapes(model)
    nodes = _compute_constants(map(_read_node, model.graph.node), constants, shapes, model.opset_import)
    (output,) = (value.name for value in model.graph.output)
    needed = _drop_unused(merge_pixel_unshuffles(nodes, constants), output)
    users: dict[str, tuple[Node, ...]] = {}
    for node in needed:
        for name in node.inputs:
            users[name] = (*users.get(name, ()), node)
    inputs = tuple(value.name for value in model.graph.input if value.name not in constants)
    return Graph(inputs, output, tuple(needed), constants, shapes, users)


def _read_node(node: NodeProto) -> Node:
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    kind = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"
    return Node(kind, node.name, tuple(node.input), tuple(node.output), attributes)


def _compute_constants(
    nodes: Iterator[Node], constants: dict[str, Array], shapes: Mapping[str, Shape], opsets: Any
) -> list[Node]:
    """Move to `constants` what does not depend on the inputs. Returns the other nodes."""
    left = []
    for node in nodes:
        if node.kind == "Constant":
            constants[node.output] = numpy_helper.to_array(node.attributes["value"])
        elif node.kind == "Shape":
            shape = shapes.get(node.inputs[0], (None,))
            wanted = shape[node.attributes.get("start", 0) : node.attributes.get("end")]
            if None in wanted:
                left.append(node)
            else:
                constants[node.output] = np.array(wanted, np.int64)
        elif node.kind in _COMPUTED and all(name in constants for name in node.inputs if name):
            constants[node.output] = _compute_node(node, constants, opsets)
        else:
            left.append(node)
    return left


def _compute_node(node: Node, constants: Mapping[str, Array], opsets: Any) -> Array:
    made = helper.make_node(node.kind, node.inputs, node.outputs, **node.attributes)
    names = [name for name in dict.fromkeys(node.inputs) if name]
    values = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(constants[n].dtype), None) for n in names
    ]
    result = helper.make_tensor_value_info(node.output, TensorProto.UNDEFINED, None)
    model = helper.make_model(helper.make_graph([made], node.kind, values, [result]), opset_imports=opsets)
    found = cast(list[Array], ReferenceEvaluator(model).run(None, {name: constants[name] for name in names}))
    return np.asarray(found[0])


def _drop_unused(nodes: list[Node], output: str) -> list[Node]:
    needed, kept = {output}, []
    for node in reversed(nodes):
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
            kept.append(node)
    return kept[::-1]
