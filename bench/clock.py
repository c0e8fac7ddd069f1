"""The only module that reads a clock."""

from __future__ import annotations

import os
import time
from datetime import datetime, timezone


def now_ns() -> int:
    """Return nanoseconds of a monotonic clock; only differences are meaningful."""
    return time.perf_counter_ns()


def cpu_time_ns() -> int:
    """Return the CPU time that all threads of this process have used, in nanoseconds."""
    return time.process_time_ns()


def children_cpu_time_ns() -> int:
    """Return the CPU time of all processes that this one started and has waited for, and of theirs, in nanoseconds."""
    used = os.times()
    return round((used.children_user + used.children_system) * 1e9)


def wait(seconds: float) -> None:
    """Sleep."""
    time.sleep(seconds)


def now_utc() -> str:
    """Return the date and time in UTC, to the second: `2026-01-31T12:00:00+00:00`."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
