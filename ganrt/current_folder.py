"""A current folder that exists, for libraries that cannot start without one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def existing_current_folder() -> Iterator[None]:
    """Make `/` the current folder inside this block if the current one was deleted, as happens to a service whose
    release was replaced. Relative paths lead nowhere then, so other threads lose nothing."""
    try:
        Path.cwd()
    except FileNotFoundError:
        deleted = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.chdir("/")
            yield
            return
        finally:
            os.fchdir(deleted)
            os.close(deleted)
    yield
