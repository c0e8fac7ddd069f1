"""The range of the output: what the Spec declares beside the values that the network makes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from ganrt import feeds
from ganrt.feeds import Array
from ganrt.golden import proof_picture_size
from ganrt.levels import find_levels, undo_normalization
from ganrt.spec import Range, Spec

from .findings import Finding, Severity, join_paths
from .graph import describe_node
from .intervals import Interval, Reach, find_output_interval

_SAMPLES, _PICTURES = 4, 2
"""How many images are measured: of models without image inputs, and of those with."""
_USUAL: tuple[Range, ...] = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
_HALF = 0.51
"""Share of the range, and a little more, for bounds that are not exact."""
_ALIKE, _SIMILAR = 0.8, 0.6
"""Overlap of a usual range with bounds, or with the ends of values, that are taken for it."""
_CLIPPED = 0.2
"""Share of clipped values from which they are no overshoot; networks without a final activation have a few percent."""
_ALL_CLIPPED = 0.95
_MARGIN = 0.01
"""Of the declared range: values that far outside are rounding."""


def check_output_range(model: ir.Model, module: nn.Module, spec: Spec) -> Iterator[Finding]:
    """Compare the declared range with the bounds that the graph gives the image, and with images of a few samples.

    Args:
        model: the traced graph of `module`.
    """
    bounds, declared = _find_plain_bounds(model, spec), spec.output.range
    if bounds.reach is Reach.SATURATING and _compute_overlap(bounds[:2], declared) >= _ALIKE:
        return
    values = _measure_values(module, spec)
    where = join_paths([describe_node(bounds.node)]) if bounds.node else "forward"
    finding = _compare_bounds(bounds, declared, values, where)
    yield from [finding] if finding else _compare_values(values, declared)


def _find_plain_bounds(model: ir.Model, spec: Spec) -> Interval:
    """The bounds that the graph gives the image, after its normalization was undone."""
    found = find_output_interval(model, spec)
    ends = np.repeat(np.array([found.low, found.high]), spec.output.channels).reshape(2, -1, 1, 1)
    low, high = undo_normalization(ends, find_levels(spec.output))
    return found._replace(low=float(low.min()), high=float(high.max()))


def _measure_values(module: nn.Module, spec: Spec) -> Array:
    """Values of some images, their normalization undone, flat."""
    count = _PICTURES if spec.images else _SAMPLES
    drawn = feeds.draw_feeds(spec, 0, 0, count, size=proof_picture_size(spec))
    with torch.inference_mode():
        images = module(*(torch.from_numpy(array) for array in drawn.values()))
    return undo_normalization(images.double().numpy(), find_levels(spec.output)).ravel()


def _compare_bounds(bounds: Interval, declared: Range, values: Array, where: str) -> Finding | None:
    """A finding where the bounds contradict the declared range, whatever the weights are."""
    (low, high), (from_, to) = declared, bounds[:2]
    overlap = max(0.0, min(high, to) - max(low, from_))
    clipped = _share_outside(values, declared)
    first, last = _find_ends(values)
    ends = (from_, to) if np.isfinite([from_, to]).all() else (first, last)
    likely = _describe(_find_usual(ends, _ALIKE) or ends)
    between = f"its values are {_describe_ends(from_, to)} whatever goes in, and the Spec declares {low:g} to {high:g}"
    limited = bounds.reach is Reach.LIMITED and last - first >= _HALF * (to - from_)
    attained = limited or bounds.reach is Reach.SATURATING
    if attained and np.isfinite(to - from_) and overlap <= _HALF * (max(high, to) - min(low, from_)):
        if clipped >= _MARGIN:
            text = f"{between}; {100 * clipped:.0f} % of the values of samples would be clipped: {likely}"
            return Finding("output range", where, text, "rejected")
        if overlap > _HALF * (high - low):
            return Finding("output range", where, f"{between}; is it {likely}?", "warning")
    if overlap <= _HALF * (high - low):
        unused = 100 * (1 - overlap / (high - low))
        text = f"{between}, {unused:.3g} % of which is never used: {likely}"
        return Finding("output range", where, text, "rejected")
    return None


def _compare_values(values: Array, declared: Range) -> Iterator[Finding]:
    """What images of samples say where the graph has no bounds."""
    low, high = declared
    first, last = ends = _find_ends(values)
    if _compute_overlap(ends, declared) >= _ALIKE:
        return
    clipped, usual = _share_outside(values, declared), _find_usual(ends, _SIMILAR)
    likely = None if usual == declared else usual
    between = f"the values of samples are {first:.3g} to {last:.3g}, and the Spec declares {low:g} to {high:g}"
    advice = f"Is it {_describe(likely)}?" if likely else "Declare the range that the network was trained on"
    middle, margin, far = (low + high) / 2, 0.05 * (high - low), 0.3 * (high - low)
    if usual is None and last - first < (high - low) / 2:
        return  # too little contrast for a trained network
    if clipped >= _CLIPPED:
        severity: Severity = "rejected" if clipped >= _ALL_CLIPPED else "warning"
        text = f"{between}; {100 * clipped:.0f} % of them are clipped. {advice}"
        yield Finding("output range", "forward", text, severity)
    elif (first > middle - margin and last > middle + far) or (last < middle + margin and first < middle - far):
        yield Finding("output range", "forward", f"{between}, half of which is not used. {advice}", "warning")


def _share_outside(values: Array, declared: Range) -> float:
    """Share of the values that are clipped when an image becomes a picture."""
    margin = _MARGIN * (declared[1] - declared[0])
    return float(np.mean((values < declared[0] - margin) | (values > declared[1] + margin)))


def _find_ends(values: Array) -> Range:
    """Smallest and largest value, without the outermost thousandth."""
    first, last = np.quantile(values, [0.001, 0.999])
    return float(first), float(last)


def _describe_ends(low: float, high: float) -> str:
    if np.isinf(high):
        return f"{low:.3g} and more"
    return f"{high:.3g} and less" if np.isinf(low) else f"{low:.3g} to {high:.3g}"


def _find_usual(ends: Range, overlap: float) -> Range | None:
    """The usual range that these ends are closest to, with this overlap at least."""
    usual = max(_USUAL, key=lambda other: _compute_overlap(ends, other))
    return usual if _compute_overlap(ends, usual) >= overlap else None


def _compute_overlap(first: Range, second: Range) -> float:
    """Length of the intersection over that of the union."""
    common = min(first[1], second[1]) - max(first[0], second[0])
    return max(0.0, common) / (max(first[1], second[1]) - min(first[0], second[0]))


def _describe(ends: Range) -> str:
    """A range as an argument of the Spec."""
    low, high = (float(f"{end:.3g}") for end in ends)
    return f"Output(range=({low}, {high}))"
