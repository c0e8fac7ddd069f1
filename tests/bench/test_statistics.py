"""The statistics against SciPy and against simulation."""

import numpy as np
import pytest
from helpers.optional import unwrap
from scipy import stats

from ganrt.bench import statistics
from ganrt.bench.statistics import Estimate


@pytest.mark.parametrize("q", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("n", [6, 13, 60, 400, 5000])
def test_the_interval_is_the_narrowest_pair_of_order_statistics_with_equal_tails(n: int, q: float) -> None:
    values = np.random.default_rng(n).permutation(n) + 1.0  # the k-th smallest is k
    found = statistics.quantile(values, q)
    below = stats.binom(n, q)
    if found.low is None:
        assert below.cdf(0) > 0.025 or below.cdf(n - 1) < 0.975
        return
    low, high = int(found.low), int(unwrap(found.high))
    assert below.cdf(low - 1) <= 0.025 < below.cdf(low)
    assert below.sf(high - 1) <= 0.025 < below.sf(high - 2)


def test_the_interval_covers_the_true_median_in_95_percent_of_cases() -> None:
    draws = np.random.default_rng(1).lognormal(size=(2000, 25))
    found = [statistics.quantile(row, 0.5) for row in draws]
    share = np.mean([unwrap(e.low) <= 1.0 <= unwrap(e.high) for e in found])
    assert share > 0.95 - 3 * (0.05 * 0.95 / 2000) ** 0.5


def test_five_rounds_have_a_median_and_no_interval_and_six_have_one() -> None:
    assert statistics.median([[3], [1], [2], [5], [4]]) == Estimate(3.0, None, None)
    assert statistics.median([[3], [1], [2], [5], [4], [6]]) == Estimate(3.5, 1.0, 6.0)
    assert statistics.MIN_ROUNDS == 6


def test_the_round_is_the_unit_of_the_median() -> None:
    # the 1000 calls of one fast round must not outvote the others
    rounds = [[1] * 1000] + [[10]] * 6
    assert statistics.median(rounds).value == 10.0


@pytest.mark.parametrize(("q", "needed"), [(0.9, 100), (0.99, 1000)])
def test_a_tail_is_stated_only_with_ten_calls_beyond_it(q: float, needed: int) -> None:
    assert statistics.calls_needed(q) == needed
    assert statistics.tail([[1] * (needed - 1)], q) is None
    values = np.random.default_rng(0).integers(1, 10**6, needed)
    found = unwrap(statistics.tail([values[:40].tolist(), values[40:].tolist()], q))
    assert found.value == pytest.approx(np.quantile(values, q))
    assert unwrap(found.low) < found.value


def test_a_paired_ratio_cancels_shared_disturbances() -> None:
    rng = np.random.default_rng(2)
    machine = rng.lognormal(0, 1, (20, 30))  # disturbances that both calls of a pair share
    bottom = (1e6 * machine).astype(int)
    top = (1.07e6 * machine * rng.lognormal(0, 0.01, machine.shape)).astype(int)
    found = statistics.paired_ratio(top.tolist(), bottom.tolist())
    assert unwrap(found.low) <= 1.07 <= unwrap(found.high)
    assert found.half_width < 0.005
    with pytest.raises(ValueError, match="shorter"):
        statistics.paired_ratio(top.tolist(), bottom.tolist()[:-1])


def test_scaling_and_inverting_keep_the_bounds_in_order() -> None:
    assert Estimate(4.0, 2.0, 8.0).scale(0.5) == Estimate(2.0, 1.0, 4.0)
    assert Estimate(4.0, 2.0, 8.0).invert(16) == Estimate(4.0, 2.0, 8.0)
    assert Estimate(4.0, None, None).invert(8) == Estimate(2.0, None, None)
    assert Estimate(4.0, 3.0, 5.0).half_width == 0.25


@pytest.mark.parametrize(
    ("rounds", "words"),
    [
        ([[100, 101]] * 5, "too few rounds"),
        ([[100], [200], [300], [400], [500], [600]], "the median is uncertain"),
        ([[100] * 5] * 8 + [[120] * 5] * 8, "the machine drifted"),
        ([[50, 100, 150]] * 10, "spreads widely"),
    ],
)
def test_unreliable_figures_come_with_a_warning(rounds: list[list[int]], words: str) -> None:
    assert [kind for kind in statistics.find_warnings(rounds) if words in kind]


def test_drift_is_the_change_of_the_median_and_needs_two_halves_with_an_interval() -> None:
    kind = "the second half differs from the first: the machine drifted"
    assert statistics.find_warnings([[100] * 5] * 6 + [[120] * 5] * 6)[kind] == "+20%"
    assert kind not in statistics.find_warnings([[100] * 5] * 5 + [[120] * 5] * 5)
    before, after = (98, 99, 100, 101, 102, 112), (110, 111, 112, 113, 114, 115)
    assert kind not in statistics.find_warnings([[ns] for ns in before + after])


def test_steady_figures_come_without_a_warning() -> None:
    assert statistics.find_warnings([[100, 101, 99, 100]] * 12) == {}
