"""Medians, tails and ratios with distribution-free confidence intervals, and warnings about unreliable figures.

Consecutive calls are correlated, so an interval over single calls would be too narrow. The median is therefore taken
over rounds: the value is the median of the rounds' medians, and its interval comes from their order statistics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Rounds: TypeAlias = Sequence[Sequence[int]]
"""Nanoseconds of each call, round by round."""

CONFIDENCE = 0.95
"""Coverage of every interval."""
MIN_ROUNDS = 6
"""The smallest and the largest of n values enclose the median with probability 1 - 2^(1 - n): above 95 % from n = 6."""

_WIDE = 0.05
"""Half width of the median's interval, as a share of the median, above which it is uncertain."""
_SPREAD = 0.25
"""Interquartile range of the calls, as a share of the median, above which they spread widely."""
_DRIFT = 0.05
"""Change of the median between the two halves of the rounds above which the machine drifted."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % confidence interval."""

    value: float
    """The estimate itself."""
    low: float | None
    """Lower bound; None when there are too few values for an interval."""
    high: float | None
    """Upper bound; None when there are too few values for an interval."""

    def scale(self, factor: float) -> Estimate:
        """Multiply the value and its bounds by a positive number."""
        return Estimate(self.value * factor, *(None if x is None else x * factor for x in (self.low, self.high)))

    def invert(self, numerator: float = 1.0) -> Estimate:
        """Divide `numerator` by the value and its bounds, so that a time becomes a rate."""
        return Estimate(numerator / self.value, *(None if x is None else numerator / x for x in (self.high, self.low)))

    @property
    def half_width(self) -> float:
        """Half the width of the interval, as a share of the value; infinite when there is no interval."""
        if self.low is None or self.high is None:
            return math.inf
        return (self.high - self.low) / (2 * self.value)


def quantile(values: ArrayLike, q: float) -> Estimate:
    """Return the q-quantile with its order-statistic interval (David and Nagaraja, "Order Statistics", 3rd ed., section
    7.1).

    The number of values below the true quantile is binomial(n, q), so x_(l) and x_(u) enclose it with probability
    P(l <= B < u). Each tail gets at most half of 1 - CONFIDENCE.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    below = np.cumsum(_binomial_pmf(len(ordered), q))
    tail = (1 - CONFIDENCE) / 2
    low = int(np.searchsorted(below, tail, side="right"))  # the largest l with P(B < l) <= tail
    high = int(np.searchsorted(below, 1 - tail)) + 1  # the smallest u with P(B >= u) <= tail
    value = float(np.quantile(ordered, q))
    if low < 1 or high > len(ordered):
        return Estimate(value, None, None)
    return Estimate(value, float(ordered[low - 1]), float(ordered[high - 1]))


def median(rounds: Rounds) -> Estimate:
    """Return the median of the rounds' medians, in the unit of the calls."""
    return quantile([np.median(calls) for calls in rounds], 0.5)


def tail(rounds: Rounds, q: float) -> Estimate | None:
    """Return a high quantile over all calls, or None when there are fewer than `calls_needed(q)`."""
    calls = pool_calls(rounds)
    return quantile(calls, q) if len(calls) >= calls_needed(q) else None


def calls_needed(q: float) -> int:
    """Return how many calls a high quantile needs: ten must lie beyond it."""
    return round(10 / (1 - q))


def paired_ratio(top: Rounds, bottom: Rounds) -> Estimate:
    """Return how many times as long `top` takes as `bottom`. Their calls were made in pairs: call k of round r of one
    belongs to call k of round r of the other."""
    return median([np.divide(a, b).tolist() for a, b in zip(top, bottom, strict=True)])


def find_warnings(rounds: Rounds) -> dict[str, str]:
    """Return the reasons why the figures may be unreliable: warning -> how much, as text."""
    found = {}
    middle, calls = median(rounds), pool_calls(rounds)
    if middle.low is None:
        found[f"too few rounds for an interval ({MIN_ROUNDS} are needed); give it more time"] = str(len(rounds))
    elif middle.half_width > _WIDE:
        found["the median is uncertain; give it more time, or stop other programs"] = f"±{middle.half_width:.0%}"
    drift = _measure_drift(rounds)
    if abs(drift) > _DRIFT:
        found["the second half differs from the first: the machine drifted"] = f"{drift:+.0%}"
    quarters = np.quantile(calls, (0.25, 0.75))
    spread = float(quarters[1] - quarters[0]) / middle.value
    if len(calls) >= MIN_ROUNDS and spread > _SPREAD:
        found["the middle half of the calls spreads widely around the median"] = f"{spread:.0%}"
    return found


def pool_calls(rounds: Rounds) -> NDArray[np.int64]:
    """Return all calls of all rounds in one array."""
    return np.concatenate([np.asarray(calls, np.int64) for calls in rounds])


def _measure_drift(rounds: Rounds) -> float:
    """Relative change of the median from the first half of the rounds to the second; 0 when their intervals overlap."""
    half = len(rounds) // 2
    if half < MIN_ROUNDS:
        return 0.0
    before, after = median(rounds[:half]), median(rounds[half:])
    if before.low <= after.high and after.low <= before.high:  # type: ignore[operator]  # MIN_ROUNDS have an interval
        return 0.0
    return after.value / before.value - 1


def _binomial_pmf(n: int, p: float) -> NDArray[Any]:
    """P(B = 0), ..., P(B = n) for B ~ binomial(n, p)."""
    k = np.arange(1, n + 1)
    steps = np.log((n - k + 1) / k) + math.log(p) - math.log1p(-p)
    return np.exp(n * math.log1p(-p) + np.concatenate([[0.0], np.cumsum(steps)]))
