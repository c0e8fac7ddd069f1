"""Where generated pictures go: a grid, a folder of files, or arrays."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from ganrt import atomic, images
from ganrt.errors import RequestError
from ganrt.images import Pictures

_MAX_GRID = 4096
_NUMBERED = re.compile(r"\d{8,20}\.png")
_SIDE = 64
"""Small pictures are enlarged in a grid until they are about this large."""


def save(batches: Iterable[Pictures], out: Path, start: int, count: int, overwrite: bool) -> None:
    """Write pictures (uint8 NHWC, in batches) as the name of `out` says.

    `.png` is one grid, `.npz` has the array `images`, a name without an ending is a folder of 00000007.png, numbered
    by sample.

    Raises RequestError when `out` exists and may not be replaced, has another ending, or the grid would be too large.
    """
    writers: dict[str, Callable[[], None]] = {
        ".png": lambda: _grid(batches, out, count),
        ".npz": lambda: _arrays(batches, out),
        "": lambda: _folder(batches, out, start, overwrite),
    }
    if out.suffix not in writers:
        raise RequestError(f"{out} should end in .png (a grid), .npz (arrays), or in nothing (a folder of files)")
    atomic.check_output(out, overwrite, None if out.suffix else _only_pictures)
    writers[out.suffix]()


def _grid(batches: Iterable[Pictures], out: Path, count: int) -> None:
    if not 0 < count <= _MAX_GRID:
        raise RequestError(
            f"a grid of {count} pictures was asked for; it takes 1 to {_MAX_GRID}: write a folder or .npz"
        )
    pictures = np.concatenate(list(batches))
    scale = max(1, _SIDE // pictures.shape[1])
    atomic.write_file(out, images.encode_png(images.grid(pictures, scale=scale)))


def _arrays(batches: Iterable[Pictures], out: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, images=np.concatenate(list(batches)))
    atomic.write_file(out, buffer.getvalue())


def _only_pictures(folder: Path) -> bool:
    return all(_NUMBERED.fullmatch(path.name) for path in folder.iterdir())


def _folder(batches: Iterable[Pictures], out: Path, start: int, overwrite: bool) -> None:
    number = start
    with atomic.new_folder(out, overwrite, _only_pictures) as draft:
        for batch in batches:
            for picture in batch:
                (draft / f"{number:08d}.png").write_bytes(images.encode_png(picture))
                number += 1


def check_each(photos: Sequence[Path], out: Path, overwrite: bool) -> None:
    """Find out before long work whether `save_each` can write. Raises RequestError when two pictures would get one
    name, a file is there that may not be replaced, or it is the picture itself."""
    names: dict[str, Path] = {}
    for photo in photos:
        if photo.stem in names:
            raise RequestError(f"{names[photo.stem]} and {photo} would both be written as {photo.stem}.png: rename one")
        names[photo.stem] = photo
        target = _target(photo, out)
        if target.resolve() == photo.resolve():
            raise RequestError(f"{target} is the picture itself; choose another folder")
        atomic.check_output(target, overwrite)


def save_each(photos: Sequence[Path], out: Path, make: Callable[[Path], Pictures]) -> None:
    """Write what `make` makes of every picture, uint8 HWC, as a PNG file of its name in the folder `out`; those before
    an error stay."""
    for photo in photos:
        atomic.write_file(_target(photo, out), images.encode_png(make(photo)))


def _target(photo: Path, out: Path) -> Path:
    return out / f"{photo.stem}.png"
