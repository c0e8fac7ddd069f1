"""A lock on the folder of a job: one process at a time writes it."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ganrt import atomic
from ganrt.errors import RequestError


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold a folder that is there, until the block or the process ends. Raises RequestError if another process has it.

    File systems without such locks are used without.
    """
    opened = os.open(folder, os.O_RDONLY)
    try:
        _lock(opened, folder)
        yield
    finally:
        os.close(opened)


@contextmanager
def hold_work_folder(folder: Path, target: Path) -> Iterator[None]:
    """Make the folder in which a job keeps what it makes, if it is not there, and hold it until the block or the
    process ends. Who holds it may remove it; it is removed in the end if nothing is in it.

    Raises RequestError, naming the job's `target`, if another process has it; MachineError if it cannot be made.
    """
    while True:
        with atomic.translate_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            opened = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # who held it has removed it
            continue
        try:
            _lock(opened, target)
            if not _is_at(folder, opened):
                continue
            try:
                yield
            finally:
                with suppress(OSError):
                    folder.rmdir()
            return
        finally:
            os.close(opened)


def _lock(opened: int, name: Path) -> None:
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno == errno.EWOULDBLOCK:
            raise RequestError(f"another process is writing {name}; wait for it, or stop it first") from error


def _is_at(folder: Path, opened: int) -> bool:
    """Whether an open folder still has its name: it may have been removed, and made anew, before it was locked."""
    try:
        return os.path.samestat(folder.stat(), os.fstat(opened))
    except FileNotFoundError:
        return False
