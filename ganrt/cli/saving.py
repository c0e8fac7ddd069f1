"""Where generated pictures go: a grid, a folder of files, or an array."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganrt import atomic, images
from ganrt.errors import RequestError
from ganrt.images import Pictures
from ganrt.sample_request import Draw

_MAX_GRID = 4096
_NUMBERED = re.compile(r"\d{8,20}\.png")
_SIDE = 64
"""Small pictures are magnified in a grid until their side is about this many pixels."""


def save_pictures(
    batches: Iterable[Pictures], out: Path, draw: Draw, request: Mapping[str, str], digest: str, overwrite: bool
) -> None:
    """Write pictures, and what they were drawn from, in the format that the name of `out` asks for.

    `.png` is one grid, with the request in text chunks; `.npz` holds the array `images` and the fields of `draw`; a
    name without a suffix is a folder of files such as 00000007.png, with their part of `draw` in text chunks. They are
    numbered by sample if they are consecutive samples of one seed, else from 0.

    Args:
        batches: uint8 NHWC.
        draw: what the pictures were drawn from.
        request: the options of the command.
        digest: of the bundle.

    Raises RequestError when `out` exists and may not be replaced, has another suffix, or the grid would be too large.
    """
    writers: dict[str, Callable[[], None]] = {
        ".png": lambda: _write_grid(batches, out, draw.rows, {**request, "bundle": digest}),
        ".npz": lambda: _write_array(batches, out, draw, digest),
        "": lambda: _write_folder(batches, out, draw, digest, overwrite),
    }
    if out.suffix not in writers:
        raise RequestError(f"{out} must end in .png (a grid) or .npz (an array), or have no suffix (a folder of files)")
    atomic.check_output(out, overwrite, None if out.suffix else _holds_only_pictures)
    writers[out.suffix]()


def _write_grid(batches: Iterable[Pictures], out: Path, count: int, text: Mapping[str, str]) -> None:
    if not 0 < count <= _MAX_GRID:
        raise RequestError(f"a grid of {count} pictures was asked for; it holds 1 to {_MAX_GRID}: use a folder or .npz")
    pictures = np.concatenate(list(batches))
    scale = max(1, _SIDE // pictures.shape[1])
    atomic.write_file(out, images.encode_png(images.make_grid(pictures, scale=scale), text))


def _write_array(batches: Iterable[Pictures], out: Path, draw: Draw, digest: str) -> None:
    buffer = io.BytesIO()
    drawn = {name: column for name, column in _list_columns(draw).items() if column is not None}
    np.savez(buffer, images=np.concatenate(list(batches)), bundle=np.array(digest), **drawn)  # type: ignore[arg-type]
    atomic.write_file(out, buffer.getvalue())


def _holds_only_pictures(folder: Path) -> bool:
    return all(_NUMBERED.fullmatch(path.name) for path in folder.iterdir())


def _write_folder(batches: Iterable[Pictures], out: Path, draw: Draw, digest: str, overwrite: bool) -> None:
    counted = np.arange(draw.rows, dtype=np.uint64)
    in_order = (draw.seeds == draw.seeds[:1]).all() and (draw.indices - draw.indices[:1] == counted).all()
    numbers = draw.indices if in_order else counted
    with atomic.new_folder(out, overwrite, _holds_only_pictures) as draft:
        pictures = (picture for batch in batches for picture in batch)
        for row, picture in enumerate(pictures):
            content = images.encode_png(picture, {**_describe_row(draw, row), "bundle": digest})
            (draft / f"{numbers[row]:08d}.png").write_bytes(content)


def _list_columns(draw: Draw) -> dict[str, NDArray[Any] | None]:
    return {"seeds": draw.seeds, "indices": draw.indices, "labels": draw.labels, "truncation": draw.truncation}


def _describe_row(draw: Draw, row: int) -> dict[str, str]:
    """Text chunks of one picture; there is no truncation where it is the model's own."""
    names = dict(zip(_list_columns(draw), ("seed", "index", "label", "truncation"), strict=True))
    found = {names[name]: column[row].item() for name, column in _list_columns(draw).items() if column is not None}
    return {name: str(value) for name, value in found.items() if value == value}


def check_targets(photos: Sequence[Path], out: Path, overwrite: bool) -> None:
    """Check before long work that `save_each` can write.

    Raises RequestError when two pictures would get one name, a file exists that may not be replaced, or a picture would
    replace itself.
    """
    names: dict[str, Path] = {}
    for photo in photos:
        if photo.stem in names:
            raise RequestError(f"{names[photo.stem]} and {photo} would both be written as {photo.stem}.png: rename one")
        names[photo.stem] = photo
        target = _target(photo, out)
        if target.resolve() == photo.resolve():
            raise RequestError(f"{target} is the picture itself; choose another folder")
        atomic.check_output(target, overwrite)


def save_each(photos: Sequence[Path], out: Path, transform: Callable[[Path], Pictures]) -> None:
    """Write `transform(photo)`, uint8 HWC, for every photo as a PNG file of its name in the folder `out`. Files written
    before an error stay."""
    for photo in photos:
        atomic.write_file(_target(photo, out), images.encode_png(transform(photo)))


def _target(photo: Path, out: Path) -> Path:
    return out / f"{photo.stem}.png"
