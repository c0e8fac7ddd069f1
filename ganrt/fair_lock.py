"""`FairLock`: a lock that threads get in the order in which they asked for it."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from ganrt import forking

if TYPE_CHECKING:
    from types import TracebackType


class _Waiter(NamedTuple):
    thread: int
    turn: threading.Lock
    """Held until the lock is handed over."""


class FairLock:
    """Mutual exclusion in order of arrival, as a context manager.

    A thread that releases a `threading.Lock` and takes it again at once usually gets it, however long others have
    waited. Here it goes to the back of the queue. Not reentrant. In a forked child, the lock is free unless the thread
    that forked holds it.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[_Waiter] = deque()
        self._owner: int | None = None
        forking.renew_in_child(self)

    @property
    def has_waiters(self) -> bool:
        """True if other threads wait for the lock: its owner should let them in soon."""
        return bool(self._waiting)

    @property
    def is_mine(self) -> bool:
        """True if the calling thread holds the lock."""
        return self._owner == threading.get_ident()

    def __enter__(self) -> None:
        me = threading.get_ident()
        with self._guard:
            if self._owner is None:
                self._owner = me
                return
            waiter = _Waiter(me, threading.Lock())
            waiter.turn.acquire()
            self._waiting.append(waiter)
        try:
            waiter.turn.acquire()
        except BaseException:  # Ctrl-C while waiting: the lock may have been handed over already
            self._give_up(waiter)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._guard:
            self._hand_over()

    def start_child(self) -> None:
        """Forget the other threads, which do not exist in a forked child."""
        self._guard = threading.Lock()
        self._waiting = deque()
        self._owner = self._owner if self.is_mine else None

    def _hand_over(self) -> None:
        if self._waiting:
            following = self._waiting.popleft()
            self._owner = following.thread
            following.turn.release()
        else:
            self._owner = None

    def _give_up(self, waiter: _Waiter) -> None:
        with self._guard:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            else:
                self._hand_over()
