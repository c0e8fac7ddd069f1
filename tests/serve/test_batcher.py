"""Requests of many callers share batches, and each gets what it would get alone."""

import asyncio
import os
import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from fakes.sessions import CLASSES, SPEC, UPSCALER, FakeSession, images
from helpers.gated_session import WAIT_S, GatedSession

from ganrt.errors import (
    BackendError,
    ClosedError,
    DeadlineError,
    DeviceLostError,
    DeviceMemoryError,
    OverloadedError,
    RequestError,
    TooLargeError,
)
from ganrt.fair_lock import FairLock
from ganrt.feeds import Array, Feeds, draw_rows
from ganrt.generator import Generator
from ganrt.images import Pictures, to_uint8
from ganrt.serve import Answer, Batcher, Monitor, clock
from ganrt.serve.rows import SampleRows
from ganrt.spec import Image, Output, Spec


class Recorder(Monitor):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.waiting = 0
        self.batches: list[tuple[int, int]] = []
        self.answers: list[Answer] = []
        self.dropped: list[tuple[str, int]] = []

    def rows_accepted(self, rows: int) -> None:
        self.waiting += rows

    def rows_finished(self, rows: int) -> None:
        self.waiting -= rows

    def batch_computed(self, rows: int, requests: int, seconds: float) -> None:
        assert seconds >= 0
        self.batches.append((rows, requests))

    def request_answered(self, answer: Answer) -> None:
        self.answers.append(answer)

    def rows_dropped(self, reason: str, rows: int) -> None:
        self.dropped.append((reason, rows))


def make(session: GatedSession, spec: Spec = SPEC, **options: Any) -> tuple[Batcher, Recorder]:
    recorder = Recorder()
    return Batcher(Generator(spec, session), monitor=recorder, **options), recorder


def pictures(future: "Future[Answer]") -> Array:
    return future.result(WAIT_S).pictures


def hold_first_batch(batcher: Batcher, session: GatedSession) -> "Future[Answer]":
    """Make a request whose batch is held, so that those after it wait."""
    first = batcher.sample(1, seed=99)
    session.await_batch()
    return first


def await_rest(batcher: Batcher) -> None:
    """Wait until the last batch is counted, which happens after its pictures are handed out."""
    with batcher._changed:
        assert batcher._changed.wait_for(lambda: not batcher._in_flight, WAIT_S)


def test_pictures_are_the_generator_s_whatever_else_is_in_the_batch() -> None:
    generator = Generator(CLASSES, FakeSession(CLASSES))
    requests: list[dict[str, Any]] = [
        {
            "n": 1 + k % 5,
            "seed": k * 2**40,
            "start": k % 3,
            "labels": None if k % 2 else k % 10,
        }
        for k in range(60)
    ]
    requests += [{"seed": [3, 4, 2**64 - 1], "labels": [None, 1, 2]}, {"n": 100, "seed": 7}]
    with Batcher(generator, largest_batch=8) as batcher, ThreadPoolExecutor(8) as callers:
        answers = [f.result(WAIT_S) for f in callers.map(lambda request: batcher.sample(**request), requests)]
    for request, answer in zip(requests, answers, strict=True):
        np.testing.assert_array_equal(answer.pictures, generator.sample(**request))
        draw, drawn = generator.draw(**request), answer.draw
        assert drawn is not None and draw.labels is not None and drawn.labels is not None
        np.testing.assert_array_equal(drawn.labels, draw.labels)
        np.testing.assert_array_equal(drawn.seeds, draw.seeds)
        np.testing.assert_array_equal(drawn.indices, draw.indices)


def test_truncations_share_a_batch() -> None:
    session = GatedSession(is_open=False)
    batcher, recorder = make(session)
    first = hold_first_batch(batcher, session)
    futures = [batcher.sample(1, seed=5, truncation=t) for t in (None, 0.5, 0.1)]
    session.open_gate()
    for future, truncation in zip(futures, (None, 0.5, 0.1), strict=True):
        np.testing.assert_array_equal(pictures(future), batcher.generator.sample(1, seed=5, truncation=truncation))
    assert recorder.batches == [(1, 1), (3, 3)] and first.done()
    batcher.close()


def test_the_caller_owns_the_pictures() -> None:
    batcher, _ = make(GatedSession())
    made = pictures(batcher.sample(2, seed=1))
    assert made.flags.owndata and made.flags.writeable
    batcher.close()


def test_inputs_and_pictures_are_batched_by_their_shapes() -> None:
    session = GatedSession(UPSCALER, is_open=False)
    batcher, recorder = make(session, UPSCALER)
    random = np.random.default_rng(0)
    photos = [random.integers(0, 256, (6, 7 + k % 2 * 4, 3), np.uint8) for k in range(6)]
    first = batcher.transform(photos[0])
    session.await_batch()
    futures = [batcher.transform(photo) for photo in photos]
    raw = [random.random((2, 3, 6, 8), np.float32) for _ in range(2)]
    given = [batcher.run({"x": array}) for array in raw]
    session.open_gate()
    for future, photo in zip([first, *futures], [photos[0], *photos], strict=True):
        np.testing.assert_array_equal(pictures(future)[0], batcher.generator.transform(photo))
    for future, array in zip(given, raw, strict=True):
        np.testing.assert_array_equal(pictures(future), to_uint8(batcher.generator(x=array), (0.0, 1.0)))
    assert recorder.batches[0] == (1, 1) and sorted(recorder.batches[1:]) == [(3, 3), (3, 3), (4, 2)]
    batcher.close()


def test_pictures_of_8_and_16_bits_are_batched_apart() -> None:
    session = GatedSession(UPSCALER, is_open=False)
    batcher, recorder = make(session, UPSCALER)
    photos = [np.random.default_rng(k).integers(0, 2 ** (8 * (k % 2 + 1)), (6, 7, 3)) for k in range(4)]
    given = [photo.astype((np.uint8, np.uint16)[k % 2]) for k, photo in enumerate(photos)]
    first = batcher.transform(given[0])
    session.await_batch()
    futures = [batcher.transform(photo) for photo in given]
    session.open_gate()
    for future, photo in zip([first, *futures], [given[0], *given], strict=True):
        made = pictures(future)
        assert made.dtype == photo.dtype
        np.testing.assert_array_equal(made[0], batcher.generator.transform(photo))
    assert sorted(recorder.batches[1:]) == [(2, 2), (2, 2)]
    batcher.close()


def test_a_picture_in_tiles_is_put_together() -> None:
    spec = Spec("near", (Image("x", "low_res", 3, (0.0, 1.0)),), Output(3, (0.0, 1.0), None, 2, reach=2))

    def enlarge(feeds: Feeds) -> Array:
        return feeds["x"].repeat(2, axis=2).repeat(2, axis=3)

    session = GatedSession(spec, fault=enlarge)
    batcher, _ = make(session, spec)
    photos = np.random.default_rng(1).integers(0, 256, (3, 40, 30, 3), np.uint8)
    made = pictures(batcher.transform(photos, tile=16))
    np.testing.assert_array_equal(made, photos.repeat(2, axis=1).repeat(2, axis=2))
    batcher.close()


def test_a_small_request_passes_a_large_one() -> None:
    session = GatedSession(is_open=False)
    batcher, _ = make(session, largest_batch=4)
    large = batcher.sample(1000, seed=1)
    session.await_batch()
    small = batcher.sample(1, seed=2)
    session.open_gate()
    small.result(WAIT_S)
    assert not large.done()
    np.testing.assert_array_equal(pictures(large), batcher.generator.sample(1000, seed=1))
    batcher.close()


def test_a_turn_is_a_quarter_of_a_batch() -> None:
    session = GatedSession(is_open=False)
    batcher, recorder = make(session, largest_batch=8)
    hold_first_batch(batcher, session)
    futures = [batcher.sample(rows, seed=rows) for rows in (100, 90, 1)]
    session.open_gate()
    assert all(future.result(WAIT_S) for future in futures)
    assert recorder.batches[:2] == [(1, 1), (8, 3)]
    batcher.close()


def test_batches_have_the_sizes_of_the_session() -> None:
    session = GatedSession(is_open=False, batch_sizes=(1, 4))
    batcher, recorder = make(session)
    hold_first_batch(batcher, session)
    futures = [batcher.sample(1, seed=k) for k in range(6)]
    session.open_gate()
    for seed, future in enumerate(futures):
        np.testing.assert_array_equal(pictures(future), batcher.generator.sample(1, seed=seed))
    batcher.close()
    assert session.batches[:4] == [1, 4, 1, 1] and recorder.batches == [(1, 1), (4, 4), (1, 1), (1, 1)]


def test_it_waits_for_rows_that_fill_a_batch() -> None:
    session = GatedSession()
    batcher, recorder = make(session, largest_batch=3, longest_wait_s=WAIT_S)
    futures = [batcher.sample(1, seed=0)]
    threading.Event().wait(0.05)  # by now the thread waits for more
    futures += [batcher.sample(1, seed=k) for k in (1, 2)]
    assert all(future.result(WAIT_S / 2) for future in futures)
    assert recorder.batches == [(3, 3)]
    batcher.close()


def test_it_does_not_wait_longer_than_it_may() -> None:
    batcher, recorder = make(GatedSession(), longest_wait_s=0.01)
    answer = batcher.sample(1).result(WAIT_S)
    assert answer.queue_s >= 0.01 and answer.compute_s >= 0
    assert (answer.batch_rows, answer.batch_requests) == (1, 1) and recorder.answers == [answer]
    batcher.close()


def test_a_cancelled_request_is_not_computed() -> None:
    session = GatedSession(is_open=False)
    batcher, recorder = make(session)
    hold_first_batch(batcher, session)
    cancelled, kept = batcher.sample(5, seed=1), batcher.sample(2, seed=2)
    assert cancelled.cancel() and recorder.waiting == 8
    session.open_gate()
    kept.result(WAIT_S)
    with pytest.raises(CancelledError):
        cancelled.result(WAIT_S)
    batcher.close()
    assert recorder.batches == [(1, 1), (2, 1)]
    assert recorder.dropped == [("cancelled", 5)] and recorder.waiting == 0


def test_a_request_may_be_cancelled_while_it_is_computed() -> None:
    session = GatedSession(is_open=False)
    batcher, recorder = make(session, largest_batch=2)
    future = batcher.sample(10, seed=1)
    session.await_batch()
    assert future.cancel()
    session.open_gate()
    batcher.close()
    assert session.batches == [2] and recorder.dropped == [("cancelled", 8)] and recorder.waiting == 0


def test_an_await_that_is_cancelled_cancels_the_request() -> None:
    session = GatedSession(is_open=False)
    batcher, recorder = make(session)
    hold_first_batch(batcher, session)

    async def ask() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(batcher.sample(3)), 0.01)

    asyncio.run(ask())
    session.open_gate()
    batcher.close()
    assert recorder.dropped == [("cancelled", 3)]


def test_rows_whose_deadline_passed_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    session = GatedSession(is_open=False)
    batcher, recorder = make(session)
    hold_first_batch(batcher, session)
    late, early = batcher.sample(3, timeout_s=5.0), batcher.sample(2, timeout_s=50.0)
    start = clock.now()
    monkeypatch.setattr("ganrt.serve.batcher.now", lambda: start + 6.0)
    session.open_gate()
    with pytest.raises(DeadlineError, match="the timeout passed before all of these pictures were made"):
        late.result(WAIT_S)
    early.result(WAIT_S)
    batcher.close()
    assert recorder.batches == [(1, 1), (2, 1)] and recorder.dropped == [("deadline", 3)] and recorder.waiting == 0


def poison(seed: int, kind: str) -> Any:
    """A fault in every batch that holds the sample of a seed."""
    generator = Generator(SPEC, FakeSession())
    bad = generator.draw(1, seed=seed)
    z = draw_rows(SPEC, bad)["z"][0]

    def fault(feeds: Feeds) -> Array | None:
        rows = np.flatnonzero((feeds["z"] == z).all(axis=1))
        if not rows.size:
            return None
        if kind == "raise":
            raise ValueError("a row that the library does not like")
        made = images(SPEC, feeds)
        made[rows] = np.nan
        return made

    return fault


@pytest.mark.parametrize(
    ("kind", "message"), [("raise", "failed on a batch of 1: a row that"), ("nan", "values that are not finite")]
)
def test_a_poisoned_row_fails_its_request_alone(kind: str, message: str) -> None:
    session = GatedSession(is_open=False, fault=poison(3, kind))
    batcher, recorder = make(session)
    hold_first_batch(batcher, session)
    futures = [batcher.sample(1, seed=k) for k in range(8)]
    session.open_gate()
    for seed, future in enumerate(futures):
        if seed == 3:
            with pytest.raises(BackendError, match=message):
                future.result(WAIT_S)
        else:
            np.testing.assert_array_equal(pictures(future), Generator(SPEC, FakeSession()).sample(1, seed=seed))
    batcher.close()
    assert recorder.dropped == [("error", 1)] and recorder.waiting == 0


def test_a_result_that_cannot_be_put_together_fails_its_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def finish(rows: SampleRows) -> Pictures:
        if rows.count == 3:
            raise MemoryError("too little memory for the result")
        return original(rows)

    original = SampleRows.finish
    monkeypatch.setattr(SampleRows, "finish", finish)
    session = GatedSession(is_open=False)
    batcher, recorder = make(session)
    hold_first_batch(batcher, session)
    futures = [batcher.sample(rows, seed=rows) for rows in (2, 3, 4)]
    session.open_gate()
    with pytest.raises(MemoryError, match="too little memory for the result"):
        futures[1].result(WAIT_S)
    for rows, future in ((2, futures[0]), (4, futures[2])):
        np.testing.assert_array_equal(pictures(future), batcher.generator.sample(rows, seed=rows))
    assert len(pictures(batcher.sample(1))) == 1
    batcher.close()
    assert recorder.batches[:2] == [(1, 1), (9, 3)] and recorder.waiting == 0


def test_the_rows_after_a_poisoned_one_of_the_same_request_are_not_computed() -> None:
    def fault(feeds: Feeds) -> Array | None:
        raise ValueError("always")

    session = GatedSession(fault=fault)
    batcher, recorder = make(session, largest_batch=4)
    with pytest.raises(BackendError, match="always"):
        batcher.sample(400).result(WAIT_S)
    batcher.close()
    assert len(session.batches) <= 3 and recorder.dropped == [("error", 400)]


def test_batches_that_do_not_fit_into_memory_become_smaller(caplog: pytest.LogCaptureFixture) -> None:
    def fault(feeds: Feeds) -> Array | None:
        if len(feeds["z"]) > 5:
            raise DeviceMemoryError("too little memory")
        return None

    session = GatedSession(fault=fault)
    batcher, _ = make(session, largest_batch=16)
    np.testing.assert_array_equal(pictures(batcher.sample(64, seed=1)), Generator(SPEC, FakeSession()).sample(64, 1))
    assert batcher.largest_batch == 4 and session.batches.count(16) == 1
    assert "a batch of 16 does not fit into memory; batches have 8 from now on" in caplog.text
    batcher.close()


def test_a_request_whose_single_rows_do_not_fit_into_memory_fails() -> None:
    def fault(feeds: Feeds) -> Array | None:
        raise DeviceMemoryError("too little memory")

    batcher, _ = make(GatedSession(fault=fault))
    with pytest.raises(DeviceMemoryError):
        batcher.sample(2).result(WAIT_S)
    assert batcher.largest_batch == 1
    batcher.close()


def test_a_device_that_fails_ends_everything() -> None:
    def fault(feeds: Feeds) -> Array | None:
        raise DeviceLostError("the GPU fell off the bus")

    session = GatedSession(is_open=False, fault=fault)
    batcher, recorder = make(session, largest_batch=2)
    first = hold_first_batch(batcher, session)
    others = [batcher.sample(3, seed=k) for k in range(4)]
    session.open_gate()
    for future in (first, *others):
        with pytest.raises(DeviceLostError, match="fell off the bus"):
            future.result(WAIT_S)
    with pytest.raises(DeviceLostError, match="fell off the bus"):
        batcher.sample(1)
    assert session.batches == [1]
    batcher.close()
    assert recorder.waiting == 0 and {reason for reason, _ in recorder.dropped} == {"device"}


def test_too_many_rows_are_rejected() -> None:
    session = GatedSession(is_open=False)
    batcher, recorder = make(session, most_rows=10)
    hold_first_batch(batcher, session)
    waiting = batcher.sample(6)
    with pytest.raises(OverloadedError, match=r"6 pictures wait, about 0.0 s; try again in 0.0 s") as raised:
        batcher.sample(5)
    assert raised.value.retry_after_s == 0.0 and recorder.dropped == [("full", 5)]
    assert batcher.sample(4) and batcher.waiting_rows == 10
    waiting.cancel()
    assert batcher.sample(6) and batcher.waiting_rows == 10
    session.open_gate()
    batcher.close()


def test_a_request_that_would_wait_too_long_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a batch of 4 rows that took 2 seconds, a row counts half a second."""
    session = GatedSession(is_open=False)
    moment = [100.0]
    monkeypatch.setattr("ganrt.serve.batcher.now", lambda: moment[0])
    batcher, recorder = make(session, largest_batch=4, longest_wait_s=0.0, longest_queue_s=3.0)
    first = batcher.sample(4)
    session.await_batch()
    moment[0] = 102.0
    session.open_gate()
    first.result(WAIT_S)
    await_rest(batcher)
    session.shut_gate()
    held = batcher.sample(4, seed=2)
    session.await_batch()
    batcher.sample(6, seed=3)
    with pytest.raises(OverloadedError, match=r"6 pictures wait, about 3.0 s; try again in 2.5 s"):
        batcher.sample(6, seed=4, timeout_s=0.5)  # its timeout is shorter than the queue may be
    assert batcher.sample(1, seed=5), "its turn comes after one row of the request ahead"
    with pytest.raises(OverloadedError, match=r"7 pictures wait, about 3.5 s; try again in 0.5 s") as raised:
        batcher.sample(6, seed=6)
    assert raised.value.retry_after_s == pytest.approx(0.5)
    session.open_gate()
    held.result(WAIT_S)
    batcher.close()
    assert recorder.dropped == [("full", 6), ("full", 6)]


def test_the_rate_is_that_of_batches_after_which_others_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture of 16 pixels takes 2 seconds while one of another size waits; alone, that takes 100 seconds."""
    moment = [0.0]

    def fault(feeds: Feeds) -> Array | None:
        moment[0] += 2.0 if feeds["x"].shape[-1] == 4 else 100.0
        return None

    monkeypatch.setattr("ganrt.serve.batcher.now", lambda: moment[0])
    session = GatedSession(UPSCALER, is_open=False, fault=fault)
    batcher, _ = make(session, UPSCALER, longest_wait_s=0.0, longest_queue_s=3.0)
    photos = [np.zeros((4, width, 3), np.uint8) for width in (4, 8)]
    futures = [batcher.transform(photos[0])]
    session.await_batch()
    futures.append(batcher.transform(photos[1]))
    session.open_gate()
    assert all(future.result(WAIT_S) for future in futures)
    await_rest(batcher)
    session.shut_gate()
    batcher.transform(photos[0])
    session.await_batch()
    batcher.transform(photos[0])
    assert batcher.transform(photos[0]), "16 pixels are ahead: 2 seconds"
    with pytest.raises(OverloadedError, match=r"2 pictures wait, about 4.0 s"):
        batcher.transform(photos[0])
    session.open_gate()
    batcher.close()


def test_an_idle_batcher_takes_what_takes_longer_than_the_queue_may() -> None:
    batcher, _ = make(GatedSession(), longest_queue_s=0.0)
    assert len(pictures(batcher.sample(500))) == 500
    assert len(pictures(batcher.sample(500))) == 500
    batcher.close()


def test_closing_computes_what_waits() -> None:
    session = GatedSession(is_open=False)
    batcher, _ = make(session)
    futures = [hold_first_batch(batcher, session), *(batcher.sample(3, seed=k) for k in range(3))]
    closing = threading.Thread(target=batcher.close)
    closing.start()
    while not batcher._closing:
        pass
    with pytest.raises(ClosedError, match="the batcher is closed"):
        batcher.sample(1)
    session.open_gate()
    closing.join(WAIT_S)
    assert all(future.result(0) for future in futures)
    batcher.close()


def test_closing_does_not_wait_for_cancelled_requests() -> None:
    for _ in range(50):
        batcher, recorder = make(GatedSession(), longest_wait_s=WAIT_S)
        batcher.sample(1).cancel()
        closing = threading.Thread(target=batcher.close, daemon=True)
        closing.start()
        closing.join(WAIT_S)
        assert not closing.is_alive() and recorder.waiting == 0


def test_closing_may_have_a_limit() -> None:
    session = GatedSession(is_open=False)
    batcher, recorder = make(session)
    first = hold_first_batch(batcher, session)
    waiting = batcher.sample(3)
    closing = threading.Thread(target=batcher.close, args=(0.01,))
    closing.start()
    with pytest.raises(ClosedError, match="closed before these pictures were made"):
        waiting.result(WAIT_S)
    session.open_gate()
    closing.join(WAIT_S)
    with pytest.raises(ClosedError):
        first.result(0)
    assert recorder.waiting == 0


def test_batchers_that_share_turns_compute_one_at_a_time() -> None:
    inside: list[int] = []
    most: list[int] = []

    def fault(feeds: Feeds) -> Array | None:
        inside.append(1)
        most.append(len(inside))
        threading.Event().wait(0.001)
        inside.pop()
        return None

    turns = FairLock()
    batchers = [Batcher(Generator(SPEC, GatedSession(fault=fault)), turns=turns, largest_batch=2) for _ in range(3)]
    futures = [batcher.sample(9, seed=k) for k in range(3) for batcher in batchers]
    assert all(future.result(WAIT_S) for future in futures)
    assert max(most) == 1
    for batcher in batchers:
        batcher.close()


def test_on_a_gpu_a_second_batch_is_prepared_while_the_first_is_handed_out() -> None:
    session = GatedSession()
    session.device = "cuda:0"
    generator = Generator(SPEC, session)
    with Batcher(generator, largest_batch=4) as batcher:
        assert len(batcher._threads) == 2
        futures = [batcher.sample(7, seed=k) for k in range(40)]
        for seed, future in enumerate(futures):
            np.testing.assert_array_equal(pictures(future), Generator(SPEC, FakeSession()).sample(7, seed))


def test_a_forked_child_has_to_make_its_own() -> None:
    batcher, _ = make(GatedSession())
    pid = os.fork()
    if not pid:
        try:
            batcher.sample(1)
        except BackendError as error:
            batcher.close()
            os._exit(0 if "make one in the child" in str(error) else 2)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    assert len(pictures(batcher.sample(1))) == 1
    batcher.close()


@pytest.mark.parametrize(
    ("ask", "kind", "message"),
    [
        (lambda b: b.sample(0), RequestError, "no pictures were asked for"),
        (lambda b: b.sample(10**12), TooLargeError, "1000000000000 pictures were asked for; at most 4096 are made"),
        (lambda b: b.sample(-1), RequestError, "n is -1"),
        (lambda b: b.sample(labels=3), RequestError, "has no classes"),
        (lambda b: b.sample(timeout_s=0.0), RequestError, "timeout_s is 0.0; it must be a number of seconds above 0"),
        (lambda b: b.sample(timeout_s=float("nan")), RequestError, "timeout_s is nan"),
        (lambda b: b.run({"y": [1]}), RequestError, "has no input 'y'"),
        (lambda b: b.run({"z": np.zeros((5000, 6))}), TooLargeError, "5000 pictures"),
        (lambda b: b.run({"z": np.zeros((0, 6))}), RequestError, "no pictures were asked for"),
        (lambda b: b.transform(np.zeros((4, 4, 3), np.uint8)), RequestError, "takes no pictures; use sample"),
    ],
)
def test_wrong_requests_are_rejected_at_once(ask: Any, kind: type[Exception], message: str) -> None:
    batcher, recorder = make(GatedSession())
    with pytest.raises(kind, match=message):
        ask(batcher)
    batcher.close()
    assert recorder.waiting == 0 and not recorder.batches


def test_a_model_that_takes_pictures_cannot_be_sampled() -> None:
    batcher, _ = make(GatedSession(UPSCALER), UPSCALER)
    with pytest.raises(RequestError, match="needs a picture; use transform"):
        batcher.sample(1)
    with pytest.raises(RequestError, match="no input 'strength'"):
        batcher.transform(np.zeros((4, 4, 3), np.uint8), strength=1.0)
    batcher.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"largest_batch": 0}, "largest_batch is 0; it must be a whole number from 1"),
        ({"most_rows": 0}, "most_rows is 0"),
        ({"longest_wait_s": -1.0}, "longest_wait_s is -1.0; it must be a number of seconds from 0"),
        ({"longest_queue_s": float("inf")}, "longest_queue_s is inf"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make(GatedSession(), **options)


def test_a_picture_that_is_too_small_for_the_network_is_said() -> None:
    def reflect(feeds: Feeds) -> Array:
        height, width = feeds["x"].shape[2:]
        if min(height, width) < 5:
            raise ValueError("padding is larger than the picture")
        return feeds["x"].repeat(2, axis=2).repeat(2, axis=3)

    session = GatedSession(UPSCALER, fault=reflect)
    batcher, _ = make(session, UPSCALER)
    small, large = (np.zeros((side, 8, 3), np.uint8) for side in (4, 6))
    futures = [batcher.transform(picture) for picture in (small, large)]
    with pytest.raises(RequestError, match=r"x is 8 x 4 pixels; this .* model needs at least 5 x 5"):
        futures[0].result(10)
    assert pictures(futures[1]).shape == (1, 12, 16, 3)
    batcher.close()
