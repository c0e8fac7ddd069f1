"""`ByteBudget`: bounds the memory of all requests that a server handles at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ganrt.errors import OverloadedError, TooLargeError
from ganrt.machine import usable_memory

_SHARE = 4
"""Requests may use one of so many parts of the memory."""
_RETRY_AFTER_S = 1.0


class Reservation:
    """Bytes of one request, taken from a budget."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self.bytes = 0
        """Bytes that are taken."""

    def grow(self, count: int) -> None:
        """Take more bytes. Raises TooLargeError if the request alone exceeds the budget, OverloadedError if it does so
        together with others; nothing is taken then."""
        budget = self._budget
        if self.bytes + count > budget.limit:
            raise TooLargeError(
                f"the request needs {self.bytes + count} bytes of memory; the server has {budget.limit}"
            )
        with budget.lock:
            if budget.taken + count > budget.limit:
                raise OverloadedError(
                    "other requests use the memory of the server; try again in a moment", _RETRY_AFTER_S
                )
            budget.taken += count
        self.bytes += count

    def shrink_to(self, count: int) -> None:
        """Give back all but `count` bytes."""
        with self._budget.lock:
            self._budget.taken -= self.bytes - count
        self.bytes = count


class ByteBudget:
    """Bytes that requests share."""

    def __init__(self, limit: int | None = None) -> None:
        """Args: limit: bytes; None for a quarter of the memory that the process may use."""
        self.limit = limit if limit is not None else usable_memory() // _SHARE
        """Bytes in all."""
        self.taken = 0
        """Bytes that requests have taken; changed with the lock held."""
        self.lock = threading.Lock()

    @contextmanager
    def reserve(self) -> Iterator[Reservation]:
        """Yield a reservation without bytes; what it has taken is given back at the end."""
        reservation = Reservation(self)
        try:
            yield reservation
        finally:
            reservation.shrink_to(0)
