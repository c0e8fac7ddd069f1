"""Medians, tails and ratios with intervals that assume nothing about the distribution; and when to doubt them.

Calls that follow each other resemble each other, so an interval over single calls would be too narrow. The unit of the
median is therefore the round: the value is the median of the rounds' medians, its interval comes from their order.
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

LEVEL = 0.95
MIN_ROUNDS = 6
"""The smallest and the largest of n values enclose the median with probability 1 - 2^(1 - n): above 95 % from n = 6."""

_WIDE = 0.05
_SPREAD = 0.25
_DRIFT = 0.05


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; the bounds are None when there is too little to tell."""

    value: float
    low: float | None
    high: float | None

    def map(self, scale: float) -> Estimate:
        """All three times a positive number."""
        return Estimate(self.value * scale, *(None if x is None else x * scale for x in (self.low, self.high)))

    def inverse(self, scale: float = 1.0) -> Estimate:
        """`scale` divided by it: a time becomes a rate."""
        return Estimate(scale / self.value, *(None if x is None else scale / x for x in (self.high, self.low)))

    @property
    def half_width(self) -> float:
        """Half the interval as a share of the value; infinite when there is no interval."""
        if self.low is None or self.high is None:
            return math.inf
        return (self.high - self.low) / (2 * self.value)


def quantile(values: ArrayLike, q: float) -> Estimate:
    """The q-quantile with its order-statistic interval (David, Nagaraja, "Order Statistics", 3rd ed., section 7.1).

    The number of values below the true quantile is binomial(n, q), so x_(l) and x_(u) enclose it with probability
    P(l <= B < u); each tail gets at most half of 1 - LEVEL.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    below = np.cumsum(_binomial(len(ordered), q))
    tail = (1 - LEVEL) / 2
    low = int(np.searchsorted(below, tail, side="right"))  # the largest l with P(B < l) <= tail
    high = int(np.searchsorted(below, 1 - tail)) + 1  # the smallest u with P(B >= u) <= tail
    value = float(np.quantile(ordered, q))
    if low < 1 or high > len(ordered):
        return Estimate(value, None, None)
    return Estimate(value, float(ordered[low - 1]), float(ordered[high - 1]))


def median(rounds: Rounds) -> Estimate:
    """The median of the rounds' medians, in the unit of the calls."""
    return quantile([np.median(calls) for calls in rounds], 0.5)


def tail(rounds: Rounds, q: float) -> Estimate | None:
    """A high quantile over all calls, or None when there are fewer than `calls_needed`."""
    calls = pooled(rounds)
    return quantile(calls, q) if len(calls) >= calls_needed(q) else None


def calls_needed(q: float) -> int:
    """Ten calls must lie beyond a quantile before it is stated."""
    return round(10 / (1 - q))


def paired_ratio(top: Rounds, bottom: Rounds) -> Estimate:
    """How many times as long `top` takes as `bottom`, whose calls were made in turn with it: call k of round r of one
    belongs to call k of round r of the other."""
    return median([np.divide(a, b).tolist() for a, b in zip(top, bottom, strict=True)])


def doubts(rounds: Rounds) -> dict[str, str]:
    """What speaks against taking the numbers at their face value: kind of doubt -> how much of it there is."""
    found = {}
    middle, calls = median(rounds), pooled(rounds)
    if middle.low is None:
        found[f"too few rounds for an interval ({MIN_ROUNDS} needed); give it more time"] = str(len(rounds))
    elif middle.half_width > _WIDE:
        found["the median is uncertain; give it more time, or quiet the machine"] = f"±{middle.half_width:.0%}"
    drift = _drift(rounds)
    if abs(drift) > _DRIFT:
        found["the second half differs from the first; the machine drifted"] = f"{drift:+.0%}"
    quarters = np.quantile(calls, (0.25, 0.75))
    spread = float(quarters[1] - quarters[0]) / middle.value
    if len(calls) >= MIN_ROUNDS and spread > _SPREAD:
        found["the middle half of the calls spreads widely around the median"] = f"{spread:.0%}"
    return found


def pooled(rounds: Rounds) -> NDArray[np.int64]:
    """All calls of all rounds."""
    return np.concatenate([np.asarray(calls, np.int64) for calls in rounds])


def _drift(rounds: Rounds) -> float:
    """Change of the median from the first half of the rounds to the second; 0 where the two intervals overlap."""
    half = len(rounds) // 2
    if half < MIN_ROUNDS:
        return 0.0
    before, after = median(rounds[:half]), median(rounds[half:])
    bounds = (before.low, before.high, after.low, after.high)
    if None in bounds or (before.low <= after.high and after.low <= before.high):  # type: ignore[operator]
        return 0.0
    return after.value / before.value - 1


def _binomial(n: int, p: float) -> NDArray[Any]:
    """P(B = 0), ..., P(B = n) for B ~ binomial(n, p)."""
    k = np.arange(1, n + 1)
    steps = np.log((n - k + 1) / k) + math.log(p) - math.log1p(-p)
    return np.exp(n * math.log1p(-p) + np.concatenate([[0.0], np.cumsum(steps)]))
