"""The folder of a job: what is in it, and removing what a killed process left."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from ganrt import atomic
from ganrt.shards.formats import PNG_MARK

_RECORD = re.compile(r"job\.json|\.ganrt-job\.json")
_SHARD_FILE = re.compile(r"shard-\d{6,}\.(?:npz|tar|parquet)")
_SHARD_FOLDER = re.compile(r"shard-\d{6,}")
_PICTURE = re.compile(r"\d{8,20}\.png")
_MADE = re.compile("|".join(name.pattern for name in (_RECORD, _SHARD_FILE, _SHARD_FOLDER, _PICTURE)))
"""Names that a job gives."""
_OF_RECORDS = ("bundle", "libraries")
"""What every record says."""
_LARGEST_RECORD = 1 << 26
_HEAD = 4096
"""Bytes of a PNG file in which its text chunks are."""


def was_made_by_jobs(folder: Path) -> bool:
    """Return whether all that is in a folder was made by jobs, so that it may be removed.

    Names alone do not say so: other programs name shards alike too, and cameras their photographs. Shards have the
    record of their job beside them, and pictures say what they were drawn from.
    """
    drafts = _list_drafts(folder)
    paths = [path for path in folder.iterdir() if path not in drafts]
    records = [path for path in paths if _RECORD.fullmatch(path.name)]
    rest = [path for path in drafts if _RECORD.fullmatch(drafts[path])]  # of a job that was removing its folder
    has_record = any(map(_is_record, records or rest))
    return all(map(_is_record, records)) and all(_is_made(path, has_record) for path in paths if path not in records)


def _is_record(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_LARGEST_RECORD))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and all(name in found for name in _OF_RECORDS)


def _is_made(path: Path, has_record: bool) -> bool:
    """Whether a file or folder, which is no record, was made by a job."""
    if path.is_symlink():
        return False
    if path.is_dir():
        return has_record and _SHARD_FOLDER.fullmatch(path.name) is not None and _are_pictures(path.iterdir())
    if _SHARD_FILE.fullmatch(path.name):
        return has_record
    return _are_pictures([path])


def _are_pictures(paths: Iterable[Path]) -> bool:
    return all(_PICTURE.fullmatch(path.name) and path.is_file() and _says_its_bundle(path) for path in paths)


def _says_its_bundle(path: Path) -> bool:
    """Whether a picture says what it was drawn from. A machine that loses its power may leave an empty file of it."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    return not head or PNG_MARK in head


def is_unused(folder: Path) -> bool:
    """Return whether a folder holds nothing, or only what a process left that was killed before it made anything."""
    drafts = _list_drafts(folder)
    return all(path in drafts for path in folder.iterdir())


def _list_drafts(folder: Path) -> dict[Path, str]:
    """Each draft, and the name of what it was to become."""
    return {path: name for name, path in atomic.list_drafts(folder) if _MADE.fullmatch(name)}


def remove_drafts(folder: Path) -> None:
    """Remove what a killed process had not finished."""
    for path in _list_drafts(folder):
        _remove(path)


def clear_folder(folder: Path) -> None:
    """Remove all that a job has made.

    Its record becomes a draft first and is removed last: if this is stopped, the rest is not taken for a job, but is
    still known as that of one.
    """
    paths = sorted(folder.iterdir())
    for path in paths:
        if _RECORD.fullmatch(path.name):
            path.replace(atomic.name_draft(path))
    for path in paths:
        if _MADE.fullmatch(path.name) and not _RECORD.fullmatch(path.name):
            _remove(path)
    remove_drafts(folder)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
