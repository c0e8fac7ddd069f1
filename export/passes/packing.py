"""Convolutions to few channels, such as those to RGB, compute 2 x 2 pixels at a time.

A processor multiplies 16 output channels at once (8 without AVX-512) and leaves the lanes of 13 of them idle where
there are 3. The same function with stride 2, a kernel one tap larger in both directions, and four times the channels
fills 12 lanes. The zeros of the larger kernel cost (k + 1)^2 / k^2, the lanes gain 4: for 9 x 9 taps that is 3.2 times
as fast, for 3 x 3 still 2.25 times. Depth-to-space then puts the pixels where they belong.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .base import Pass
from .graph import Array, Patch, is_nearest_2x, is_plain_conv, read_attribute, read_constant, read_padding, read_shape
from .upsampling import FACTOR, PARITIES, mix_taps

LANES = 16
"""Output channels that are computed together: float32 in a register of AVX-512."""
_SAME_SIZE = (
    *("Relu", "LeakyRelu", "PRelu", "Tanh", "Sigmoid", "Clip", "Add", "Sub", "Mul", "Div", "Identity"),
    *("InstanceNormalization", "BatchNormalization"),
)


def is_narrow(channels: int) -> bool:
    """Whether four pixels of so many channels fit where one would be computed."""
    return FACTOR * FACTOR * channels <= LANES


def pack_narrow_convs(model: ir.Model) -> int:
    """Conv to at most 4 channels becomes Conv with stride 2 -> DepthToSpace, where height and width are surely even."""
    count = 0
    for node in list(model.graph):
        weight = read_constant(node.inputs[1]) if node.op_type == "Conv" and node.domain == "" else None
        if weight is None or not _can_pack(node, weight.shape) or not _is_even(node.outputs[0]):
            continue
        patch, name, kernel = Patch(node), str(node.inputs[1].name), _pack_kernel(weight)  # type: ignore[union-attr]
        inputs = [node.inputs[0], patch.add_constant(kernel, f"{name}.packed")]
        bias = read_constant(node.inputs[2]) if len(node.inputs) > 2 else None
        if bias is not None:
            inputs.append(patch.add_constant(np.repeat(bias, FACTOR * FACTOR), f"{name}.packed.bias"))
        packed = patch.add_copy(node, inputs, kernel_shape=kernel.shape[2:], strides=(FACTOR, FACTOR))
        patch.replace(node.outputs[0], patch.add_op("DepthToSpace", [packed], blocksize=FACTOR, mode="CRD"))
        model.graph.remove(node, safe=True)
        count += 1
    return count


def _pack_kernel(weight: Array) -> Array:
    """The kernel at 2 x 2 places, one tap larger in both directions: (4 out, in, height + 1, width + 1)."""
    rows, columns = ([np.eye(size + 1, size, -at) for at in PARITIES] for size in weight.shape[2:])
    places = [mix_taps(weight, row, column) for row in rows for column in columns]
    return np.stack(places, axis=1).reshape(-1, *places[0].shape[1:])


def _can_pack(node: ir.Node, shape: tuple[int, ...]) -> bool:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return (
        len(shape) == 4
        and is_narrow(shape[0])
        and max(shape[2:]) > 1
        and read_attribute(node, "group", 1) == 1
        and is_plain_conv(node, (1, 1))
        and (bias is None or read_constant(bias) is not None)
    )


def _is_even(value: ir.Value | None) -> bool:
    """Whether height and width of a picture are even whatever the inputs are: known to be, or made so by upsampling."""
    while value is not None:
        known = read_shape(value)[2:]
        if len(known) == 2 and None not in known:
            return all(side % FACTOR == 0 for side in known if side is not None)
        node = value.producer()
        if node is None or node.domain != "" or not _keeps_parity(node):
            return node is not None and node.domain == "" and _makes_even(node)
        value = next(
            (given for given in node.inputs if len(read_shape(given)) == 4 and read_shape(given)[2:] != (1, 1)), None
        )
    return False


def _makes_even(node: ir.Node) -> bool:
    if node.op_type == "DepthToSpace":
        return int(read_attribute(node, "blocksize")) % FACTOR == 0
    return node.op_type == "Resize" and is_nearest_2x(node)


def _keeps_parity(node: ir.Node) -> bool:
    """Whether the picture that a node makes is as large as its input, or larger or smaller by an even number."""
    if node.op_type == "Conv":
        return all(_size_change(node, axis) == 0 for axis in (0, 1))
    if node.op_type == "Pad":
        amounts = read_constant(node.inputs[1])
        all_axes = len(node.inputs) < 4 or node.inputs[3] is None
        return all_axes and amounts is not None and not any(amounts.reshape(2, -1).sum(axis=0) & 1)
    return node.op_type in _SAME_SIZE


def _size_change(node: ir.Node, axis: int) -> int | None:
    """By how many pixels a convolution changes a side, modulo 2; None where it does more than that."""
    weight, pads = read_constant(node.inputs[1]), read_padding(node)
    if weight is None or weight.ndim != 4 or not is_plain_conv(node, (1, 1)):
        return None
    return int(pads[axis] + pads[axis + 2] + 1 - weight.shape[axis + 2]) % FACTOR


PACKING = Pass("packing", "a convolution to few channels makes 2 x 2 pixels at a time", pack_narrow_convs)
