"""How far the pictures of a changed graph are from those of the graph it was made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from ganrt.agreement import Agreement, compare
from ganrt.feeds import Array
from ganrt.flat_parts import FlatParts, measure_flat_parts
from ganrt.spec import Spec

from .calibration import Samples
from .runners import EVALUATOR, REFUSALS, find_runners, run_images

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
    backends: Mapping[str, float]
    """Backend that was measured -> its PSNR, in dB."""

    def describe(self) -> dict[str, object]:
        """Notes for the record of a variant."""
        return {
            "judged on": {name: f"{psnr:.1f} dB" for name, psnr in self.backends.items()},
            "worst PSNR there": round(self.psnr, 1),
            "texture on flat parts there": f"{self.texture:.2f} levels",
        }


class Judge:
    """Compares on samples that are no golden ones, on one backend or several; the worst of them counts.

    Args:
        model: what the others are compared with.
        quality: worst PSNR to reach, in dB.
        backends: names of those that will run the result; default: ONNX Runtime.
    """

    def __init__(
        self, model: ir.Model, spec: Spec, samples: Samples, quality: float, backends: Sequence[str] = (EVALUATOR,)
    ) -> None:
        self._given = samples.given
        self._wanted = run_images(model, self._given)
        self._range = spec.output.range
        self._quality = quality
        self._runners = find_runners(backends, spec, model, self._given, self._wanted)

    def narrow(self, made: ir.Model) -> Judge:
        """A judge of the sample alone on which this graph does worst on ONNX Runtime, and on that backend alone."""
        psnr, flat = self._compare(run_images(made, self._given))
        share = 10 ** ((self._quality - psnr) / 10)
        row = int(np.argmax(np.maximum(share, flat.measure_excess(TEXTURE, SHIFT))))
        part = 0
        while row >= len(self._wanted[part]):
            row -= len(self._wanted[part])
            part += 1
        judge = copy(self)
        judge._given = [{name: array[row : row + 1] for name, array in self._given[part].items()}]
        judge._wanted = [self._wanted[part][row : row + 1]]
        judge._runners = {EVALUATOR: run_images}
        return judge

    def measure(self, made: ir.Model) -> Measured:
        """Run a graph on the samples, on one backend after another until it exceeds what is allowed. A backend that
        refuses this graph is passed over: its proof reports that. The error is infinite where all do."""
        worst, backends = Measured(0.0, np.inf, 0.0, {}), {}
        for name, run in self._runners.items():
            try:
                found = run(made, self._given)
            except REFUSALS:
                continue
            measured = self._measure_images(found)
            backends[name] = measured.psnr
            worst = Measured(
                max(worst.error, measured.error),
                min(worst.psnr, measured.psnr),
                max(worst.texture, measured.texture),
                backends,
            )
            if worst.error > 1.0:
                break
        return worst if backends else Measured(np.inf, -np.inf, np.inf, {})

    def _measure_images(self, found: Sequence[Array]) -> Measured:
        if not all(np.isfinite(images).all() for images in found):
            return Measured(np.inf, -np.inf, np.inf, {})
        every, flat = self._compare(found)
        psnr = float(every.min())
        error = max(10 ** ((self._quality - psnr) / 10), float(flat.measure_excess(TEXTURE, SHIFT).max()))
        return Measured(error, psnr, max(0.0, float(flat.texture.max())), {})

    def _compare(self, found: Sequence[Array]) -> tuple[Array, FlatParts]:
        """PSNR and flat parts of every sample."""
        pairs = list(zip(found, self._wanted, strict=True))
        agreement = Agreement.join([compare(*pair, self._range) for pair in pairs])
        return agreement.psnr, FlatParts.join([measure_flat_parts(*pair, self._range) for pair in pairs])


def format_share(error: float) -> str:
    """An error as part of what is allowed, in words."""
    return f"{100 * error:.0f} % of the error allowed" if np.isfinite(error) else "values that are not finite"
