"""How fast a batcher computes."""

import pytest

from ganrt.serve.drain_rate import DrainRate


def test_before_the_first_batch_nothing_is_known() -> None:
    assert DrainRate().predict(100) == 0.0


def test_it_follows_the_recent_batches() -> None:
    rate = DrainRate()
    for _ in range(40):
        rate.add(16, 0.5, True)
    assert rate.predict(64) == pytest.approx(2.0)
    for _ in range(40):
        rate.add(16, 1.0, True)
    assert rate.predict(64) == pytest.approx(4.0, rel=1e-3)


def test_newer_batches_count_more() -> None:
    rate = DrainRate()
    rate.add(10, 1.0, True)
    rate.add(10, 3.0, True)
    assert rate.predict(18) == pytest.approx(0.8 * 1.0 + 3.0)


def test_single_rows_of_an_idle_model_count_only_until_there_are_full_batches() -> None:
    rate = DrainRate()
    rate.add(1, 0.1, False)
    rate.add(1, 0.1, False)
    assert rate.predict(10) == pytest.approx(1.0)
    rate.add(16, 0.4, True)
    assert rate.predict(10) == pytest.approx(0.25)
    rate.add(1, 0.1, False)
    assert rate.predict(10) == pytest.approx(0.25)
