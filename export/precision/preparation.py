"""What is done to a graph before its layers are quantized, each step only where it makes the worst picture better:
channels are equalized, and weights are rounded with feedback."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import onnx_ir as ir

from ..passes import Array
from .calibration import QuantizationRange, Samples, measure_ranges
from .equalization import equalize_channels
from .int8 import quantize
from .judge import Judge, Measured
from .rounding import round_weights


class Prepared(NamedTuple):
    """A graph whose layers can be quantized."""

    model: ir.Model
    """In float32."""
    ranges: Mapping[str, QuantizationRange]
    """Name of a layer -> quantization range of its input tensor."""
    steps: Mapping[str, Array]
    """Name of the output of a convolution -> its weight in int8; others are rounded to the nearest."""
    done: tuple[str, ...]
    """What was done, in words."""
    measured: Measured | None = None
    """What the judge found with all layers in int8; None if that is not known."""

    def quantize(self, lowered: Collection[str]) -> ir.Model:
        """Return a copy of the graph with these layers in int8."""
        return quantize(self.model, self.ranges, lowered, self.steps)


def prepare_graph(model: ir.Model, names: Sequence[str], samples: Samples, judge: Judge) -> Prepared:
    """Try each step with all layers in int8, on top of those that helped.

    Args:
        names: of the layers.
        samples: to calibrate on.
        judge: of other samples.
    """
    best = Prepared(model, measure_ranges(model, names, samples), {}, ())
    least = judge.measure(best.quantize(names))
    equalized = equalize_channels(model, best.ranges)
    if equalized is not model:
        tried = Prepared(equalized, measure_ranges(equalized, names, samples), {}, ("channels equalized",))
        found = judge.measure(tried.quantize(names))
        if found.error < least.error:
            best, least = tried, found
    steps = round_weights(best.model, best.ranges, samples)
    if steps:
        tried = best._replace(steps=steps, done=(*best.done, "weights rounded with feedback"))
        found = judge.measure(tried.quantize(names))
        if found.error < least.error:
            best, least = tried, found
    return best._replace(measured=least)
