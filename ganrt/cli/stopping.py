"""Signals that ask a long job to end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass
class StopRequest:
    """Whether a job is asked to end."""

    number: int = 0
    """Of the signal that asked; 0 while there was none."""

    @property
    def name(self) -> str:
        """Of the signal."""
        return signal.Signals(self.number).name

    @property
    def exit_code(self) -> int:
        """What a shell expects of a program that the signal stopped."""
        return 128 + self.number


@contextmanager
def watch_signals() -> Iterator[StopRequest]:
    """Note SIGTERM and SIGINT (Ctrl-C) instead of ending at once; the second signal ends at once. In another thread
    than the main one, which gets the signals, nothing is noted."""
    asked = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, _: FrameType | None) -> None:
        asked.number = number
        restore()

    for number in _SIGNALS:
        signal.signal(number, note)
    try:
        yield asked
    finally:
        restore()
