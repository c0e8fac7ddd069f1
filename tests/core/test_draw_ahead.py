"""Samples that are drawn ahead are those that would have been drawn, and no more of them than pays."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fakes.sessions import CLASSES, SPEC, FakeSession
from hypothesis import given
from hypothesis import strategies as st

from ganrt import draw_ahead
from ganrt.draw_ahead import MOST_SAMPLES, MOST_VALUES, DrawAhead, count_values
from ganrt.feeds import Feeds, draw_rows
from ganrt.generator import Generator
from ganrt.sample_request import Draw, SampleRequest
from ganrt.spec import Label, Latent, Spec


def assert_equal(found: Feeds, wanted: Feeds) -> None:
    assert list(found) == list(wanted)
    for name, array in found.items():
        assert array.dtype == wanted[name].dtype and array.flags.c_contiguous
        np.testing.assert_array_equal(array, wanted[name])


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many samples each drawing had."""
    counts: list[int] = []

    def count(spec: Spec, draw: Draw) -> Feeds:
        counts.append(draw.rows)
        return draw_rows(spec, draw)

    monkeypatch.setattr(draw_ahead, "draw_rows", count)
    return counts


numbers = st.integers(0, 40) | st.integers(2**64 - 40, 2**64 - 10)
calls = st.tuples(st.sampled_from([7, 2**40]), numbers, st.integers(1, 9), st.sampled_from([None, 0, 3]))


@given(st.lists(calls, max_size=12), st.integers(1, 5), st.integers(0, 3))
def test_any_requests_get_what_they_would_get_alone(
    calls: list[tuple[int, int, int, int | None]], rows: int, skip: int
) -> None:
    in_order = [(7, place * (rows + skip), rows, None) for place in range(8)]
    for spec, truncation in ((CLASSES, None), (SPEC, None), (SPEC, 0.5)):
        ahead = DrawAhead(spec)
        for seed, start, count, label in (*calls, *in_order, *calls):
            request = SampleRequest(count + 2, seed, start, label if spec is CLASSES else None, truncation)
            assert_equal(ahead.draw(request, 2, count), draw_rows(spec, request.take_rows(2, count)))


def draw_all(ahead: DrawAhead, places: Any, rows: int = 1, seed: int = 7) -> None:
    for place in places:
        ahead.draw(SampleRequest(rows, seed, place), 0, rows)


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [(1, [1, 2, 4, 8, 16, 32, 32, 32]), (3, [3, 6, 12, 24, 30, 30]), (16, [16, 32, 32, 32]), (17, [17] * 7)],
)
def test_requests_in_order_draw_twice_as_many_each_time_up_to_the_limit(
    rows: int, wanted: list[int], drawn: list[int]
) -> None:
    draw_all(DrawAhead(SPEC), range(0, sum(wanted), rows), rows)
    assert drawn == wanted


def test_nothing_is_drawn_ahead_of_what_is_not_in_order(drawn: list[int]) -> None:
    ahead = DrawAhead(SPEC)
    for seed in range(9):
        draw_all(ahead, [0], seed=seed)
    draw_all(ahead, [9, 3, 20, 19, 90])
    assert drawn == [1] * 14


def test_what_was_drawn_is_used_again(drawn: list[int]) -> None:
    ahead = DrawAhead(SPEC)
    draw_all(ahead, [5, 5, 6, 7, 6, 5])
    assert drawn == [1, 2, 1]


@pytest.mark.parametrize("place", ["seed", "labels", "truncation"])
def test_other_arguments_are_other_samples(place: str, drawn: list[int]) -> None:
    ahead, request = DrawAhead(CLASSES), SampleRequest(1, 7, 0, 1, 0.5)
    ahead.draw(request, 0, 1)
    ahead.draw(request._replace(start=1, **{place: 3}), 0, 1)
    assert drawn == [1, 1]


@pytest.mark.parametrize(
    ("size", "most"), [(1, MOST_SAMPLES), (512, 32), (1000, 16), (MOST_VALUES // 2, 2), (MOST_VALUES // 2 + 1, 1)]
)
def test_the_values_that_are_kept_are_limited(size: int, most: int, drawn: list[int]) -> None:
    draw_all(DrawAhead(replace(SPEC, inputs=(Latent("z", (size,)),))), range(70))
    assert max(drawn) == most and sum(drawn) <= 70 + most


def test_all_inputs_are_counted() -> None:
    assert count_values(CLASSES) == 6 + 10 + 1 + 4
    assert count_values(replace(SPEC, inputs=(Label("y", 5000, "one_hot"),))) == 5000
    assert DrawAhead(replace(SPEC, inputs=(Latent("z", (2**20,)),)))._most == 0


@pytest.mark.parametrize("place", ["seed", "start", "labels", "truncation"])
def test_requests_that_differ_by_image_are_left_alone(place: str, drawn: list[int]) -> None:
    values: dict[str, Any] = {place: np.array([0.5 if place == "truncation" else 3])}
    ahead, request = DrawAhead(CLASSES), SampleRequest(1, 7, 0)._replace(**values)
    for _ in range(3):
        assert ahead.draw(request, 0, 1)["z"].flags.writeable
    assert drawn == [1, 1, 1] and ahead._block.key is None


@pytest.mark.parametrize(("rows", "is_kept"), [(16, True), (17, False), (40, False)])
def test_requests_of_more_than_half_of_the_limit_are_left_alone(rows: int, is_kept: bool) -> None:
    ahead = DrawAhead(SPEC)
    assert ahead.draw(SampleRequest(rows, 7), 0, rows)["z"].flags.writeable is not is_kept
    assert (ahead._block.key is not None) is is_kept


def test_what_is_kept_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        DrawAhead(SPEC).draw(SampleRequest(1), 0, 1)["z"][0] = 0


def test_threads_may_share_one() -> None:
    ahead, barrier = DrawAhead(SPEC), threading.Barrier(4)

    def draw(thread: int) -> None:
        barrier.wait()
        for place in range(200):
            request = SampleRequest(1, thread % 2, place)
            assert_equal(ahead.draw(request, 0, 1), draw_rows(SPEC, request.take_rows(0, 1)))

    with ThreadPoolExecutor(4) as workers:
        for future in [workers.submit(draw, thread) for thread in range(4)]:
            future.result()


def test_a_generator_draws_ahead(drawn: list[int]) -> None:
    with Generator(SPEC, FakeSession()) as generator:
        whole = generator.sample(40, seed=7)
        drawn.clear()
        for place in range(40):
            np.testing.assert_array_equal(generator.sample(1, seed=7, start=place), whole[place : place + 1])
        assert drawn == [1, 2, 4, 8, 16, 32]
        np.testing.assert_array_equal(np.concatenate(list(generator.stream(40, seed=7, batch=4))), whole)
