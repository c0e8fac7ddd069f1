"""int8 as explicit quantize/dequantize pairs: weights symmetric, with one scale per output channel; activations as
uint8 with one scale and one zero point per tensor.

A backend that knows such pairs computes the convolution between them on integers. x86 multiplies unsigned by signed
bytes fastest; and what a leaky rectifier makes, which is mostly positive, would leave half of the values of a signed
byte unused. Biases stay float32. Rounding a weight moves the mean of what the convolution makes, by the same for every
pixel where the input is positive throughout; the bias takes that back (Nagel et al., "Data-Free Quantization Through
Weight Equalization and Bias Correction", 2019, section 4.2).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass, RemoveUnusedNodesPass

from ..passes import Array, Patch, read_attribute, read_constant, read_shape
from .calibration import QuantizationRange

_QUANTISED = {"Conv": 0, "ConvTranspose": 1}
"""Operator -> axis of the output channels in its weight."""
_MOVING = ("DepthToSpace", "Concat", "Slice", "Pad", "Reshape", "Transpose", "Resize", "Flatten")
"""What only moves values about, and so works on 8 bits as well; Pad and Resize in some modes."""

STEPS = 127
"""Of weights, to either side of 0."""
_SMALLEST = 2.0**-100
"""Scale of a tensor of zeros: no scale may be 0."""


class Layer(NamedTuple):
    """Convolutions of one tensor: they are quantised together, since they share its 8 bits."""

    name: str
    """Of the tensor."""
    source: ir.Value
    nodes: tuple[ir.Node, ...]


def find_layers(model: ir.Model) -> list[Layer]:
    """What can be quantised, in the order of the graph: convolutions with constant weights, of more than one pixel."""
    found: dict[str, tuple[ir.Value, list[ir.Node]]] = {}
    for node in model.graph:
        source = node.inputs[0] if node.op_type in _QUANTISED and node.domain == "" else None
        if source is None or source.name is None or read_shape(source)[2:] == (1, 1):
            continue
        if read_constant(node.inputs[1]) is not None:
            found.setdefault(source.name, (source, []))[1].append(node)
    return [Layer(name, source, tuple(nodes)) for name, (source, nodes) in found.items()]


def quantize(
    model: ir.Model,
    ranges: Mapping[str, QuantizationRange],
    names: Collection[str],
    steps: Mapping[str, Array] | None = None,
) -> ir.Model:
    """Quantize the layers of these names to int8. Returns a copy of the graph.

    Args:
        ranges: name of a layer -> quantization range of its input tensor.
        steps: name of the output of a convolution -> its weight in int8; all others are rounded to the nearest.
    """
    copy, given = model.clone(), steps or {}
    for layer in find_layers(copy):
        if layer.name not in names:
            continue
        for node in layer.nodes:
            _quantize_weight(node, ranges[layer.name].mean, given.get(str(node.outputs[0].name)))
        found = ranges[layer.name]
        places = [(layer.source, layer.nodes)] if found.low < 0 else list(_find_leaves(layer.source, layer.nodes))
        for leaf, users in places:
            quantize_tensor(leaf, users, layer.name, found)
    copy.graph.sort()
    RemoveUnusedNodesPass()(copy)  # and the float weights
    NameFixPass()(copy)
    return copy


def choose_weight_scale(weight: Array, axis: int) -> Array:
    """What a step of each output channel (of each group, for transposed convolutions) stands for, float32.

    Args:
        axis: of the output channels.
    """
    largest = np.abs(weight).max(axis=tuple(k for k in range(weight.ndim) if k != axis))
    scale: Array = np.maximum(largest, _SMALLEST * STEPS) / STEPS
    return scale.astype(np.float32)


def quantize_array(values: Array, found: QuantizationRange) -> Array:
    """Return the values that a tensor of this range has in 8 bits, float32."""
    scale, zero = _choose_scale(found)
    return (np.clip(np.rint(values / scale) + zero, 0, 255) - zero).astype(np.float32) * scale


def _choose_scale(found: QuantizationRange) -> tuple[np.float32, np.uint8]:
    """The scale and the zero point of a tensor."""
    scale = np.float32(max(found.high - found.low, _SMALLEST * 255) / 255)
    return scale, np.uint8(np.rint(-found.low / scale))


def _quantize_weight(node: ir.Node, mean: Array, given: Array | None) -> None:
    """Replace a weight by int8 numbers and a scale per output channel.

    Args:
        mean: of each channel of the input.
        given: the numbers; None to round to the nearest.
    """
    value, weight = node.inputs[1], read_constant(node.inputs[1])
    assert value is not None and weight is not None
    axis = _QUANTISED[node.op_type]
    scale = choose_weight_scale(weight, axis)
    patch = Patch(node)
    along = scale.reshape([-1 if k == axis else 1 for k in range(weight.ndim)])
    steps = np.clip(np.rint(weight / along), -STEPS, STEPS).astype(np.int8) if given is None else given
    parts = [
        patch.add_constant(steps, f"{value.name}.int8"),
        patch.add_constant(scale, f"{value.name}.scale"),
        patch.add_constant(np.zeros(len(scale), np.int8), "zeros"),
    ]
    node.replace_input_with(1, patch.add_op("DequantizeLinear", parts, axis=axis))
    if node.op_type == "Conv":  # of a transposed one, every tap reaches some pixels only
        correct_bias(node, measure_shift(node, (steps * along - weight).astype(np.float64), mean))


def measure_shift(node: ir.Node, apart: Array, mean: Array) -> Array:
    """Return what wrong weights add to each output channel of a convolution on average.

    Args:
        apart: wrong weights minus right ones.
        mean: of each channel of the input.
    """
    groups = read_attribute(node, "group", 1)
    taps = apart.reshape(groups, -1, *apart.shape[1:]).sum(axis=tuple(range(3, apart.ndim + 1)))
    shift: Array = np.einsum("goi,gi->go", taps, mean.reshape(groups, -1)).ravel()
    return shift


def correct_bias(node: ir.Node, shift: Array) -> None:
    """Take what wrong weights add on average (`measure_shift`) back from the bias, unless that is computed."""
    given = node.inputs[2] if len(node.inputs) > 2 else None
    bias = read_constant(given)
    if given is not None and bias is None:
        return
    corrected = ((0 if bias is None else bias) - shift).astype(np.float32)
    node.resize_inputs(3)
    node.replace_input_with(2, Patch(node).add_constant(corrected, f"{node.inputs[0].name}.bias"))  # type: ignore[union-attr]


def _find_leaves(value: ir.Value, users: tuple[ir.Node, ...]) -> Iterator[tuple[ir.Value, tuple[ir.Node, ...]]]:
    """Where the pairs for a tensor go, and who is to see them: in front of whatever only moves its values, so that 8
    bits are moved; but not right behind a product of two tensors (attention), which OpenVINO 2026.4 then computes in
    float32 whatever it was to compute in. Users that are not named keep the float values. For tensors with a zero point
    nothing is moved in 8 bits: OpenVINO cannot load a depth-to-space of such a concatenation."""
    node = value.producer()
    alone = all(use.node in users for use in value.uses())
    if node is not None and _only_moves_values(node) and alone and not _is_product(node.inputs[0]):
        for part in node.inputs if node.op_type == "Concat" else node.inputs[:1]:
            assert part is not None
            yield from _find_leaves(part, (node,))
    else:
        yield value, users


def _is_product(value: ir.Value | None) -> bool:
    """Whether a value is the product of two tensors, perhaps moved."""
    node = None if value is None else value.producer()
    while node is not None and node.op_type in ("Reshape", "Transpose") and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node is not None and node.op_type == "MatMul"


def _only_moves_values(node: ir.Node) -> bool:
    if node.domain != "" or node.op_type not in _MOVING or any(out.is_graph_output() for out in node.outputs):
        return False
    if node.op_type == "Pad" and read_attribute(node, "mode", "constant") == "constant":
        filling = read_constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
        return len(node.inputs) < 3 or (filling is not None and not filling.any())
    return node.op_type != "Resize" or read_attribute(node, "mode", "nearest") == "nearest"


def quantize_tensor(leaf: ir.Value, users: tuple[ir.Node, ...], name: str, found: QuantizationRange) -> None:
    """Put a pair between a tensor and some of its users."""
    scale, zero = _choose_scale(found)
    patch = Patch(users[0])
    inputs = [patch.add_constant(np.array(scale), f"{name}.scale"), patch.add_constant(np.array(zero), f"{name}.zero")]
    pair = patch.add_op("DequantizeLinear", [patch.add_op("QuantizeLinear", [leaf, *inputs]), *inputs])
    for node, place in list(leaf.uses()):
        if node in users:
            node.replace_input_with(place, pair)
