"""The folder of a job: what is in it, and removing what a killed process left."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from ganrt import atomic

_MADE = re.compile(r"shard-\d{6,}(?:\.npz|\.tar|\.parquet)?|\d{8,20}\.png|job\.json|\.ganrt-job\.json")
"""Names that a job gives."""


def holds_only_pictures(folder: Path) -> bool:
    """Return whether everything in a folder has a name that a job gives, or is a draft of such a file."""
    drafts = _list_drafts(folder)
    return all(_MADE.fullmatch(path.name) or path in drafts for path in folder.iterdir())


def is_unused(folder: Path) -> bool:
    """Return whether a folder holds nothing, or only what a process left that was killed before it made anything."""
    drafts = _list_drafts(folder)
    return all(path in drafts for path in folder.iterdir())


def _list_drafts(folder: Path) -> set[Path]:
    return {path for name, path in atomic.list_drafts(folder) if _MADE.fullmatch(name)}


def remove_drafts(folder: Path) -> None:
    """Remove what a killed process had not finished."""
    for path in _list_drafts(folder):
        _remove(path)


def clear_folder(folder: Path) -> None:
    """Remove all that a job has made; its record goes first, so that a rest of it is never taken for a job."""
    for path in sorted(folder.iterdir(), key=lambda path: not path.name.endswith("job.json")):
        if _MADE.fullmatch(path.name):
            _remove(path)
    remove_drafts(folder)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
