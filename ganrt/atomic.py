"""Files and folders that are either there whole or not there at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ganrt.errors import MachineError, RequestError


def write_file(path: Path, content: bytes) -> None:
    """Write a file in one step: a reader sees the old content or the new, never a part. Raises MachineError."""
    path = Path(path)
    with _translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = _beside(path)
        try:
            with draft.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


def check_output(path: Path, overwrite: bool) -> None:
    """Raise RequestError when something is already there that may not be replaced: long work should not end with that
    news."""
    path = Path(path)
    if not overwrite and (path.exists() or path.is_symlink()):
        raise RequestError(f"{path} exists already; choose another name, or add --overwrite")
    if path.is_dir() and Path.cwd().is_relative_to(path.resolve()):
        raise RequestError(f"{path} is the folder you are in, or contains it; choose another name")


@contextmanager
def new_folder(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """Fill a folder beside `path` and give it that name when the block ends without an error.

    A killed process leaves at most a hidden folder `.NAME.*`, which nothing loads. Raises RequestError when `path`
    exists and `overwrite` is false, MachineError when it cannot be written.
    """
    path = Path(path)
    check_output(path, overwrite)
    with _translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = _beside(path)
        draft.mkdir()
    try:
        yield draft
        check_output(path, overwrite)
        with _translated(path):
            _swap(draft, path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _swap(draft: Path, path: Path) -> None:
    """Give `draft` the name `path`; what was there comes back when that fails."""
    if path.is_dir() and not path.is_symlink():
        old = _beside(path)
        path.replace(old)
        try:
            draft.replace(path)
        except OSError:
            old.replace(path)
            raise
        shutil.rmtree(old, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
        draft.replace(path)


def _beside(path: Path) -> Path:
    """A hidden name that is not taken, on the same file system."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name, or no name at all
        raise MachineError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}") from error
