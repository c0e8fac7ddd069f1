"""Splitting n rows into the batch sizes of a session."""

import numpy as np
import pytest
from fakes.sessions import SPEC, UPSCALER, FakeSession, samples
from hypothesis import given
from hypothesis import strategies as st

from ganrt.backend import Pending, PictureSession, Ready
from ganrt.batching import (
    Batch,
    _estimate_times,
    largest_batch,
    plan_batches,
    run_all,
    run_batches,
    run_pictures,
    take_batch,
    take_turn,
)
from ganrt.errors import BackendError
from ganrt.fair_lock import FairLock
from ganrt.feeds import Array, Feeds
from ganrt.sample_request import Draw, SampleRequest
from ganrt.spec import Output

sizes = st.lists(st.integers(1, 64), max_size=5, unique=True).map(sorted).map(tuple)


@given(st.integers(0, 300), sizes, st.integers(1, 64))
def test_a_plan_covers_every_row_once_with_sizes_that_exist(count: int, sizes: tuple[int, ...], limit: int) -> None:
    batches = list(plan_batches(count, sizes, limit))
    assert [row for b in batches for row in range(b.first, b.first + b.rows)] == list(range(count))
    for batch in batches:
        assert 1 <= batch.rows <= batch.size
        assert batch.size in sizes if sizes else batch.size == batch.rows
        assert batch.size <= limit or batch.size == min(sizes)
        padding = batch.size - batch.rows
        assert 3 * padding <= batch.size or batch.size == min(sizes), "at most a third is padding"
    assert all(batch.rows == batch.size for batch in batches[:-1]), "only the last batch may be padded"


@pytest.mark.parametrize(
    ("count", "sizes", "limit", "wanted"),
    [
        (3, (1, 2, 4, 8), 32, [4]),
        (5, (1, 2, 4, 8), 32, [4, 1]),
        (6, (1, 2, 4, 8), 32, [8]),
        (21, (1, 2, 4, 8, 16, 32), 32, [16, 4, 1]),
        (22, (1, 2, 4, 8, 16, 32), 32, [32]),
        (31, (1, 2, 4, 8, 16, 32), 32, [32]),
        (43, (1, 2, 4, 8, 16, 32), 32, [32, 16]),
        (31, (1, 2, 4, 8, 16, 32), 16, [16, 16]),
        (2, (1, 3), 32, [3]),
        (31, (), 32, [31]),
        (7, (4,), 32, [4, 4]),
        (70, (), 32, [32, 32, 6]),
        (3, (8, 16), 32, [8]),
        (20, (8, 64), 32, [8, 8, 8]),
        (2, (64,), 32, [64]),
    ],
)
def test_plans(count: int, sizes: tuple[int, ...], limit: int, wanted: list[int]) -> None:
    assert [batch.size for batch in plan_batches(count, sizes, limit)] == wanted


milliseconds = st.dictionaries(st.integers(1, 24), st.integers(1, 200), min_size=1, max_size=5)


def cost(batches: list[Batch], times: dict[int, int]) -> int:
    return sum(times[batch.size] for batch in batches)


@given(st.integers(0, 3000), milliseconds)
def test_measured_times_never_raise_the_cost_and_every_row_is_covered_once(count: int, times: dict[int, int]) -> None:
    sizes, seconds = tuple(sorted(times)), {size: t / 1000 for size, t in times.items()}
    batches = list(plan_batches(count, sizes, 64, seconds))
    assert [row for b in batches for row in range(b.first, b.first + b.rows)] == list(range(count))
    assert all(1 <= b.rows <= b.size and b.size in sizes for b in batches)
    assert all(b.rows == b.size for b in batches[:-1]), "only the last batch may be padded"
    assert cost(batches, times) <= cost(list(plan_batches(count, sizes, 64)), times)
    assert batches == list(plan_batches(count, sizes, 64, seconds))


@given(st.integers(1, 90), st.dictionaries(st.integers(1, 7), st.integers(1, 60), min_size=1, max_size=4))
def test_with_measured_times_the_cost_is_minimal(count: int, times: dict[int, int]) -> None:
    """Compared with a search over all combinations of batches."""
    found = cost(list(plan_batches(count, tuple(sorted(times)), 64, {s: t / 1000 for s, t in times.items()})), times)
    least, frontier = None, {0: 0}
    while frontier:
        following: dict[int, int] = {}
        for held, spent in frontier.items():
            for size, t in times.items():
                if held + size >= count:
                    least = spent + t if least is None else min(least, spent + t)
                elif spent + t < following.get(held + size, spent + t + 1):
                    following[held + size] = spent + t
        frontier = following
    assert found == least


@pytest.mark.parametrize(
    ("count", "sizes", "seconds", "wanted"),
    [
        (37, (1, 2, 4, 8, 16, 32), {1: 4.0, 8: 7.0, 32: 20.0}, [32, 8]),  # one padded batch instead of two small ones
        (37, (1, 2, 4, 8, 16, 32), {1: 1.0, 8: 8.0, 32: 31.0}, [32, 4, 1]),  # time goes with the rows: no padding
        (37, (), {1: 1.0, 8: 5.0, 32: 12.0}, [32, 5]),
        (16, (), {1: 1.0, 8: 4.0, 16: 9.0}, [8, 8]),  # two that fit a cache
        (16, (), {1: 1.0, 16: 16.0}, [16]),  # all cuts cost the same: the fewest batches
        (3, (), {8: 4.0}, [3]),  # costs what 8 cost, and makes no padding
        (70, (), {1: 1.0, 8: 4.0}, [32, 30, 8]),  # beyond the measured ones in proportion; one odd size
        (5, (1, 4, 8), {5: 0.1}, [4, 1]),  # only what the session has counts: as if nothing was measured
        (9, (8, 64), {8: 4.0, 64: 5.0}, [8, 8]),  # 64 is above the limit
    ],
)
def test_plans_with_measured_times(
    count: int, sizes: tuple[int, ...], seconds: dict[int, float], wanted: list[int]
) -> None:
    assert [batch.size for batch in plan_batches(count, sizes, 32, seconds)] == wanted


def test_a_plan_for_a_million_rows_is_lazy() -> None:
    batches = plan_batches(10**15, (), 32, {1: 1.0, 7: 3.0, 32: 20.0})
    assert next(batches) == Batch(0, 7, 7)
    cut = list(plan_batches(1_000_000, (), 32, {1: 1.0, 7: 3.0, 32: 20.0}))
    assert sum(batch.rows for batch in cut) == 1_000_000
    assert sorted(batch.size for batch in cut) == [7] * 142_856 + [8]


@given(st.integers(1, 400), st.integers(1, 32), milliseconds)
def test_with_any_size_the_plan_costs_no_more_than_largest_first(count: int, limit: int, times: dict[int, int]) -> None:
    seconds = {size: t / 1000 for size, t in times.items()}
    batches, plain = (list(plan_batches(count, (), limit, s)) for s in (seconds, None))
    assert [row for b in batches for row in range(b.first, b.first + b.rows)] == list(range(count))
    assert len({b.size for b in batches} - times.keys() - {limit}) <= 1, "few sizes, of which one was not measured"
    estimates = _estimate_times(range(1, limit + 1), seconds)
    assert cost(batches, estimates) <= cost(plain, estimates)


@given(st.integers(1, 40), sizes, st.integers(1, 16), milliseconds)
def test_images_do_not_depend_on_measured_times(
    count: int, sizes: tuple[int, ...], limit: int, times: dict[int, int]
) -> None:
    inputs, expected = samples(count=count)
    session, seconds = FakeSession(SPEC, sizes), {size: t / 1000 for size, t in times.items()}
    np.testing.assert_allclose(run_all(session, SPEC.output, inputs, limit, seconds), expected, rtol=1e-6)
    assert session.batches == [batch.size for batch in plan_batches(count, sizes, limit, seconds)]


@given(st.integers(1, 40), sizes, st.integers(1, 16))
def test_images_do_not_depend_on_the_split(count: int, sizes: tuple[int, ...], limit: int) -> None:
    inputs, expected = samples(count=count)
    session = FakeSession(SPEC, sizes)
    np.testing.assert_allclose(run_all(session, SPEC.output, inputs, limit), expected, rtol=1e-6)
    assert session.batches == [batch.size for batch in plan_batches(count, sizes, limit)]


def test_the_next_batch_is_in_flight_while_one_is_received() -> None:
    session, seen = FakeSession(), []
    inputs, _ = samples(count=12)

    def receive(batch: Batch, _: Array) -> None:
        seen.append((batch.first, len(session.batches)))

    run_batches(session, SPEC.output, plan_batches(12, (), 4), lambda b: take_batch(inputs, b), receive)
    assert seen == [(0, 2), (4, 3), (8, 3)]


class InFlight(FakeSession):
    """Counts the batches that were not waited for, and fails when `fails` says so."""

    def __init__(self, fails: tuple[str, int]) -> None:
        super().__init__()
        self.fails, self.running, self.waits = fails, 0, 0

    def submit(self, feeds: Feeds) -> Pending:
        if self.fails == ("submit", len(self.batches)):
            raise BackendError("the first error")
        ready, session = super().submit(feeds), self
        self.running += 1

        class Waited(Ready):
            def wait(self) -> dict[str, Array]:
                session.running -= 1
                session.waits += 1
                if session.fails == ("wait", session.waits - 1):
                    raise BackendError("the first error")
                if session.fails[0] == "wait" and session.waits - 1 > session.fails[1]:
                    raise BackendError("an error that follows")
                return ready.wait()

        return Waited({})


@pytest.mark.parametrize("fails", [("submit", 0), ("submit", 1), ("submit", 2), ("wait", 0), ("wait", 1), ("wait", 2)])
def test_no_batch_stays_in_flight_when_one_fails(fails: tuple[str, int]) -> None:
    session = InFlight(fails)
    with pytest.raises(BackendError, match="the first error"):
        run_all(session, SPEC.output, samples(count=12)[0], 4)
    assert session.running == 0


def test_no_batch_stays_in_flight_when_its_receiver_fails() -> None:
    session, (inputs, _) = InFlight(("", 0)), samples(count=12)

    def receive(batch: Batch, _: Array) -> None:
        raise BackendError("the first error")

    with pytest.raises(BackendError, match="the first error"):
        run_batches(session, SPEC.output, plan_batches(12, (), 4), lambda b: take_batch(inputs, b), receive)
    assert session.running == 0 and session.waits == 2


class Contended(FairLock):
    """Another thread waits for it at the times that `answers` says."""

    def __init__(self, answers: list[bool]) -> None:
        super().__init__()
        self.answers = answers

    @property
    def has_waiters(self) -> bool:
        return self.answers.pop(0)


def test_a_turn_ends_when_another_thread_waits_and_loses_no_batch() -> None:
    left = plan_batches(5, (), 1)
    lock = Contended([False, True, True, False, False])
    turns = [[batch.first for batch in take_turn(first, left, lock)] for first in left]
    assert turns == [[0, 1], [2], [3, 4]] and lock.answers == []


def test_rows_are_padded_with_the_last_one() -> None:
    feeds = {"z": np.arange(5)}
    assert take_batch(feeds, Batch(3, 2, 4))["z"].tolist() == [3, 4, 4, 4]
    assert take_batch(feeds, Batch(0, 5, 5)) is feeds


class Returning(FakeSession):
    def __init__(self, outputs: dict[str, Array]) -> None:
        super().__init__()
        self.outputs = outputs

    def submit(self, feeds: Feeds) -> Pending:
        return Ready(self.outputs)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"y": np.zeros((2, 3, 4, 5), np.float32)}, r"fake returned the outputs \['y'\]; 'image' is missing"),
        ({"image": np.zeros((2, 3, 4, 5))}, r"returned float64 of shape \(2, 3, 4, 5\)"),
        (
            {"image": np.zeros((1, 3, 4, 5), np.float32)},
            r"a batch of 2 of this model is float32 of shape \(2, 3, 4, 5\)",
        ),
        ({"image": np.zeros((2, 4, 5, 3), np.float32)}, r"of shape \(2, 4, 5, 3\)"),
    ],
)
def test_outputs_of_a_wrong_name_dtype_or_shape_are_rejected(outputs: dict[str, Array], message: str) -> None:
    with pytest.raises(BackendError, match=message):
        run_all(Returning(outputs), SPEC.output, samples(count=2)[0], 8)


def test_a_free_size_still_needs_four_dimensions() -> None:
    inputs = {"x": np.zeros((2, 3, 4, 4), np.float32)}
    assert run_all(FakeSession(UPSCALER), UPSCALER.output, inputs, 8).shape == (2, 3, 8, 8)
    with pytest.raises(BackendError, match=r"float32 of shape \(2, 3\)"):
        run_all(Returning({"image": np.zeros((2, 3), np.float32)}), UPSCALER.output, inputs, 8)


@pytest.mark.parametrize(
    ("channels", "size", "wanted"),
    [(3, (64, 64), 32), (3, (1024, 1024), 5), (1, (1024, 1024), 16), (3, None, 5), (3, (8192, 8192), 1)],
)
def test_a_batch_is_limited_by_the_values_of_its_images(
    channels: int, size: tuple[int, int] | None, wanted: int
) -> None:
    output = UPSCALER.output if size is None else Output(channels, (0.0, 1.0), size)
    assert largest_batch(output) == wanted


class Drawing(FakeSession, PictureSession):
    """Returns the sample numbers of a draw as pictures, or what it was made with."""

    def __init__(self, batch_sizes: tuple[int, ...] = (), outputs: Array | None = None) -> None:
        super().__init__(SPEC, batch_sizes)
        self.outputs = outputs

    def submit_draw(self, draw: Draw) -> Pending:
        self.batches.append(draw.rows)
        numbers = draw.indices.astype(np.uint8)
        pictures = np.broadcast_to(numbers[:, None, None, None], (draw.rows, 4, 5, 3))
        return Ready({"image": pictures if self.outputs is None else self.outputs})


def test_drawn_samples_come_in_order_without_padding() -> None:
    session = Drawing((2, 4))
    found = draw_pictures(session, SampleRequest(7, 7, 100))
    assert [first for first, _ in found] == [0, 4] and session.batches == [4, 3]
    assert np.concatenate([made for _, made in found])[:, 0, 0, 0].tolist() == list(range(100, 107))


def draw_pictures(session: Drawing, request: SampleRequest) -> list[tuple[int, Array]]:
    """First row and pictures of each batch."""
    found: list[tuple[int, Array]] = []
    batches = plan_batches(request.rows, session.batch_sizes, 4)
    run_pictures(
        session,
        SPEC.output,
        batches,
        lambda batch: request.take_rows(batch.first, batch.rows),
        lambda batch, made: found.append((batch.first, made)),
    )
    return found


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [(np.float32, (2, 4, 5, 3)), (np.uint8, (1, 4, 5, 3)), (np.uint8, (2, 4, 5, 1)), (np.uint8, (2, 3, 4, 5))],
)
def test_pictures_of_a_wrong_dtype_or_shape_are_rejected(dtype: type, shape: tuple[int, ...]) -> None:
    session = Drawing(outputs=np.zeros(shape, dtype))
    with pytest.raises(BackendError, match=r"of shape \(.*\) where 2 pictures were drawn"):
        draw_pictures(session, SampleRequest(2, 7))
