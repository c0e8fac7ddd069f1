"""How far the pictures of a changed graph are from those of the graph it was made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ganrt.agreement import PSNR_CAP
from ganrt.feeds import Array, Feeds
from ganrt.spec import Spec

from .calibration import Evaluator, Samples


class Judge:
    """Compares on samples that are no golden ones.

    Args:
        model: what the others are compared with.
    """

    def __init__(self, model: ir.Model, spec: Spec, samples: Samples) -> None:
        self._given = samples.given
        self._wanted = _run_images(model, self._given)
        self._range = spec.output.range[1] - spec.output.range[0]

    def measure_error(self, made: ir.Model) -> float:
        """Mean squared error of the worst picture; infinite when one is not finite."""
        apart = _run_images(made, self._given) - self._wanted
        worst = np.square(apart).reshape(len(apart), -1).mean(axis=1).max()
        return float(worst) if np.isfinite(worst) else np.inf

    def allowed_error(self, decibels: float) -> float:
        """The mean squared error at a PSNR."""
        return float(self._range**2 * 10 ** (-decibels / 10))

    def to_decibels(self, error: float) -> float:
        """The PSNR of a mean squared error; that of equal pictures is PSNR_CAP, that of infinite ones -inf."""
        least = self.allowed_error(PSNR_CAP)
        return -np.inf if np.isinf(error) else float(10 * np.log10(self._range**2 / max(error, least)))


def _run_images(model: ir.Model, given: Sequence[Feeds]) -> Array:
    run = Evaluator(model)
    return np.concatenate([run(rows)[0] for rows in given]).astype(np.float64)
