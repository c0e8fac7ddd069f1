"""How far the pictures of a changed graph are from those of the graph it was made of."""

from __future__ import annotations

from copy import copy
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from ganrt.agreement import compare
from ganrt.flat_parts import measure_flat_parts
from ganrt.spec import Spec

from .calibration import Samples, run_samples

MARGIN = 0.5
"""dB that 8 bits must reach beyond the quality that was asked for, because the result is proven on other images."""
TEXTURE, SHIFT = 0.18, 0.75
"""Limits on flat parts, in levels. They are stricter than those of the proof, because the result is proven on other
images."""


class Measured(NamedTuple):
    """What `Judge.measure` found on the worst sample of each kind."""

    error: float
    """As a fraction of what is allowed: of the mean squared error, of the variance that is added to flat parts, or of
    the square of their shift, whichever is largest. Infinite for a picture that is not finite. Those of several layers
    add up, nearly."""
    psnr: float
    """In dB."""
    texture: float
    """Standard deviation that is added to flat parts, in levels; 0 where there are none."""
    worst: int
    """Number of the sample with the largest error."""

    def describe(self) -> dict[str, object]:
        """Notes for the record of a variant."""
        return {"worst PSNR there": round(self.psnr, 1), "texture on flat parts there": f"{self.texture:.2f} levels"}


class Judge:
    """Compares on samples that are no golden ones.

    Args:
        model: what the others are compared with, where `samples` have no images.
        quality: worst PSNR to reach, in dB.
    """

    def __init__(self, model: ir.Model, spec: Spec, samples: Samples, quality: float) -> None:
        self._given = samples.given
        self._wanted = run_samples(model, self._given) if samples.images is None else samples.images
        self._range = spec.output.range
        self._quality = quality

    def narrow(self, sample: int) -> Judge:
        """A judge of one sample alone."""
        rows, judge = [sample], copy(self)
        judge._given = [{name: np.concatenate([part[name] for part in self._given])[rows] for name in self._given[0]}]
        judge._wanted = self._wanted[rows]
        return judge

    def measure(self, made: ir.Model) -> Measured:
        """Run a graph on the samples."""
        found = run_samples(made, self._given)
        finite = np.isfinite(found).all(axis=(1, 2, 3))
        if not finite.all():
            return Measured(np.inf, -np.inf, np.inf, int(np.argmin(finite)))
        psnr = compare(found, self._wanted, self._range).psnr
        flat = measure_flat_parts(found, self._wanted, self._range)
        errors = np.maximum(10 ** ((self._quality - psnr) / 10), flat.measure_excess(TEXTURE, SHIFT))
        worst = int(np.argmax(errors))
        return Measured(float(errors[worst]), float(psnr.min()), max(0.0, float(flat.texture.max())), worst)


def format_share(error: float) -> str:
    """An error as part of what is allowed, in words."""
    return f"{100 * error:.0f} % of the error allowed" if np.isfinite(error) else "values that are not finite"
