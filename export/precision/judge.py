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
from ganrt.levels import find_levels
from ganrt.spec import Spec

from .calibration import Samples, run_samples
from .runners import EVALUATOR, REFUSALS, find_runners

MARGIN = 0.5
"""dB that 8 bits must reach beyond the quality that was asked for, because the result is proven on other images."""
TEXTURE, SHIFT = 0.18, 0.75
"""Limits on flat parts, in levels. They are stricter than those of the proof, because the result is proven on other
images, and run on other hardware than it is judged on."""
TEXTURE_IN_PLACE = 0.5
"""The limit where the backends that run the result are those that judge. On photographs that no one had seen, 1.4 times
the texture of the samples was measured, which the proof still allows. A texture below half a level mostly vanishes when
the image is rounded."""


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
        model: what the others are compared with, where `samples` have no images.
        quality: worst PSNR to reach, in dB.
        backends: names of those that will run the result; default: ONNX Runtime.
        texture: limit on the texture of flat parts, in levels.
    """

    def __init__(
        self,
        model: ir.Model,
        spec: Spec,
        samples: Samples,
        quality: float,
        backends: Sequence[str] = (EVALUATOR,),
        texture: float = TEXTURE,
    ) -> None:
        self._given = samples.given
        self._wanted = run_samples(model, self._given) if samples.images is None else samples.images
        self._range = find_levels(spec.output)
        self._quality, self._texture = quality, texture
        self._runners = find_runners(backends, spec, model, self._given, self._wanted)

    def narrow(self, sample: int) -> Judge:
        """A judge of one sample alone, on ONNX Runtime, which loads a graph in the shortest time."""
        places = [(part, row) for part, images in enumerate(self._wanted) for row in range(len(images))]
        part, row = places[sample]
        judge = copy(self)
        judge._given = [{name: array[row : row + 1] for name, array in self._given[part].items()}]
        judge._wanted = [self._wanted[part][row : row + 1]]
        judge._runners = {EVALUATOR: run_samples}
        return judge

    def measure(self, made: ir.Model) -> Measured:
        """Run a graph on the samples, on one backend after another until it exceeds what is allowed. A backend that
        refuses this graph is passed over: its proof reports that. The error is infinite where all do."""
        found: dict[str, Measured] = {}
        for name, run in self._runners.items():
            try:
                images = run(made, self._given)
            except REFUSALS:
                continue
            found[name] = self._measure_images(images)
            if found[name].error > 1.0:
                break
        if not found:
            return Measured(np.inf, -np.inf, np.inf, 0, {})
        worst = max(found.values(), key=lambda measured: measured.error)
        return worst._replace(
            psnr=min(measured.psnr for measured in found.values()),
            texture=max(measured.texture for measured in found.values()),
            backends={name: measured.psnr for name, measured in found.items()},
        )

    def _measure_images(self, found: Sequence[Array]) -> Measured:
        finite = np.concatenate([np.isfinite(images).all(axis=(1, 2, 3)) for images in found])
        if not finite.all():
            return Measured(np.inf, -np.inf, np.inf, int(np.argmin(finite)), {})
        pairs = list(zip(found, self._wanted, strict=True))
        psnr = Agreement.join([compare(*pair, self._range) for pair in pairs]).psnr
        flat = FlatParts.join([measure_flat_parts(*pair, self._range) for pair in pairs])
        errors = np.maximum(10 ** ((self._quality - psnr) / 10), flat.measure_excess(self._texture, SHIFT))
        worst = int(np.argmax(errors))
        return Measured(float(errors[worst]), float(psnr.min()), max(0.0, float(flat.texture.max())), worst, {})


def format_share(error: float) -> str:
    """An error as part of what is allowed, in words."""
    return f"{100 * error:.0f} % of the error allowed" if np.isfinite(error) else "values that are not finite"
