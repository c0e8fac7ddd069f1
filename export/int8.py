"""int8 as explicit quantise/dequantise pairs: symmetric, one scale per tensor for activations, per output channel for
weights.

A backend that knows such pairs computes the convolution between them on integers. Zero points are zero. Tensors that
are never negative are kept as uint8, whose steps are half as large and which x86 multiplies fastest; others as int8.
Biases stay float32.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass, RemoveUnusedNodesPass

from .calibration import Extent
from .graph import Array, Patch, attribute, constant

_QUANTISED = {"Conv": 0, "ConvTranspose": 1}
"""Operator -> axis of the output channels in its weight."""
_MOVING = ("DepthToSpace", "Concat", "Slice", "Pad", "Reshape", "Transpose", "Resize", "Flatten")
"""What only moves values about, and so works on 8 bits as well; Pad and Resize in some modes."""

_SMALLEST = 2.0**-100
"""Scale of a tensor of zeros: no scale may be 0."""


class Layer(NamedTuple):
    """Convolutions of one tensor: they are quantised together, since they share its 8 bits."""

    name: str
    """Of the tensor."""
    source: ir.Value
    nodes: tuple[ir.Node, ...]


def layers(model: ir.Model) -> list[Layer]:
    """What can be quantised, in the order of the graph: convolutions with constant weights."""
    found: dict[str, tuple[ir.Value, list[ir.Node]]] = {}
    for node in model.graph:
        source = node.inputs[0] if node.op_type in _QUANTISED and node.domain == "" else None
        if source is not None and source.name is not None and constant(node.inputs[1]) is not None:
            found.setdefault(source.name, (source, []))[1].append(node)
    return [Layer(name, source, tuple(nodes)) for name, (source, nodes) in found.items()]


def quantise(model: ir.Model, extents: Mapping[str, Extent], names: Collection[str]) -> ir.Model:
    """A copy in which the layers of these names compute in int8.

    Args:
        extents: name of a layer -> what its tensor was seen to reach.
    """
    copy = model.clone()
    for layer in layers(copy):
        if layer.name not in names:
            continue
        for node in layer.nodes:
            _quantise_weight(node)
        for leaf, users in list(_leaves(layer.source, layer.nodes)):
            _quantise_tensor(leaf, users, layer.name, extents[layer.name])
    copy.graph.sort()
    RemoveUnusedNodesPass()(copy)  # and the float weights
    NameFixPass()(copy)
    return copy


def _quantise_weight(node: ir.Node) -> None:
    """Replace a weight by int8 numbers and a scale per output channel (of each group, for transposed ones)."""
    value, weight = node.inputs[1], constant(node.inputs[1])
    assert value is not None and weight is not None
    axis = _QUANTISED[node.op_type]
    largest = np.abs(weight).max(axis=tuple(k for k in range(weight.ndim) if k != axis))
    scale = (np.maximum(largest, _SMALLEST * 127) / 127).astype(np.float32)
    patch = Patch(node)
    steps = patch.constant(_rounded(weight, scale, axis), f"{value.name}.int8")
    parts = [
        steps,
        patch.constant(scale, f"{value.name}.scale"),
        patch.constant(np.zeros(len(scale), np.int8), "zeros"),
    ]
    node.replace_input_with(1, patch.op("DequantizeLinear", parts, axis=axis))


def _rounded(weight: Array, scale: Array, axis: int) -> Array:
    shape = [1] * weight.ndim
    shape[axis] = -1
    return np.clip(np.rint(weight / scale.reshape(shape)), -127, 127).astype(np.int8)


def _leaves(value: ir.Value, users: tuple[ir.Node, ...]) -> Iterator[tuple[ir.Value, tuple[ir.Node, ...]]]:
    """Where the pairs for a tensor go, and who is to see them: in front of whatever only moves its values, so that 8
    bits are moved. Users that are not named keep the float values."""
    node = value.producer()
    if node is not None and _moves(node) and all(use.node in users for use in value.uses()):
        for part in node.inputs if node.op_type == "Concat" else node.inputs[:1]:
            assert part is not None
            yield from _leaves(part, (node,))
    else:
        yield value, users


def _moves(node: ir.Node) -> bool:
    if node.domain != "" or node.op_type not in _MOVING or any(out.is_graph_output() for out in node.outputs):
        return False
    if node.op_type == "Pad" and attribute(node, "mode", "constant") == "constant":
        filling = constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
        return len(node.inputs) < 3 or (filling is not None and not filling.any())
    return node.op_type != "Resize" or attribute(node, "mode", "nearest") == "nearest"


def _quantise_tensor(leaf: ir.Value, users: tuple[ir.Node, ...], name: str, extent: Extent) -> None:
    """Put a pair between a tensor and some of its users."""
    kind, steps = (np.uint8, 255) if extent.low >= 0 else (np.int8, 127)
    scale = np.float32(max(extent.reach, _SMALLEST * steps) / steps)
    patch = Patch(users[0])
    inputs = [patch.constant(np.array(scale), f"{name}.scale"), patch.constant(np.array(kind(0)), f"{name}.zero")]
    pair = patch.op("DequantizeLinear", [patch.op("QuantizeLinear", [leaf, *inputs]), *inputs])
    for node, place in list(leaf.uses()):
        if node in users:
            node.replace_input_with(place, pair)
