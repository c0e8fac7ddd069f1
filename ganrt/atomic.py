"""Write files and folders atomically: they appear complete or not at all."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeAlias

from ganrt.errors import GanrtError, MachineError, RequestError

_DRAFT = re.compile(r"\.(.+)\.[0-9a-f]{8}", re.DOTALL)
"""Name of a draft: that of the file, with a random number."""
MOST_NAME = 255
"""Most bytes of a name in common file systems."""


def write_file(path: Path, content: bytes) -> None:
    """Write a file atomically: readers see the old content or the new content, never a part of it.

    Creates missing parent folders. Raises MachineError if the file cannot be written.
    """
    with new_file(path) as file:
        file.write(content)


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield a draft file to write to; it replaces `path` when the block ends without an error, and is deleted
    otherwise.

    Creates missing parent folders. Raises MachineError if the file cannot be written.
    """
    path = Path(path)
    with translate_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = name_draft(path)
        try:
            with draft.open("x+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


FolderCheck: TypeAlias = Callable[[Path], bool]
"""Returns True for a folder that this command wrote earlier, so that it may be replaced."""


def check_output(path: Path, overwrite: bool, may_replace: FolderCheck | None = None) -> None:
    """Check that an output can be written, before the work that makes it.

    Args:
        path: the file or folder to be written.
        overwrite: replace what is there.
        may_replace: None if the output is a file. If it is a folder, an existing one is replaced only if it is empty or
            if `may_replace(path)` is True.

    Raises RequestError if `path` exists and must not be replaced, MachineError if it cannot be written.
    """
    path = Path(path)
    with translate_os_errors(path):
        exists = path.exists() or path.is_symlink()
        if exists and not overwrite:
            raise RequestError(f"{path} exists already; choose another name, or add --overwrite")
        if exists and not (path.is_dir() if may_replace else path.is_file()):
            raise RequestError(
                f"{path} is not a {'folder' if may_replace else 'file'}, so it is not replaced; choose another name"
            )
        if exists and may_replace:
            if Path.cwd().is_relative_to(path.resolve()):
                raise RequestError(f"{path} is or contains the current folder; choose another name")
            if any(path.iterdir()) and not may_replace(path):
                raise RequestError(f"{path} was not made by this command, so it is not replaced; choose another name")
        parent = path.parent
        while not parent.exists():
            parent = parent.parent
        trial = name_draft(parent / path.name)
        trial.mkdir()
        trial.rmdir()


@contextmanager
def new_folder(path: Path, overwrite: bool = False, may_replace: FolderCheck = lambda _: False) -> Iterator[Path]:
    """Yield an empty draft folder beside `path`; rename it to `path` when the block ends without an error.

    On an error the draft is deleted. A killed process leaves at most a hidden folder `.NAME.*`, which nothing loads.
    Arguments and errors are those of `check_output`.
    """
    path = Path(path)
    check_output(path, overwrite, may_replace)
    with _remove_in_the_end(_make_draft(path)) as draft:
        yield draft
        check_output(path, overwrite, may_replace)
        with translate_os_errors(path):
            _replace_folder(draft, path)


@contextmanager
def new_draft(path: Path) -> Iterator[Path]:
    """Yield an empty draft folder beside `path`, from which the block moves what it has made; then remove the rest.

    Raises MachineError for an operating system's error in the block.
    """
    with _remove_in_the_end(_make_draft(path)) as draft, translate_os_errors(path):
        yield draft


def _make_draft(path: Path) -> Path:
    with translate_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = name_draft(path)
        draft.mkdir()
    return draft


@contextmanager
def _remove_in_the_end(folder: Path) -> Iterator[Path]:
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _replace_folder(draft: Path, path: Path) -> None:
    """Rename `draft` to `path`. If that fails, the old folder is restored."""
    if not path.exists():
        draft.replace(path)
        return
    target = path.resolve()  # keeps a symbolic link a link
    old = name_draft(target)
    target.replace(old)
    try:
        draft.replace(target)
    except BaseException:
        old.replace(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def list_drafts(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield what killed processes left in a folder: the name of each file or folder that they began, shortened by
    `shorten_name`, and its draft."""
    for path in list(folder.iterdir()):
        found = _DRAFT.fullmatch(path.name)
        if found:
            yield found[1], path


def shorten_name(name: str) -> str:
    """The part of a name that the names of its drafts hold: all of it, unless it is so long that they would not fit."""
    content = os.fsencode(name)
    most = MOST_NAME - len(".") - len(".") - 8
    return name if len(content) <= most else content[:most].decode(errors="ignore")


def name_draft(path: Path) -> Path:
    """An unused hidden name on the same file system."""
    return path.with_name(f".{shorten_name(path.name)}.{secrets.token_hex(4)}")


@contextmanager
def translate_os_errors(path: Path) -> Iterator[None]:
    """Raise MachineError, naming the path, for an operating system's error in the block."""
    try:
        yield
    except GanrtError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name, or no name at all
        raise MachineError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}") from error
