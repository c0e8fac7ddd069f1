"""A lock on the folder of a job: one process at a time writes it."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ganrt.errors import RequestError


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold a folder that is there, until the block or the process ends. Raises RequestError if another process has it.

    File systems without such locks are used without.
    """
    opened = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno == errno.EWOULDBLOCK:
                raise RequestError(f"another process is writing {folder}; wait for it, or stop it first") from error
        yield
    finally:
        os.close(opened)
