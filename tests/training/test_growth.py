"""When progressive networks grow."""

from __future__ import annotations

import pytest

from ganrt.training.growth import Growth


def test_a_schedule_step_by_step() -> None:
    growth = Growth(last=2, fade=4, hold=3)
    assert [growth.stage_at(step) for step in range(19)] == [
        *[(0, 1.0)] * 3,
        *[(1, 0.0), (1, 0.25), (1, 0.5), (1, 0.75)],
        *[(1, 1.0)] * 3,
        *[(2, 0.0), (2, 0.25), (2, 0.5), (2, 0.75)],
        *[(2, 1.0)] * 5,
    ]
    assert growth.starts == (0, 3, 10) and growth.full_size_step == 14
    assert growth.stage_at(10**9) == (2, 1.0)


def test_without_a_fade_a_block_is_there_at_once() -> None:
    growth = Growth(last=1, fade=0, hold=2)
    assert [growth.stage_at(step) for step in range(4)] == [(0, 1.0), (0, 1.0), (1, 1.0), (1, 1.0)]
    assert growth.full_size_step == 2


@pytest.mark.parametrize("fade", [0, 5])
def test_networks_of_one_stage_are_grown(fade: int) -> None:
    growth = Growth(last=0, fade=fade, hold=1)
    assert growth.starts == (0,) and growth.full_size_step == 0
    assert {growth.stage_at(step) for step in (0, 1, 100)} == {(0, 1.0)}
