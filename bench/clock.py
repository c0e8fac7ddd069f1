"""The only file of the product that reads a clock."""

from __future__ import annotations

import time
from datetime import datetime, timezone


def now_ns() -> int:
    """Nanoseconds of a clock that never goes back; only differences mean anything."""
    return time.perf_counter_ns()


def processor_ns() -> int:
    """Processor time that all threads of this process have used, in nanoseconds."""
    return time.process_time_ns()


def wait(seconds: float) -> None:
    """Do nothing for a while."""
    time.sleep(seconds)


def date() -> str:
    """Now, as UTC to the second: `2026-01-31T12:00:00+00:00`."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
