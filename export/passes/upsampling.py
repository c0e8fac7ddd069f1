"""Convolutions with upsampling by 2, found in a graph and split by the parity of the output pixel.

After upsampling and a convolution, output pixel 2 i + a depends on a few input pixels around i, with weights that
depend on the parity a alone: one small convolution for each of the 2 x 2 parities (Shi et al., "Is the deconvolution
layer the same as a convolutional layer?", 2016). After nearest-neighbour upsampling several taps of the kernel read the
same input pixel and are summed in advance: 3 x 3 becomes 2 x 2, which takes 2.25 times fewer MACs. A transposed
convolution of stride 2 is of the same kind, with taps picked instead of summed.

Zero padding stays zero padding. Reflecting the upsampled image by one pixel is the same as repeating the border of the
small one, so borders are exact too. Taps are summed in float64 and rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from .graph import Array, find_producer, is_nearest_2x, is_plain_conv, read_attribute, read_constant, read_padding

FACTOR = 2
PARITIES = range(FACTOR)


@dataclass(frozen=True)
class Axis:
    """Output 2 i + a of one axis is the sum over t of (mix[a] @ kernel)[t] * input[i + first[a] + t]."""

    first: tuple[int, ...]
    """For each parity."""
    mix: tuple[NDArray[np.float64], ...]
    """For each parity, (taps, kernel)."""

    def taps(self, parity: int) -> int:
        return len(self.mix[parity])

    def pads(self, parity: int) -> tuple[int, int]:
        """Padding that a parity needs before the first and after the last input."""
        return -self.first[parity], self.first[parity] + self.taps(parity) - 1


@dataclass(frozen=True)
class UpsamplingConv:
    """A convolution with upsampling by 2, in whichever form the graph has it."""

    node: ir.Node
    source: ir.Value
    """The image before upsampling."""
    weight: Array
    """(out, in / groups, height, width), as a plain convolution has it."""
    bias: Array | None
    axes: tuple[Axis, Axis]
    groups: int
    edge: bool = False
    """True if the border of `source` is repeated beyond it; else zeros are padded."""

    def kernel(self, row: int, column: int) -> Array:
        """Weights of the small convolution for a pair of parities, (out, in / groups, taps, taps)."""
        rows, columns = self.axes[0].mix[row], self.axes[1].mix[column]
        return mix_taps(self.weight, rows, columns)


def mix_taps(weight: Array, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> Array:
    """New taps that are sums of old ones, (new, old) in each direction; in the dtype of the weight, rounded once."""
    mix = np.kron(rows, columns)  # (new, old) of both directions together: one matrix product for all channels
    taps = weight.reshape(-1, mix.shape[1]).astype(np.float64) @ mix.T
    return np.asarray(taps.reshape(*weight.shape[:2], len(rows), len(columns)), weight.dtype)


def find_conv_after_nearest(node: ir.Node) -> UpsamplingConv | None:
    """A same-size convolution after nearest-neighbour upsampling, perhaps with reflection padding by one pixel."""
    if node.op_type != "Conv" or not is_plain_conv(node, (1, 1)):
        return None
    weight, pads, source = read_constant(node.inputs[1]), read_padding(node), node.inputs[0]
    if weight is None or weight.ndim != 4:
        return None
    reflection = find_producer(source, "Pad")
    if reflection is not None:
        if read_reflection(reflection) != (1, 1, 1, 1) or any(pads) or weight.shape[2:] != (3, 3):
            return None
        source, pads = reflection.inputs[0], (1, 1, 1, 1)
    resize = find_producer(source, "Resize")
    if (
        resize is None
        or not is_nearest_2x(resize)
        or any(pads[k] + pads[k + 2] != weight.shape[k + 2] - 1 for k in (0, 1))
    ):
        return None
    axes = (nearest_axis(weight.shape[2], pads[0]), nearest_axis(weight.shape[3], pads[1]))
    return _make_upsampling_conv(node, resize.inputs[0], weight, axes, reflection is not None)


def find_transposed_conv(node: ir.Node) -> UpsamplingConv | None:
    """A transposed convolution that doubles height and width."""
    if node.op_type != "ConvTranspose" or not is_plain_conv(node, (FACTOR, FACTOR)):
        return None
    weight, pads, extra = (
        read_constant(node.inputs[1]),
        read_padding(node),
        read_attribute(node, "output_padding", (0, 0)),
    )
    if weight is None or weight.ndim != 4 or read_attribute(node, "output_shape") is not None:
        return None
    if any(weight.shape[k + 2] + extra[k] - pads[k] - pads[k + 2] != FACTOR for k in (0, 1)):
        return None
    axes = (transposed_axis(weight.shape[2], pads[0]), transposed_axis(weight.shape[3], pads[1]))
    groups = read_attribute(node, "group", 1)
    turned = weight.reshape(groups, -1, *weight.shape[1:]).swapaxes(1, 2)
    return _make_upsampling_conv(node, node.inputs[0], turned.reshape(-1, *turned.shape[2:]), axes)


def nearest_axis(kernel: int, before: int) -> Axis:
    """The axis of nearest-neighbour upsampling and a kernel, with `before` zeros in front of the upsampled image."""
    first, mix = [], []
    for parity in PARITIES:
        seen = [(parity + tap - before) // FACTOR for tap in range(kernel)]
        first.append(seen[0])
        mix.append(np.array([[float(at == place) for at in seen] for place in range(seen[0], seen[-1] + 1)]))
    return Axis(tuple(first), tuple(mix))


def transposed_axis(kernel: int, before: int) -> Axis:
    """The axis of a transposed convolution whose output loses its first `before` pixels."""
    first, mix = [], []
    for parity in PARITIES:
        place, start = divmod(parity + before, FACTOR)
        taps = range(start, kernel, FACTOR)[::-1]
        first.append(place - len(taps) + 1)
        mix.append(np.array([[float(tap == k) for k in range(kernel)] for tap in taps]).reshape(len(taps), kernel))
    return Axis(tuple(first), tuple(mix))


def read_reflection(pad: ir.Node) -> tuple[int, ...] | None:
    """Top, left, bottom, right of a Pad that reflects pictures; None for any other."""
    amounts = read_constant(pad.inputs[1])
    axes = pad.inputs[3] if len(pad.inputs) > 3 else None
    if read_attribute(pad, "mode", "constant") != "reflect" or amounts is None or axes is not None or len(amounts) != 8:
        return None
    found = tuple(amounts.tolist())
    return None if any(found[:2] + found[4:6]) else found[2:4] + found[6:]


def _make_upsampling_conv(
    node: ir.Node, source: ir.Value | None, weight: Array, axes: tuple[Axis, Axis], edge: bool = False
) -> UpsamplingConv | None:
    """None when the bias is computed, when a parity sees nothing, or when one would need its input cut."""
    given = node.inputs[2] if len(node.inputs) > 2 else None
    bias = read_constant(given)
    looks = all(axis.taps(parity) and min(axis.pads(parity)) >= 0 for axis in axes for parity in PARITIES)
    if source is None or not looks or (given is not None and bias is None):
        return None
    return UpsamplingConv(node, source, weight, bias, axes, read_attribute(node, "group", 1), edge)
