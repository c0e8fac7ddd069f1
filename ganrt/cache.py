"""The folders in which this machine remembers proofs, tuned records and engines.

What lies in them is trusted, so a folder must belong to this user, and nobody else may be able to write to it.
"""

from __future__ import annotations

import os
from pathlib import Path

from ganrt.errors import MachineError, MissingLibraryError


def cache_folder(name: str, extra: str = "cpu") -> Path:
    """The folder `name` of the user's cache, created if it is not there.

    Args:
        name: `proofs`, `tuned` or `engines`.
        extra: the extra of ganrt that installs platformdirs for the caller.

    Raises MachineError when it cannot be created, or when others own it or can write to it; MissingLibraryError without
    platformdirs.
    """
    path = _path(name, extra)
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise MachineError(f"{path}, the cache of {name}, cannot be created: {error.strerror}") from error
    return _require_private(path, name)


def find_cache_folder(name: str, extra: str = "cpu") -> Path | None:
    """The same for reading: None where there is no such folder."""
    path = _path(name, extra)
    return _require_private(path, name) if path.is_dir() else None


def _path(name: str, extra: str) -> Path:
    try:
        import platformdirs
    except ImportError as error:
        raise MissingLibraryError("platformdirs", extra, f"the cache of {name}") from error
    return platformdirs.user_cache_path("ganrt") / name


def _require_private(path: Path, name: str) -> Path:
    status = path.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise MachineError(
            f"{path}, the cache of {name}, belongs to another user or can be written to by others, so nothing in it "
            "can be trusted: delete it, or run chmod 700 on it if its files are yours"
        )
    return path
