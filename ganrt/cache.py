"""Cache folders of this user for proofs, tuned records and engines.

Files in them are trusted, so a folder must belong to the user and must not be writable by others. ganrt works without
proofs and tuned records: where their folders cannot be used, as in many containers, it says so once per process.
"""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from ganrt import atomic
from ganrt.errors import MachineError, MissingLibraryError

VARIABLE = "GANRT_CACHE"
"""Environment variable with an absolute path, the folder of the caches; empty is as if it were not set."""
OPTIONAL = ("proofs", "tuned")
"""Names of the caches that ganrt can do without."""
_log = logging.getLogger(__name__)
_has_warned = False


def cache_root(extra: str = "cpu", purpose: str = "the cache") -> Path:
    """Return the folder that holds the caches, which need not exist: GANRT_CACHE, or else `ganrt` in the user's cache
    folder (XDG_CACHE_HOME, or `.cache` in the home folder).

    Args:
        extra: the extra of ganrt to install if platformdirs is missing.
        purpose: what it is needed for then.

    Raises MachineError if there is none; MissingLibraryError without platformdirs.
    """
    own = os.environ.get(VARIABLE)
    if own and not Path(own).is_absolute():
        raise MachineError(f"{VARIABLE} is {own!r}, which is not an absolute path")
    if own:
        return Path(own)
    try:
        import platformdirs
    except ImportError as error:
        raise MissingLibraryError("platformdirs", extra, purpose) from error
    try:
        root = platformdirs.user_cache_path("ganrt")
    except RuntimeError:  # newer versions of platformdirs
        root = Path()
    if not root.is_absolute():
        raise MachineError(
            f"the user {os.getuid()} has no home folder, so there is no folder for the cache: set {VARIABLE} to one"
        )
    return root


def cache_folder(name: str, extra: str = "cpu") -> Path:
    """Return a folder of the user's cache; create it if it is missing.

    Args:
        name: `proofs`, `tuned`, `engines` or `bundles`.
        extra: the extra of ganrt to install if platformdirs is missing.

    Raises MachineError if there is no place for it, or if it cannot be created, belongs to another user or is writable
    by others; MissingLibraryError without platformdirs.
    """
    path = cache_root(extra, f"the cache of {name}") / name
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return _require_private(path, name)
    except OSError as error:
        raise MachineError(f"{path}, the cache of {name}, cannot be created: {error.strerror}") from error


def find_cache_folder(name: str, extra: str = "cpu") -> Path | None:
    """Like `cache_folder`, but return None if the folder does not exist."""
    path = cache_root(extra, f"the cache of {name}") / name
    try:
        return _require_private(path, name)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise MachineError(f"{path}, the cache of {name}, cannot be read: {error.strerror}") from error


def check_cache() -> None:
    """Raise MachineError if proofs or tuned records cannot be kept, MissingLibraryError without platformdirs. Creates
    nothing."""
    for name in OPTIONAL:
        path = find_cache_folder(name) or cache_root() / name
        existing = next(folder for folder in (path, *path.parents) if folder.exists())
        if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
            raise MachineError(f"{path}, the cache of {name}, cannot be written: {existing} does not allow it")


def find_optional_folder(name: str) -> Path | None:
    """Return the folder of a cache that ganrt can do without. None if it does not exist, or, with a warning, if it
    cannot be used. Raises MissingLibraryError without platformdirs."""
    try:
        return find_cache_folder(name)
    except MissingLibraryError:
        raise
    except MachineError as error:
        _warn_once(error)
        return None


def write_cached_file(folder: str, name: str, content: bytes) -> None:
    """Write a file of a cache that ganrt can do without; warn if that fails. Raises MissingLibraryError without
    platformdirs."""
    try:
        atomic.write_file(cache_folder(folder) / name, content)
    except MissingLibraryError:
        raise
    except MachineError as error:
        _warn_once(error)


def _warn_once(error: MachineError) -> None:
    """Log why a cache cannot be used: as a warning once in a process, then as information."""
    global _has_warned
    level = logging.INFO if _has_warned else logging.WARNING
    _has_warned = True
    _log.log(level, "%s. ganrt works without it: it proves a variant at every load and uses no tuned record", error)


def _require_private(path: Path, name: str) -> Path:
    status = path.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise MachineError(
            f"{path}, the cache of {name}, belongs to another user or is writable by others, so its files cannot be "
            "trusted: delete it, or run chmod 700 on it if its files are yours"
        )
    if not os.access(path, os.R_OK | os.X_OK):
        raise MachineError(f"{path}, the cache of {name}, cannot be read: run chmod 700 on it")
    return path
