"""Files of `ganrt sample` that hold all pictures: a grid, or an array."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from ganrt import atomic, images
from ganrt.errors import RequestError
from ganrt.images import Pictures
from ganrt.sample_request import Draw
from ganrt.shards import pack_arrays
from ganrt.wording import count_things

_MAX_GRID = 4096
_SIDE = 64
"""Small pictures are magnified in a grid until their side is about this many pixels."""


def save_pictures(
    batches: Iterable[Pictures], out: Path, draw: Draw, request: Mapping[str, str], digest: str, overwrite: bool
) -> None:
    """Write pictures, and what they were drawn from, in the format that the name of `out` asks for.

    `.png` is one grid, with the request in text chunks; `.npz` holds the array `images` and the fields of `draw`.

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
    }
    if out.suffix not in writers:
        raise RequestError(f"{out} must end in .png (a grid) or .npz (an array), or have no suffix (a folder of files)")
    atomic.check_output(out, overwrite)
    writers[out.suffix]()


def _write_grid(batches: Iterable[Pictures], out: Path, count: int, text: Mapping[str, str]) -> None:
    if not 0 < count <= _MAX_GRID:
        asked = count_things(count, "picture")
        raise RequestError(f"a grid of {asked} was asked for; it holds 1 to {_MAX_GRID}: use a folder or .npz")
    pictures = np.concatenate(list(batches))
    scale = max(1, _SIDE // pictures.shape[1])
    atomic.write_file(out, images.encode_png(images.make_grid(pictures, scale=scale), text))


def _write_array(batches: Iterable[Pictures], out: Path, draw: Draw, digest: str) -> None:
    atomic.write_file(out, pack_arrays(np.concatenate(list(batches)), draw, digest))
