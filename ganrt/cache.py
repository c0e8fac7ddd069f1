"""Cache folders of this user for proofs, tuned records and engines.

Files in them are trusted, so a folder must belong to the user and must not be writable by others.
"""

from __future__ import annotations

import os
from pathlib import Path

from ganrt.errors import MachineError, MissingLibraryError


def cache_folder(name: str, extra: str = "cpu") -> Path:
    """Return a folder of the user's cache; create it if it is missing.

    Args:
        name: `proofs`, `tuned` or `engines`.
        extra: the extra of ganrt to install if platformdirs is missing.

    Raises MachineError if it cannot be created, belongs to another user or is writable by others; MissingLibraryError
    without platformdirs.
    """
    path = _path(name, extra)
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise MachineError(f"{path}, the cache of {name}, cannot be created: {error.strerror}") from error
    return _require_private(path, name)


def find_cache_folder(name: str, extra: str = "cpu") -> Path | None:
    """Like `cache_folder`, but return None if the folder does not exist."""
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
            f"{path}, the cache of {name}, belongs to another user or is writable by others, so its files cannot be "
            "trusted: delete it, or run chmod 700 on it if its files are yours"
        )
    return path
