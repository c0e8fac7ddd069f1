"""Pictures through an image-to-image model: from files or arrays to its inputs, padding, tiles, and back to
pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ganrt import images
from ganrt.errors import RequestError
from ganrt.feeds import Array, Feeds
from ganrt.images import Floats, Pictures
from ganrt.spec import Image, Spec

if TYPE_CHECKING:
    import PIL.Image

Picture: TypeAlias = "str | Path | PIL.Image.Image | Pictures"
"""A file, a Pillow image, or uint8 (H, W), (H, W, C) or (N, H, W, C)."""

LUMA = "luma"
"""Role of an image input that is the Y of YCbCr; the colour is enlarged by bicubic interpolation and put back."""
MAX_OVERLAP = 64
"""Tiles overlap by the model's reach, at most by this: what lies farther away has never been seen to show."""
_TILE = 256
_UNTILED = 512 * 512
"""Inputs of more pixels are cut into tiles of _TILE x _TILE if the model allows it and nothing else is asked for."""


def to_pictures(item: Image, given: Any) -> Pictures:
    """What a caller gave for an image input, as uint8 NHWC with the input's channels (RGB for luma).

    Raises RequestError for an array of the wrong kind, ArtifactError for a file that cannot be read.
    """
    channels = 3 if item.role == LUMA else item.channels
    if isinstance(given, str | Path):
        return images.decode(Path(given), channels)[None]
    if hasattr(given, "convert") and hasattr(given, "mode"):
        given = np.asarray(given.convert("L" if channels == 1 else "RGB"))
    array = np.asarray(given)
    if array.dtype != np.uint8:
        raise RequestError(f"{item.name} is an array of {array.dtype}; a picture is uint8, a file, or a Pillow image")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim == 3:
        array = array[None]
    if array.ndim != 4 or array.shape[-1] != channels or array.size == 0:
        raise RequestError(
            f"{item.name} is an array of shape {np.shape(given)}; this input takes (H, W, {channels}) or "
            f"(N, H, W, {channels})"
        )
    return array


def transform(spec: Spec, given: Mapping[str, Any], compute: Callable[[Feeds], Floats], tile: int | None) -> Pictures:
    """Run pictures through a model.

    Args:
        given: image inputs as `Picture`, other inputs as arrays or numbers.
        compute: float32 inputs -> float32 NCHW output, checked.
        tile: side of the tiles in input pixels, 0 for none, None to let the size decide.

    Returns uint8 NHWC.
    """
    pictures = {item.name: to_pictures(item, given[item.name]) for item in spec.images if item.name in given}
    missing = [item.name for item in spec.images if item.name not in given]
    if missing:
        raise RequestError(f"the picture {missing[0]!r} is missing; this {spec.family} model takes {_names(spec)}")
    count = max(len(array) for array in pictures.values())
    feeds: Feeds = {}
    for item in spec.images:
        array = pictures[item.name]
        if len(array) not in (1, count):
            raise RequestError(f"{item.name} has {len(array)} pictures, another input {count}: give one, or as many")
        feeds[item.name] = _padded(_floats(item, np.broadcast_to(array, (count, *array.shape[1:]))), item)
    for name, value in given.items():
        if name not in pictures:
            feeds[name] = (
                np.broadcast_to(np.asarray(value), (count, *np.shape(value)[1:]))
                if np.ndim(value)
                else (np.full(count, value, np.float32))
            )
    first = spec.images[0]
    height, width = pictures[first.name].shape[1:3]
    output = spec.output
    made = _tiled(spec, feeds, compute, _side(spec, height * width, tile))
    if output.size is None:
        made = made[:, :, : height * output.scale, : width * output.scale]
    result = images.to_uint8(np.ascontiguousarray(made), output.range)
    return _coloured(result, pictures[first.name]) if first.role == LUMA else result


def _floats(item: Image, pictures: Pictures) -> Floats:
    if item.role == LUMA:
        pictures = np.stack([_ycbcr(picture)[..., :1] for picture in pictures])
    return images.from_uint8(pictures, item.range)


def _ycbcr(picture: Pictures) -> Pictures:
    import PIL.Image

    return np.asarray(PIL.Image.fromarray(picture).convert("YCbCr"))


def _coloured(luma: Pictures, originals: Pictures) -> Pictures:
    """Put the enlarged colour of the originals under a new luma."""
    import PIL.Image

    size = luma.shape[1:3]
    planes = (
        np.dstack([y, images.resize(_ycbcr(rgb), size)[..., 1:]]) for y, rgb in zip(luma, originals, strict=False)
    )
    return np.stack([np.asarray(PIL.Image.fromarray(p, "YCbCr").convert("RGB")) for p in planes])


def _padded(array: Floats, item: Image) -> Floats:
    """Repeat the last row and column until the size rule is met; the output is cut back."""
    height, width = array.shape[2:]
    if item.size is not None:
        if (height, width) != item.size:
            raise RequestError(
                f"{item.name} is {width} x {height} pixels; this model takes {item.size[1]} x {item.size[0]} only"
            )
        return array
    down, right = -height % item.multiple_of, -width % item.multiple_of
    return np.ascontiguousarray(np.pad(array, ((0, 0), (0, 0), (0, down), (0, right)), "edge"))


def _side(spec: Spec, pixels: int, tile: int | None) -> int:
    """Side of the tiles, 0 for the whole picture at once."""
    can = spec.output.reach is not None and spec.output.size is None
    if tile is None:
        return _TILE if can and pixels > _UNTILED else 0
    if tile and not can:
        raise RequestError(f"this {spec.family} model looks at the whole picture at once, so it cannot work in tiles")
    if tile < 0 or tile % spec.images[0].multiple_of:
        raise RequestError(f"tile is {tile}; it must be 0 or a multiple of {spec.images[0].multiple_of}")
    return tile


def _tiled(spec: Spec, feeds: Feeds, compute: Callable[[Feeds], Floats], side: int) -> Floats:
    """Compute tile by tile, each with a margin that is thrown away; borders of the picture stay borders."""
    if not side:
        return compute(feeds)
    rule, scale = spec.images[0].multiple_of, spec.output.scale
    margin = -(-min(spec.output.reach or 0, MAX_OVERLAP) // rule) * rule
    free = [item.name for item in spec.images if item.size is None]
    height, width = feeds[free[0]].shape[2:]
    shape = (len(feeds[free[0]]), spec.output.channels, height * scale, width * scale)
    whole = np.empty(shape, np.float32)
    for top, bottom in _spans(height, side):
        for left, right in _spans(width, side):
            up, down = max(0, top - margin), min(height, bottom + margin)
            before, after = max(0, left - margin), min(width, right + margin)
            part = {
                n: np.ascontiguousarray(a[:, :, up:down, before:after]) if n in free else a for n, a in feeds.items()
            }
            made: Array = compute(part)
            rows = slice((top - up) * scale, (bottom - up) * scale)
            columns = slice((left - before) * scale, (right - before) * scale)
            whole[:, :, top * scale : bottom * scale, left * scale : right * scale] = made[:, :, rows, columns]
    return whole


def _spans(length: int, side: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + side, length)) for start in range(0, length, side))


def _names(spec: Spec) -> str:
    return ", ".join(f"{item.name} ({item.role})" for item in spec.images)
