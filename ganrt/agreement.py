"""Compare two batches of images: PSNR, largest difference, defects, and pass or fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ganrt.errors import BackendError
from ganrt.images import Floats
from ganrt.levels import Levels, find_plain_range, undo_normalization
from ganrt.spec import Range

THRESHOLDS = {"fp32": 60.0, "bf16": 40.0, "fp16": 40.0, "int8": 30.0, "fp8": 30.0}
"""Precision -> lowest PSNR allowed, in dB, for the worst sample."""

PSNR_CAP = 200.0
"""Upper limit of a PSNR, in dB: equal images get this instead of infinity, which JSON cannot hold."""

_FLAT = 1e-3
"""An image is flat when its standard deviation is below this fraction of the range."""
_SATURATED = 0.98
"""An image is saturated when more than this fraction of its values lies at the ends of the range."""
_LIVELY = 0.95
"""An original is not saturated when less than this fraction of its values lies near the ends of the range. Both the
fraction and the margin are looser than for the image, so that rounding of a black background is not a defect."""


@dataclass(frozen=True)
class Agreement:
    """Result of `compare`. Every field has one entry per sample."""

    psnr: NDArray[np.float64]
    """In dB, relative to the output range; at most PSNR_CAP, -inf if either image is not finite."""
    max_abs: NDArray[np.float64]
    """Largest absolute difference, in the units of the output range; inf if either image is not finite."""
    defects: tuple[str, ...]
    """Empty, or what is wrong with the image: `not finite`, `flat where the original is not`, `saturated where the
    original is not`."""

    @classmethod
    def join(cls, parts: Sequence[Agreement]) -> Agreement:
        """Return the results of several batches as those of one."""
        psnr, max_abs = (np.concatenate([getattr(part, name) for part in parts]) for name in ("psnr", "max_abs"))
        return cls(psnr, max_abs, tuple(defect for part in parts for defect in part.defects))

    @property
    def worst(self) -> int:
        """Index of the sample with the lowest PSNR."""
        return int(np.argmin(self.psnr))

    def failures(self, threshold: float) -> tuple[str, ...]:
        """Return the reasons why the images do not agree, one sentence each; empty if they agree.

        Args:
            threshold: lowest PSNR allowed, in dB.
        """
        reasons = [f"sample {k} is {defect}" for k, defect in enumerate(self.defects) if defect]
        low = int(np.count_nonzero(self.psnr < threshold))
        if low:
            reasons.append(
                f"{low} of {len(self.psnr)} samples are below {threshold:g} dB; the worst is sample {self.worst} "
                f"with {self.psnr[self.worst]:.1f} dB (largest difference {self.max_abs[self.worst]:.3g})"
            )
        return tuple(reasons)


def compare(found: Floats, expected: Floats, levels: Levels) -> Agreement:
    """Compare two float32 NCHW batches sample by sample, in float64. A sample with NaN or infinity on either side
    fails.

    Args:
        found: the images under test.
        expected: the images of the original, of the same shape.
        levels: output range of the model, or `find_levels` of its output: images are then compared after their
            normalization was undone. PSNR is 10 log10((high - low)^2 / MSE).

    Raises BackendError if the shapes differ or the batches are empty.
    """
    if found.shape != expected.shape or found.size == 0:
        raise BackendError(f"images of shape {found.shape} cannot be compared with originals of shape {expected.shape}")
    low, high = value_range = find_plain_range(levels)
    count = len(expected)
    with np.errstate(invalid="ignore", over="ignore"):
        plain = (undo_normalization(images, levels) for images in (found, expected))
        a, b = (images.reshape(count, -1).astype(np.float64) for images in plain)
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
    """Fraction of the values beyond the range, or within `margin * (high - low)` of one of its ends."""
    low, high = value_range
    away = margin * (high - low)
    return float(np.mean((values <= low + away) | (values >= high - away)))
