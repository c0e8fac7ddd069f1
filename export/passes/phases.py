"""Three forms in which a graph can compute a convolution that enlarges by 2; which is fastest depends on the backend.

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
from .upsampling import FACTOR, PARITIES, Axis, Enlargement, find_nearest, find_transposed, mixed

Form = Callable[[Enlargement], ir.Value]
"""Puts the nodes of a form before the old one, and returns the enlarged picture."""


def as_phases(found: Enlargement) -> ir.Value:
    if is_narrow(len(found.weight)):
        return as_subpixel(found)
    patch, name = Patch(found.node), _name(found)
    bias = () if found.bias is None else (patch.constant(found.bias, f"{name}.bias"),)
    parts = []
    for row in PARITIES:
        for column in PARITIES:
            source, pads = _surrounded(patch, found, found.axes[0].pads(row), found.axes[1].pads(column))
            weight = patch.constant(found.kernel(row, column), f"{name}.weight{row}{column}")
            parts.append(_convolution(patch, (source, weight, *bias), found.groups, pads))
    return patch.op("DepthToSpace", [patch.op("Concat", parts, axis=1)], blocksize=FACTOR, mode="DCR")


def as_subpixel(found: Enlargement) -> ir.Value:
    patch, name = Patch(found.node), _name(found)
    windows = [_window(axis) for axis in found.axes]
    out, inner = found.weight.shape[:2]
    kernels = np.zeros((out, FACTOR, FACTOR, inner, *(w.taps for w in windows)), found.weight.dtype)
    for row in PARITIES:
        for column in PARITIES:
            kernel = found.kernel(row, column)
            top, left = windows[0].start[row], windows[1].start[column]
            places = slice(top, top + kernel.shape[2]), slice(left, left + kernel.shape[3])
            kernels[(slice(None), windows[0].slot[row], windows[1].slot[column], slice(None), *places)] = kernel
    source, pads = _surrounded(patch, found, windows[0].pads, windows[1].pads)
    weight = patch.constant(kernels.reshape(-1, *kernels.shape[3:]), f"{name}.weight")
    repeated = None if found.bias is None else np.repeat(found.bias, FACTOR * FACTOR)
    bias = () if repeated is None else (patch.constant(repeated, f"{name}.bias"),)
    channels = _convolution(patch, (source, weight, *bias), found.groups, pads)
    made = patch.op("DepthToSpace", [channels], blocksize=FACTOR, mode="CRD")
    cut = np.array([k + 2 for k, window in enumerate(windows) if window.cut])
    if not len(cut):
        return made
    bounds = {"first": np.ones_like(cut), "last": -np.ones_like(cut), "axes": cut}
    return patch.op("Slice", [made, *(patch.constant(b, f"{name}.{what}") for what, b in bounds.items())])


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


def _window(axis: Axis) -> _Window:
    """Where the odd outputs see one input further on than the even ones, the odd output of the pixel before is computed
    beside the even one of this pixel: both see the same inputs, no tap is zero, and a row is too many at either end."""
    even, odd = axis.first
    if odd == even + 1 and axis.taps(0) == axis.taps(1):
        return _Window(axis.taps(0), (0, 0), (1, 0), (-even, even + axis.taps(0)), True)
    first, last = min(axis.first), max(axis.pads(parity)[1] for parity in PARITIES)
    return _Window(last - first + 1, (even - first, odd - first), (0, 1), (-first, last), False)


def as_transposed(found: Enlargement) -> ir.Value:
    patch, name = Patch(found.node), _name(found)
    kernels = [_spread(axis) for axis in found.axes]
    kernel = mixed(found.weight, kernels[0].mix, kernels[1].mix)
    turned = kernel.reshape(found.groups, -1, *kernel.shape[1:]).swapaxes(1, 2)
    weight = patch.constant(turned.reshape(-1, *turned.shape[2:]), f"{name}.weight")
    bias = () if found.bias is None else (patch.constant(found.bias, f"{name}.bias"),)
    source, cuts = found.source, [kernel.cut for kernel in kernels]
    if found.edge:
        rims = [tuple(max(axis.pads(parity)[end] for parity in PARITIES) for end in (0, 1)) for axis in found.axes]
        source = _repeated(patch, found, *rims)
        cuts = [(cut[0] + FACTOR * rim[0], cut[1] + FACTOR * rim[1]) for cut, rim in zip(cuts, rims, strict=True)]
    return patch.op(
        "ConvTranspose",
        (source, weight, *bias),
        group=found.groups,
        kernel_shape=kernel.shape[2:],
        pads=(cuts[0][0], cuts[1][0], cuts[0][1], cuts[1][1]),
        strides=(FACTOR, FACTOR),
    )


class _Spread(NamedTuple):
    """An axis as a transposed convolution."""

    mix: Array
    """(taps of the transposed kernel, taps of the kernel)."""
    cut: tuple[int, int]
    """What is cut off the output, its first and its last pixels."""


def _spread(axis: Axis) -> _Spread:
    """Tap t adds input i to output 2 i + t - cut, so input i + d gets to output 2 i + a by t = a - 2 d + cut."""
    cut = max(FACTOR * axis.pads(parity)[1] - parity for parity in PARITIES)
    places = [[p - FACTOR * (axis.first[p] + tap) + cut for tap in range(axis.taps(p))] for p in PARITIES]
    size = 1 + max(map(max, places))
    mix = np.zeros((size, axis.mix[0].shape[1]))
    for parity in PARITIES:
        mix[places[parity]] = axis.mix[parity]
    return _Spread(mix, (cut, size - FACTOR - cut))


def _name(found: Enlargement) -> str:
    """What new weights are called after."""
    weight = found.node.inputs[1]
    return str((weight.name if weight is not None else None) or found.node.name or "enlargement").removesuffix(
        ".weight"
    )


def _surrounded(
    patch: Patch, found: Enlargement, rows: tuple[int, int], columns: tuple[int, int]
) -> tuple[ir.Value, tuple[int, ...]]:
    """The source with its border repeated, if that is how it goes on, and the padding that is left for a convolution:
    top, left, bottom, right."""
    if found.edge:
        return _repeated(patch, found, rows, columns), (0, 0, 0, 0)
    return found.source, (rows[0], columns[0], rows[1], columns[1])


def _repeated(patch: Patch, found: Enlargement, rows: tuple[int, ...], columns: tuple[int, ...]) -> ir.Value:
    amounts = np.array([0, 0, rows[0], columns[0], 0, 0, rows[1], columns[1]])
    return patch.op("Pad", [found.source, patch.constant(amounts, f"{_name(found)}.border")], mode="edge")


def _convolution(patch: Patch, inputs: tuple[ir.Value, ...], groups: int, pads: tuple[int, ...]) -> ir.Value:
    return patch.op("Conv", inputs, group=groups, kernel_shape=tuple(inputs[1].shape or ())[2:], pads=pads)


def _rewritten(form: Form, finders: tuple[Callable[[ir.Node], Enlargement | None], ...]) -> Callable[[ir.Model], int]:
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
        _rewritten(as_phases, (find_nearest, find_transposed)),
    ),
    "subpixel": Pass(
        "subpixel",
        "a convolution behind nearest up-sampling, or a transposed one, becomes one with four times the channels",
        _rewritten(as_subpixel, (find_nearest, find_transposed)),
    ),
    "transposed": Pass(
        "transposed",
        "a convolution behind nearest up-sampling becomes a transposed one",
        _rewritten(as_transposed, (find_nearest,)),
    ),
}
"""Name of a form -> the pass that brings a graph into it."""
