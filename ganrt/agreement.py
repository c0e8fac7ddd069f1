"""How far two sets of images are apart, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ganrt.errors import BackendError
from ganrt.images import Floats
from ganrt.spec import Range

THRESHOLDS = {"fp32": 60.0, "bf16": 40.0, "fp16": 40.0, "int8": 30.0}
"""Precision -> the PSNR in dB that the worst sample must reach."""

PSNR_CAP = 200.0
"""PSNR of equal images; also keeps the figure inside JSON."""

_FLAT = 1e-3
"""Standard deviation, as a share of the range, below which an image counts as flat."""
_SATURATED = 0.98
"""Share of values at the very ends of the range above which an image counts as saturated."""
_LIVELY = 0.95
"""Share of values near the ends below which an original counts as not saturated. The gap between the two, and between
the margins, keeps the rounding of a black background from being called a defect."""


@dataclass(frozen=True)
class Agreement:
    """One entry per sample throughout."""

    psnr: NDArray[np.float64]
    """dB on the image's own range, at most PSNR_CAP; -inf for an image that is not finite."""
    max_abs: NDArray[np.float64]
    """Largest absolute difference, in the image's own units."""
    defects: tuple[str, ...]
    """'', or what is wrong with the image by itself: 'not finite', 'flat', 'saturated'."""

    @property
    def worst(self) -> int:
        """Number of the sample with the lowest PSNR."""
        return int(np.argmin(self.psnr))

    def failures(self, threshold: float) -> tuple[str, ...]:
        """Why the images do not agree, one sentence each; empty when they do."""
        reasons = [f"sample {k} is {defect}" for k, defect in enumerate(self.defects) if defect]
        low = int(np.count_nonzero(self.psnr < threshold))
        if low:
            reasons.append(
                f"{low} of {len(self.psnr)} samples are below {threshold:g} dB; the worst is sample {self.worst} "
                f"with {self.psnr[self.worst]:.1f} dB (largest difference {self.max_abs[self.worst]:.3g})"
            )
        return tuple(reasons)


def compare(found: Floats, expected: Floats, value_range: Range) -> Agreement:
    """Compare two float32 NCHW batches, sample by sample, in float64.

    Raises BackendError when their shapes differ or they are empty. An original that is not finite agrees with nothing.
    """
    if found.shape != expected.shape or found.size == 0:
        raise BackendError(f"images of shape {found.shape} cannot be compared with originals of shape {expected.shape}")
    low, high = value_range
    count = len(expected)
    a, b = (x.reshape(count, -1).astype(np.float64) for x in (found, expected))
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(a - b)
        error = np.mean(difference**2, axis=1)
        defects = tuple(_find_defect(x, y, value_range) for x, y in zip(a, b, strict=True))
    finite = np.isfinite(error)
    floor = (high - low) ** 2 * 10 ** (-PSNR_CAP / 10)
    psnr = 10 * np.log10((high - low) ** 2 / np.maximum(np.where(finite, error, 1.0), floor))
    return Agreement(np.where(finite, psnr, -np.inf), np.where(finite, difference.max(axis=1), np.inf), defects)


def _find_defect(found: NDArray[np.float64], expected: NDArray[np.float64], value_range: Range) -> str:
    low, high = value_range
    if not np.isfinite(found).all():
        return "not finite"
    if found.std() < _FLAT * (high - low) and expected.std() >= 2 * _FLAT * (high - low):
        return "flat where the original is not"
    if (
        _share_near_ends(found, value_range, 0.001) > _SATURATED
        and _share_near_ends(expected, value_range, 0.05) < _LIVELY
    ):
        return "saturated where the original is not"
    return ""


def _share_near_ends(values: NDArray[np.float64], value_range: Range, margin: float) -> float:
    """Share of the values within `margin` times the range of an end of it, or beyond."""
    low, high = value_range
    away = margin * (high - low)
    return float(np.mean((values <= low + away) | (values >= high - away)))
