"""What `ganrt transform` reads and writes: one task for each picture."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ganrt.atomic import MOST_NAME
from ganrt.errors import ArtifactError, RequestError
from ganrt.photos import FILE_FORMATS

READ_SUFFIXES = (".png", ".apng", ".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif")
"""Endings of the pictures that are looked for in folders, in lower case."""
WRITTEN = {".png": "png", ".apng": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".jfif": "jpeg", ".webp": "webp"} | {
    ".avif": "avif",
    ".tif": "tiff",
    ".tiff": "tiff",
}
"""Ending -> the format that it stands for. Pictures of other formats become PNG files, which lose nothing."""


LINK_TO_FOLDER, BROKEN_LINK, NO_FILE = "link to a folder", "link to nothing", "no file"
"""What is in a folder and is not looked at, whatever its ending."""


class Task(NamedTuple):
    """A picture to read, and the file to write."""

    source: Path
    target: Path
    number: int = 0
    """Its place among all: what a model draws for a picture depends on it."""

    @property
    def format(self) -> str:
        """Name of the format to write, as in `FILE_FORMATS`."""
        return WRITTEN[self.target.suffix.lower()]


def plan_tasks(sources: Sequence[Path], out: Path, form: str | None, suffix: str) -> list[Task]:
    """List what is to be done, in the order of the sources, folders sorted by path.

    Args:
        sources: files, and folders, which are searched with all below them.
        out: a file, if there is one source that is a file and the name ends as a picture's; else a folder, in which the
            structure of source folders is kept.
        form: format of all pictures; None for that of each source's ending.
        suffix: what is appended to names, before the ending.

    Where two pictures would get one name, that of another ending keeps it in the name, such as `logo.gif.png`.

    Raises RequestError when two pictures would get one name, one would replace itself or another source, and for names
    that cannot be; ArtifactError for a folder without pictures, or that cannot be read.
    """
    ending = out.suffix.lower()
    if "/" in suffix:
        raise RequestError(f"--suffix {suffix} holds a slash; it is appended to names, and --out chooses the folder")
    if ending in READ_SUFFIXES and ending not in WRITTEN and not out.is_dir():
        raise RequestError(f"{out} cannot be written: {ending} files are only read; end it in {', '.join(WRITTEN)}")
    if ending in WRITTEN and not out.is_dir():
        if len(sources) > 1 or sources[0].is_dir():
            raise RequestError(f"{out} is the name of one picture; for several, --out is a folder")
        if form and WRITTEN[ending] != form:
            raise RequestError(f"{out} does not end as {form} files do; leave --format out, or change the name")
        tasks = [Task(sources[0], out)]
    else:
        places = list(_list_sources(sources, out))
        names = [inner.with_name(f"{inner.stem}{suffix}{_choose_ending(source, form)}") for source, inner in places]
        often = Counter(names)
        tasks = []
        for number, ((source, inner), name) in enumerate(zip(places, names, strict=True)):
            unclear = often[name] > 1 and source.suffix != name.suffix
            tasks.append(Task(source, out / (_keep_ending(inner, name) if unclear else name), number))
    _check_names(tasks)
    return tasks


def _list_sources(sources: Sequence[Path], out: Path) -> Iterator[tuple[Path, Path]]:
    """Each picture with its place in `out`."""
    made = out.resolve()
    for source in sources:
        if not source.is_dir():
            yield source, Path(source.name)
            continue
        if made == source.resolve():
            raise RequestError(f"{out} is the folder of the pictures itself; choose another --out")
        inside = made.is_relative_to(source.resolve())
        found = [
            path
            for path in _list_files(source)
            if path.suffix.lower() in READ_SUFFIXES and not (inside and path.resolve().is_relative_to(made))
        ]
        if not found:
            raise ArtifactError(f"{source} holds no pictures: no file in it ends in {', '.join(READ_SUFFIXES)}")
        yield from ((path, path.relative_to(source)) for path in found)


def _list_files(folder: Path) -> list[Path]:
    """All files in a folder and below, sorted by path, without hidden ones: systems keep previews in these."""
    return [path for path in _list_entries(folder) if path.is_file()]


def _list_entries(folder: Path) -> list[Path]:
    """All that is in a folder and below but folders, sorted by path, without what is hidden. Links to folders are not
    followed. Raises ArtifactError for a folder that cannot be read."""

    def reject(error: OSError) -> None:
        raise ArtifactError(f"{error.filename} cannot be read: {error.strerror}") from error

    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=reject):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if Path(place, name).is_symlink()]
        found += [Path(place, name) for name in [*names, *links] if not name.startswith(".")]
    return sorted(found)


def count_skipped(folder: Path) -> dict[str, int]:
    """Ending, or what it is instead of a file, -> number of the entries of a folder and below that are not looked at.
    Hidden ones do not count."""
    kinds = Counter(_name_kind(path) for path in _list_entries(folder))
    return {kind: number for kind, number in kinds.items() if kind not in READ_SUFFIXES}


def _name_kind(path: Path) -> str:
    if path.is_file():
        return path.suffix.lower()
    return LINK_TO_FOLDER if path.is_dir() else BROKEN_LINK if path.is_symlink() else NO_FILE


def _choose_ending(source: Path, form: str | None) -> str:
    if form:
        return FILE_FORMATS[form].suffix
    return source.suffix if source.suffix.lower() in WRITTEN else FILE_FORMATS["png"].suffix


def _keep_ending(inner: Path, name: Path) -> Path:
    """`logo.gif` and `logo_4x.png` -> `logo_4x.gif.png`."""
    return name.with_name(f"{name.stem}{inner.suffix}{name.suffix}")


def _check_names(tasks: Sequence[Task]) -> None:
    names: dict[Path, Path] = {}
    sources = {task.source.resolve(): task.source for task in tasks}
    for source, target, _ in tasks:
        if len(os.fsencode(target.name)) > MOST_NAME:
            raise RequestError(
                f"{source} would get a name of more than {MOST_NAME} bytes; rename it, or shorten --suffix"
            )
        if names.get(target) == source:
            raise RequestError(f"{source} was given twice; give each picture once")
        if target in names:
            raise RequestError(f"{names[target]} and {source} would both be written as {target}: rename one")
        names[target] = source
        if target.resolve() == source.resolve():
            raise RequestError(f"{target} is the picture itself; choose another folder, or add --suffix")
        if target.resolve() in sources:
            raise RequestError(f"{source} would be written as {target}, which is a source too; choose another folder")
