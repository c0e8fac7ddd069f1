"""Files and folders that are either there whole or not there at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ganrt.errors import MachineError, RequestError


def write_file(path: Path, content: bytes) -> None:
    """Write a file in one step: a reader sees the old content or the new, never a part. Raises MachineError."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        draft = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.chmod(0o666 & ~_umask())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise MachineError(f"{path} cannot be written: {error.strerror or error}") from error


def check_output(path: Path, overwrite: bool) -> None:
    """Raise RequestError when something is already there that may not be replaced: long work should not end with that
    news."""
    if not overwrite and (path.exists() or path.is_symlink()):
        raise RequestError(f"{path} exists already; choose another name, or add --overwrite")


@contextmanager
def new_folder(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """Fill a folder beside `path` and give it that name when the block ends without an error.

    A killed process leaves at most a hidden folder `.NAME.*`, which nothing loads. Raises RequestError when `path`
    exists and `overwrite` is false, MachineError when it cannot be written.
    """
    path = Path(path)
    check_output(path, overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise MachineError(f"{path} cannot be written: {error.strerror or error}") from error
    try:
        yield draft
        _swap(draft, path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _swap(draft: Path, path: Path) -> None:
    try:
        draft.chmod(0o777 & ~_umask())
        if path.is_dir() and not path.is_symlink():
            with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as old:
                path.replace(Path(old) / "old")
                draft.replace(path)
        else:
            path.unlink(missing_ok=True)
            draft.replace(path)
    except OSError as error:
        raise MachineError(f"{path} cannot be written: {error.strerror or error}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
