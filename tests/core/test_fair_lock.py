"""The lock serves threads in order of arrival."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from ganrt.fair_lock import FairLock


def _wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.001)


def _has_waiters(lock: FairLock, count: int) -> bool:
    return len(lock._waiting) == count


def test_one_thread_at_a_time() -> None:
    lock, inside, most = FairLock(), [], []

    def work() -> None:
        for _ in range(50):
            with lock:
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}
    assert not lock.has_waiters


def test_the_order_is_that_of_arrival() -> None:
    lock, order = FairLock(), []

    def wait(name: int) -> None:
        with lock:
            order.append(name)

    threads = [threading.Thread(target=wait, args=(name,)) for name in range(5)]
    with lock:
        for count, thread in enumerate(threads, 1):
            thread.start()
            _wait_until(partial(_has_waiters, lock, count))
    with lock:  # takes its place behind the five
        order.append(99)
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4, 99]


def test_it_says_whether_others_wait() -> None:
    lock, entered = FairLock(), threading.Event()

    def wait() -> None:
        with lock:
            entered.set()

    with lock:
        assert lock.is_mine
        assert not lock.has_waiters
        thread = threading.Thread(target=wait)
        thread.start()
        _wait_until(lambda: lock.has_waiters)
        assert not entered.is_set()
    thread.join()
    assert entered.is_set()
    assert not lock.is_mine


@pytest.mark.parametrize("handed_over", [False, True])
def test_an_interrupted_wait_leaves_the_lock_usable(handed_over: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while waiting, before and after the owner has handed the lock over."""
    lock, make_lock = FairLock(), threading.Lock

    class Interrupted:
        def __init__(self) -> None:
            self.calls = 0

        def acquire(self) -> None:
            self.calls += 1
            if self.calls == 2:
                if handed_over:
                    lock.__exit__(None, None, None)
                raise KeyboardInterrupt

        def release(self) -> None:
            pass

    lock.__enter__()
    monkeypatch.setattr(threading, "Lock", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        lock.__enter__()
    monkeypatch.setattr(threading, "Lock", make_lock)
    if not handed_over:
        lock.__exit__(None, None, None)
    assert lock._owner is None
    with lock:
        pass
