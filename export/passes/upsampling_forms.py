"""Three forms of a convolution with upsampling by 2; which is fastest depends on the backend.

`phases`: four small convolutions whose outputs are interleaved (one for all where the channels are few). `subpixel`:
one convolution that makes the four in its channels, then depth-to-space. `transposed`: one transposed convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from .base import Pass
from .graph import Array, Patch
from .packing import is_narrow
from .upsampling import FACTOR, PARITIES, Axis, UpsamplingConv, find_conv_after_nearest, find_transposed_conv, mix_taps

Form = Callable[[UpsamplingConv], ir.Value]
"""Inserts the nodes of a form before the old node, and returns the upsampled image."""


def write_phases(found: UpsamplingConv) -> ir.Value:
    if is_narrow(len(found.weight)):
        return write_subpixel(found)
    patch, name = Patch(found.node), _weight_name(found)
    bias = () if found.bias is None else (patch.add_constant(found.bias, f"{name}.bias"),)
    parts = []
    for row in PARITIES:
        for column in PARITIES:
            source, pads = _pad_source(patch, found, found.axes[0].pads(row), found.axes[1].pads(column))
            weight = patch.add_constant(found.kernel(row, column), f"{name}.weight{row}{column}")
            parts.append(_add_conv(patch, (source, weight, *bias), found.groups, pads))
    return patch.add_op("DepthToSpace", [patch.add_op("Concat", parts, axis=1)], blocksize=FACTOR, mode="DCR")


def write_subpixel(found: UpsamplingConv) -> ir.Value:
    patch, name = Patch(found.node), _weight_name(found)
    windows = [_make_window(axis) for axis in found.axes]
    out, inner = found.weight.shape[:2]
    kernels = np.zeros((out, FACTOR, FACTOR, inner, *(w.taps for w in windows)), found.weight.dtype)
    for row in PARITIES:
        for column in PARITIES:
            kernel = found.kernel(row, column)
            top, left = windows[0].start[row], windows[1].start[column]
            places = slice(top, top + kernel.shape[2]), slice(left, left + kernel.shape[3])
            kernels[(slice(None), windows[0].slot[row], windows[1].slot[column], slice(None), *places)] = kernel
    source, pads = _pad_source(patch, found, windows[0].pads, windows[1].pads)
    weight = patch.add_constant(kernels.reshape(-1, *kernels.shape[3:]), f"{name}.weight")
    repeated = None if found.bias is None else np.repeat(found.bias, FACTOR * FACTOR)
    bias = () if repeated is None else (patch.add_constant(repeated, f"{name}.bias"),)
    channels = _add_conv(patch, (source, weight, *bias), found.groups, pads)
    made = patch.add_op("DepthToSpace", [channels], blocksize=FACTOR, mode="CRD")
    cut = np.array([k + 2 for k, window in enumerate(windows) if window.cut])
    if not len(cut):
        return made
    bounds = {"first": np.ones_like(cut), "last": -np.ones_like(cut), "axes": cut}
    return patch.add_op("Slice", [made, *(patch.add_constant(b, f"{name}.{what}") for what, b in bounds.items())])


class _Window(NamedTuple):
    """What one convolution for both parities of an axis sees."""

    taps: int
    start: tuple[int, ...]
    """Where the kernel of each parity begins in it."""
    slot: tuple[int, ...]
    """Which of the two interleaved outputs a parity becomes."""
    pads: tuple[int, int]
    cut: bool
    """Whether the first and the last output are dropped."""


def _make_window(axis: Axis) -> _Window:
    """Where the odd outputs see one input further on than the even ones, the odd output of the pixel before is computed
    beside the even one of this pixel: both see the same inputs, no tap is zero, and a row is too many at either end."""
    even, odd = axis.first
    if odd == even + 1 and axis.taps(0) == axis.taps(1):
        return _Window(axis.taps(0), (0, 0), (1, 0), (-even, even + axis.taps(0)), True)
    first, last = min(axis.first), max(axis.pads(parity)[1] for parity in PARITIES)
    return _Window(last - first + 1, (even - first, odd - first), (0, 1), (-first, last), False)


def write_transposed(found: UpsamplingConv) -> ir.Value:
    patch, name = Patch(found.node), _weight_name(found)
    kernels = [_transpose_axis(axis) for axis in found.axes]
    kernel = mix_taps(found.weight, kernels[0].mix, kernels[1].mix)
    turned = kernel.reshape(found.groups, -1, *kernel.shape[1:]).swapaxes(1, 2)
    weight = patch.add_constant(turned.reshape(-1, *turned.shape[2:]), f"{name}.weight")
    bias = () if found.bias is None else (patch.add_constant(found.bias, f"{name}.bias"),)
    source, cuts = found.source, [kernel.cut for kernel in kernels]
    if found.edge:
        rims = [tuple(max(axis.pads(parity)[end] for parity in PARITIES) for end in (0, 1)) for axis in found.axes]
        source = _repeat_border(patch, found, *rims)
        cuts = [(cut[0] + FACTOR * rim[0], cut[1] + FACTOR * rim[1]) for cut, rim in zip(cuts, rims, strict=True)]
    return patch.add_op(
        "ConvTranspose",
        (source, weight, *bias),
        group=found.groups,
        kernel_shape=kernel.shape[2:],
        pads=(cuts[0][0], cuts[1][0], cuts[0][1], cuts[1][1]),
        strides=(FACTOR, FACTOR),
    )


class _TransposedAxis(NamedTuple):
    """An axis as a transposed convolution."""

    mix: Array
    """(taps of the transposed kernel, taps of the kernel)."""
    cut: tuple[int, int]
    """What is cut off the output, its first and its last pixels."""


def _transpose_axis(axis: Axis) -> _TransposedAxis:
    """Tap t adds input i to output 2 i + t - cut, so input i + d gets to output 2 i + a by t = a - 2 d + cut."""
    cut = max(FACTOR * axis.pads(parity)[1] - parity for parity in PARITIES)
    places = [[p - FACTOR * (axis.first[p] + tap) + cut for tap in range(axis.taps(p))] for p in PARITIES]
    size = 1 + max(map(max, places))
    mix = np.zeros((size, axis.mix[0].shape[1]))
    for parity in PARITIES:
        mix[places[parity]] = axis.mix[parity]
    return _TransposedAxis(mix, (cut, size - FACTOR - cut))


def _weight_name(found: UpsamplingConv) -> str:
    """What new weights are called after."""
    weight = found.node.inputs[1]
    return str((weight.name if weight is not None else None) or found.node.name or "upsampling").removesuffix(".weight")


def _pad_source(
    patch: Patch, found: UpsamplingConv, rows: tuple[int, int], columns: tuple[int, int]
) -> tuple[ir.Value, tuple[int, ...]]:
    """The source with its border repeated, if that is how it goes on, and the padding that is left for a convolution:
    top, left, bottom, right."""
    if found.edge:
        return _repeat_border(patch, found, rows, columns), (0, 0, 0, 0)
    return found.source, (rows[0], columns[0], rows[1], columns[1])


def _repeat_border(patch: Patch, found: UpsamplingConv, rows: tuple[int, ...], columns: tuple[int, ...]) -> ir.Value:
    amounts = np.array([0, 0, rows[0], columns[0], 0, 0, rows[1], columns[1]])
    return patch.add_op(
        "Pad", [found.source, patch.add_constant(amounts, f"{_weight_name(found)}.border")], mode="edge"
    )


def _add_conv(patch: Patch, inputs: tuple[ir.Value, ...], groups: int, pads: tuple[int, ...]) -> ir.Value:
    return patch.add_op("Conv", inputs, group=groups, kernel_shape=tuple(inputs[1].shape or ())[2:], pads=pads)


def _make_rewrite(
    form: Form, finders: tuple[Callable[[ir.Node], UpsamplingConv | None], ...]
) -> Callable[[ir.Model], int]:
    def rewrite(model: ir.Model) -> int:
        count = 0
        for node in list(model.graph):
            found = next(filter(None, (find(node) for find in finders)), None)
            if found is not None:
                Patch(node).replace(node.outputs[0], form(found))
                model.graph.remove(node, safe=True)
                count += 1
        return count

    return rewrite


FORMS = {
    "phases": Pass(
        "phases",
        "a convolution behind nearest up-sampling, or a transposed one, becomes four small ones, interleaved",
        _make_rewrite(write_phases, (find_conv_after_nearest, find_transposed_conv)),
    ),
    "subpixel": Pass(
        "subpixel",
        "a convolution behind nearest up-sampling, or a transposed one, becomes one with four times the channels",
        _make_rewrite(write_subpixel, (find_conv_after_nearest, find_transposed_conv)),
    ),
    "transposed": Pass(
        "transposed",
        "a convolution behind nearest up-sampling becomes a transposed one",
        _make_rewrite(write_transposed, (find_conv_after_nearest,)),
    ),
}
"""Name of a form -> the pass that brings a graph into it."""
