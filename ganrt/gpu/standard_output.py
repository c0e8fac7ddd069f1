"""Standard output belongs to the results of a command (`--json`), and NVIDIA's libraries print warnings to it."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.RLock()


@contextmanager
def redirect_to_stderr() -> Iterator[None]:
    """Send what this process prints to standard output to standard error. It is the file descriptor that is redirected,
    so what other threads print meanwhile goes there too."""
    with _lock:
        try:
            kept = os.dup(1)
        except OSError:  # closed, as in a daemon
            yield
            return
        if sys.stdout is not None:
            sys.stdout.flush()
        flush_all = ctypes.CDLL(None).fflush  # of C, whose buffers are its own
        flush_all(None)
        try:
            os.dup2(2, 1)
            yield
        finally:
            flush_all(None)
            os.dup2(kept, 1)
            os.close(kept)
