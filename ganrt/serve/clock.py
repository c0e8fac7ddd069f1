"""The only module of the server that reads a clock."""

from __future__ import annotations

import time


def now() -> float:
    """Return seconds of a monotonic clock; only differences are meaningful."""
    return time.monotonic()
