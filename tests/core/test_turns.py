"""The lock of a Generator is held for a batch: requests of several threads take turns, in order of arrival."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fakes.sessions import SPEC, UPSCALER, FakeSession, images

from ganrt import feeds
from ganrt.backend import Pending, PictureSession, Ready
from ganrt.errors import BackendError
from ganrt.feeds import Array, Feeds
from ganrt.generator import Generator
from ganrt.images import to_uint8
from ganrt.sample_request import Draw
from ganrt.spec import Spec

_WAIT_S = 20


class Gated(FakeSession):
    """Computes a batch for each release of `gate`, and notes whose it is: the value that all its rows begin with."""

    def __init__(self, spec: Spec = SPEC) -> None:
        super().__init__(spec)
        self.gate, self.begun = threading.Semaphore(0), threading.Semaphore(0)
        self.owners: list[str] = []

    def run(self, feeds: Feeds) -> Array:
        self.owners.append(threading.current_thread().name.split("_")[0])
        self.begun.release()
        assert self.gate.acquire(timeout=_WAIT_S)
        return super().run(feeds)

    def step(self) -> None:
        """Finish the batch under way and wait until the next one began."""
        self.gate.release()
        assert self.begun.acquire(timeout=_WAIT_S)


@contextmanager
def thread(name: str, act: Callable[[], Any]) -> Iterator[Future[Any]]:
    with ThreadPoolExecutor(1, name) as worker:
        yield worker.submit(act)


def wait_until_waiting(generator: Generator, others: int) -> None:
    """Wait until some threads queue for the lock."""
    for _ in range(20_000):
        if len(generator._lock._waiting) >= others:
            return
        threading.Event().wait(0.001)
    raise AssertionError("nobody waits for the lock")


TILED = replace(UPSCALER, output=replace(UPSCALER.output, reach=1))

LARGE: dict[str, tuple[Spec, Callable[[Generator], Any]]] = {
    "sample": (SPEC, lambda g: g.sample(200, 3)),
    "call": (SPEC, lambda g: g(z=np.ones((200, 6)))),
    "stream": (SPEC, lambda g: list(g.stream(200, 3, batch=32))),
    "one array of a stream": (SPEC, lambda g: list(g.stream(200, 3, batch=200))),
    "tiles": (TILED, lambda g: g.transform(np.zeros((32, 64, 3), np.uint8), tile=8)),
    "many pictures": (UPSCALER, lambda g: g.transform(np.zeros((7, 512, 512, 3), np.uint8))),
}
SMALL: dict[Spec, Callable[[Generator], Any]] = {
    SPEC: lambda g: g.sample(1, 5),
    UPSCALER: lambda g: g.transform(np.zeros((4, 4, 3), np.uint8)),
}


@pytest.mark.parametrize("large", LARGE)
def test_small_requests_wait_for_one_batch_each_in_order_of_arrival(large: str) -> None:
    spec, act = LARGE[large]
    model = SPEC if spec is SPEC else UPSCALER
    session, small = Gated(model), SMALL[model]
    generator = Generator(spec, session)
    name = "ganrt-stream" if "stream" in large else "large"
    with thread("large", lambda: act(generator)) as slow:
        assert session.begun.acquire(timeout=_WAIT_S)
        with thread("first", lambda: small(generator)) as first:
            wait_until_waiting(generator, 1)
            with thread("second", lambda: small(generator)) as second:
                wait_until_waiting(generator, 2)
                session.step()
                session.step()
                session.step()
                assert session.owners == [name, "first", "second", name]
                assert first.result(_WAIT_S).dtype == second.result(_WAIT_S).dtype == np.uint8
                assert not slow.done()
                session.gate.release(1000)
                slow.result(_WAIT_S)
    assert set(session.owners[3:]) == {name}


def test_pictures_do_not_depend_on_other_requests() -> None:
    class Yielding(FakeSession):
        def run(self, feeds: Feeds) -> Array:
            threading.Event().wait(0)  # lets another thread run
            return super().run(feeds)

    generator = Generator(SPEC, Yielding())
    right = Generator(SPEC, FakeSession()).sample(500, 3)
    with ThreadPoolExecutor(4) as threads:
        for k, found in enumerate(threads.map(lambda k: generator.sample(100, 3, 100 * (k % 5)), range(20))):
            np.testing.assert_array_equal(found, right[100 * (k % 5) :][:100])


class TwoSlots(FakeSession, PictureSession):
    """A session with two batches in flight, which are computed when they are waited for, in the order of submission."""

    def __init__(self) -> None:
        super().__init__(SPEC)
        self.flying: list[Any] = []
        self.waited = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.most = 0
        self.fails_at: int | None = None
        self.number = 0

    def submit_draw(self, draw: Draw) -> Pending:
        session, number = self, self.number
        self.number += 1
        owner = threading.get_ident()

        class Flying(Ready):
            def wait(self) -> dict[str, Array]:
                assert session.flying[0] is self, "batches are waited for in the order of submission"
                session.waited.release()
                assert session.gate.acquire(timeout=_WAIT_S)
                session.flying.pop(0)
                if session.fails_at == number:
                    raise BackendError("the GPU failed")
                return {"image": to_uint8(images(SPEC, feeds.draw_rows(SPEC, draw)), SPEC.output.range)}

        pending = Flying({})
        self.flying.append(pending)
        assert len(self.flying) <= 2
        assert not any(one.owner != owner for one in self.flying[:-1]), "batches of two threads are in flight"
        pending.owner = owner  # type: ignore[attr-defined]
        self.most = max(self.most, len(self.flying))
        return pending


def test_what_is_in_flight_is_waited_for_before_the_lock_is_handed_over() -> None:
    session = TwoSlots()
    generator = Generator(SPEC, session)
    with thread("large", lambda: generator.sample(320, 3)) as slow:
        assert session.waited.acquire(timeout=_WAIT_S)
        assert len(session.flying) == 2
        with thread("small", lambda: generator.sample(1, 5)) as small:
            wait_until_waiting(generator, 1)
            session.gate.release(3)
            assert len(small.result(_WAIT_S)) == 1
            assert session.number >= 3 and not slow.done()
            session.gate.release(1000)
            np.testing.assert_array_equal(slow.result(_WAIT_S), Generator(SPEC, FakeSession()).sample(320, 3))
    assert session.most == 2 and session.flying == []


@pytest.mark.parametrize("fails_at", [0, 1, 2, 9])
def test_a_batch_that_fails_leaves_the_lock_free_and_nothing_in_flight(fails_at: int) -> None:
    session = TwoSlots()
    session.gate.release(1000)
    session.fails_at = fails_at
    generator = Generator(SPEC, session)
    with pytest.raises(BackendError, match="the GPU failed"):
        generator.sample(320, 3)
    assert session.flying == []
    with thread("other", lambda: generator.sample(3, 3)) as other:
        assert len(other.result(_WAIT_S)) == 3


def test_a_submit_that_fails_leaves_the_lock_free() -> None:
    class Failing(FakeSession):
        def run(self, feeds: Feeds) -> Array:
            if len(self.batches) == 2:
                self.batches.append(0)
                raise RuntimeError("out of memory")
            return super().run(feeds)

    generator = Generator(SPEC, Failing())
    with pytest.raises(BackendError, match="out of memory"):
        generator.sample(320)
    with thread("other", lambda: generator.sample(3)) as other:
        assert len(other.result(_WAIT_S)) == 3


def test_closing_waits_for_a_batch_and_ends_the_rest() -> None:
    session = Gated()
    generator = Generator(SPEC, session)
    with thread("large", lambda: generator.sample(320)) as slow:
        assert session.begun.acquire(timeout=_WAIT_S)
        with thread("closing", generator.close) as closing:
            wait_until_waiting(generator, 1)
            session.gate.release(1)
            closing.result(_WAIT_S)
            with pytest.raises(BackendError, match="this fake session is closed"):
                slow.result(_WAIT_S)
    assert session.owners == ["large"]
