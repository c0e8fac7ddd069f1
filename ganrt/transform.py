"""Run pictures through an image-to-image model: read them, pad them, compute them in tiles, convert the result back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ganrt import images
from ganrt.checks import as_array, is_whole
from ganrt.errors import RequestError
from ganrt.feeds import Array, Feeds, draw_missing
from ganrt.images import Floats, Pictures
from ganrt.levels import find_levels
from ganrt.sample_request import Labels, Seeds
from ganrt.spec import Image, Spec
from ganrt.tiles import (
    Tile,
    choose_window_side,
    choose_window_sides,
    compute_margin,
    count_pixels_at_once,
    plan_tiles,
)

if TYPE_CHECKING:
    import PIL.Image

Picture: TypeAlias = "str | Path | PIL.Image.Image | Pictures"
"""A path, a Pillow image, or a uint8 array (H, W), (H, W, C) or (N, H, W, C)."""

LUMA = "luma"
"""Role of an image input that takes the Y of YCbCr; Cb and Cr are upsampled by bicubic interpolation."""


def transform(spec: Spec, given: Mapping[str, Any], compute: Callable[[Feeds], Floats], tile: int | None) -> Pictures:
    """Run pictures through a model.

    Args:
        spec, given, tile: as for `Windows`.
        compute: runs the model: feeds -> images, float32 NCHW.

    Returns uint8 NHWC, owned by the caller. Besides the pictures and the result, memory is bounded by the need of 512 *
    512 input pixels or 1024 * 1024 output pixels, of one window, or of one picture without tiles, whichever is largest.
    Raises what `Windows` raises.
    """
    windows = Windows(spec, given, tile)
    count = windows.count
    for tile, picture in product(range(0, windows.rows, count), range(0, count, windows.at_once)):
        feeds = windows.take(tile + picture, min(windows.at_once, count - picture))
        windows.put(tile + picture, images.to_uint8(compute(feeds), find_levels(spec.output)))
    return windows.finish()


class Windows:
    """Pictures cut into windows of one size, each of which is a row for the model, and the result put together of them.

    Rows are in the order of the tiles: first the window of each picture at the first tile. Without tiles there is one
    window per picture.
    """

    def __init__(self, spec: Spec, given: Mapping[str, Any], tile: int | None) -> None:
        """Read, check and pad the pictures, and allocate the result.

        Args:
            spec: inputs and output of the model; at least one input is an image.
            given: input name -> `Picture` for images; for others a number, or an array with one row per picture.
            tile: largest side of the tiles in input pixels; 0 for none; None uses tiles for large pictures if the model
                allows it.

        Raises RequestError, naming the input; ArtifactError for a file that cannot be read.
        """
        self._spec = spec
        pictures = _read_inputs(spec, given)
        self.count = max(map(len, pictures.values()))
        """Number of pictures."""
        self._others = {n: _expand_rows(n, value, self.count) for n, value in given.items() if n not in pictures}
        first = spec.images[0]
        self._originals = pictures[first.name]
        padded = {item.name: _pad_to_multiple(_take_planes(item, pictures[item.name]), item) for item in spec.images}
        self._padded = padded
        height, width = padded[first.name].shape[1:3]
        self._sides = _choose_sides(spec, (height, width), tile)
        self._window, tiles = plan_tiles(
            (height, width), self._sides or (height, width), compute_margin(spec), first.multiple_of
        )
        self._tiles = list(tiles)
        scale = spec.output.scale
        made_size = spec.output.size or (height * scale, width * scale)
        self._whole = _allocate((self.count, *made_size, spec.output.channels))

    @property
    def rows(self) -> int:
        """Number of windows, of all tiles and pictures."""
        return len(self._tiles) * self.count

    @property
    def pixels(self) -> int:
        """Input pixels of a window."""
        return math.prod(self._window)

    @property
    def at_once(self) -> int:
        """How many windows to compute at a time."""
        return max(1, count_pixels_at_once(self._spec) // self.pixels)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each input in a row. Windows of other pictures with the same ones can be in the same batch."""
        return tuple(array.shape[1:] for _, array in sorted(self.take(0, 1).items()))

    def take(self, first: int, rows: int) -> Feeds:
        """Return the inputs of `rows` windows from the `first` one on."""
        places = [divmod(row, self.count) for row in range(first, first + rows)]
        feeds: Feeds = {item.name: self._take_pictures(item, places) for item in self._spec.images}
        return feeds | {name: array[[picture for _, picture in places]] for name, array in self._others.items()}

    def _take_pictures(self, item: Image, places: list[tuple[int, int]]) -> Floats:
        """Return an image input for (tile, picture) pairs."""
        pictures = self._padded[item.name]
        cut = item is self._spec.images[0] or self._follows_first(item)
        parts = []
        for tile, picture in places:
            part = pictures[picture if len(pictures) > 1 else 0]
            parts.append(_crop(part, self._tiles[tile].start, self._window) if cut else part)
        return images.from_uint8(np.stack(parts), find_levels(item))

    def _follows_first(self, item: Image) -> bool:
        """Return whether an image input has the size of the first one, or of another that has, and is cut like it."""
        by_name = {other.name: other for other in self._spec.images}
        while item.like is not None:
            item = by_name[item.like]
        return item is self._spec.images[0]

    def put(self, first: int, made: Pictures) -> None:
        """Put computed windows into the result: uint8 NHWC, from the `first` one on."""
        scale = self._spec.output.scale if self._sides else 0
        for row, picture in enumerate(made, first):
            tile, place = divmod(row, self.count)
            _paste(self._whole[place], picture, self._tiles[tile], scale)

    def finish(self) -> Pictures:
        """Return the result, uint8 NHWC, once all windows are in it; the caller owns it."""
        made, scale = self._whole, self._spec.output.scale
        if self._spec.output.size is None:
            height, width = self._originals.shape[1:3]
            made = made[:, : height * scale, : width * scale]
        coloured = self._spec.images[0].role == LUMA and self._originals.shape[-1] == 3
        return _add_colour(made, self._originals) if coloured else np.ascontiguousarray(made)


def collect_inputs(
    spec: Spec, pictures: tuple[Picture, ...], inputs: Mapping[str, Any], seed: Seeds, labels: Labels = None
) -> tuple[dict[str, Any], bool]:
    """Give each input of `Generator.transform` its name, read the pictures, and draw what is missing.

    Returns input name -> value, and whether the result is a batch. Raises RequestError, ArtifactError.
    """
    if not spec.images:
        raise RequestError(f"this {spec.family} model takes no pictures; use sample()")
    if len(pictures) > len(spec.images):
        raise RequestError(f"{len(pictures)} pictures were given; this model takes {len(spec.images)}")
    positional = {item.name: picture for item, picture in zip(spec.images, pictures, strict=False)}
    twice = sorted(positional.keys() & inputs.keys())
    if twice:
        raise RequestError(f"{twice[0]} was given twice")
    given = {**positional, **inputs}
    several = any(getattr(value, "ndim", 0) == 4 for value in given.values())
    for item in spec.images:
        if item.name in given:
            given[item.name] = to_pictures(item, given[item.name])
    count = max((len(given[item.name]) for item in spec.images if item.name in given), default=1)
    return given | draw_missing(spec, given, count, seed, labels), several


def _read_inputs(spec: Spec, given: Mapping[str, Any]) -> dict[str, Pictures]:
    """Read all image inputs as uint8 NHWC; check that sizes and numbers of pictures agree."""
    missing = [item.name for item in spec.images if item.name not in given]
    if missing:
        names = ", ".join(f"{item.name} ({item.role})" for item in spec.images)
        raise RequestError(f"the picture {missing[0]!r} is missing; this {spec.family} model takes {names}")
    pictures = {item.name: to_pictures(item, given[item.name]) for item in spec.images}
    counts = {name: len(array) for name, array in pictures.items()}
    if len(set(counts.values()) - {1}) > 1:
        raise RequestError(
            f"the inputs have different numbers of pictures: {counts}; give one each, or the same number"
        )
    for item in spec.images:
        size = pictures[item.name].shape[1:3]
        other = pictures[item.like].shape[1:3] if item.like is not None else size
        if size != other:
            raise RequestError(
                f"{item.name} is {_format_size(size)} pixels; it must be {_format_size(other)} like {item.like}"
            )
        if item.size is not None and size != item.size:
            raise RequestError(
                f"{item.name} is {_format_size(size)} pixels; this model takes {_format_size(item.size)} only"
            )
    return pictures


def to_pictures(item: Image, given: Any) -> Pictures:
    """Read the picture or pictures given for an image input.

    Args:
        item: the image input.
        given: a `Picture`.

    Returns uint8 NHWC with the channels of the input; for luma, RGB or grey. An array is not copied. Raises
    RequestError for a wrong type, dtype or shape; ArtifactError for a file that cannot be read.
    """
    channels = 3 if item.role == LUMA else item.channels
    if isinstance(given, str | Path) or hasattr(given, "convert"):
        images.check_file_channels(item.name, channels)
    if isinstance(given, str | Path):
        return images.read_picture(Path(given), channels)[None]
    if hasattr(given, "convert") and hasattr(given, "mode"):
        return images.from_pillow(given, channels)[None]
    if isinstance(given, list | tuple):
        raise RequestError(
            f"{item.name} is a {type(given).__name__}; give one picture, or several of the same size as one "
            "uint8 array (N, H, W, C)"
        )
    array = as_array(item.name, given)
    if array.dtype != np.uint8:
        raise RequestError(f"{item.name} is an array of {array.dtype}; give a uint8 array, a path or a Pillow image")
    shape = array.shape
    array = array.reshape(1, *shape, 1) if len(shape) == 2 else array.reshape(1, *shape) if len(shape) == 3 else array
    allowed = (1, 3) if item.role == LUMA else (channels,)
    if array.ndim != 4 or array.shape[-1] not in allowed or array.size == 0:
        raise RequestError(
            f"{item.name} is an array of shape {shape}; this input takes (H, W, {channels}) or (N, H, W, {channels})"
        )
    return array


def _expand_rows(name: str, value: Any, count: int) -> Array:
    """Expand an input that is not an image to one row per picture."""
    array = np.atleast_1d(as_array(name, value))
    if len(array) not in (1, count):
        raise RequestError(f"{name} has {len(array)} rows for {count} pictures; give one, or one per picture")
    return _repeat(array, count)


def _take_planes(item: Image, pictures: Pictures) -> Pictures:
    """The channels that the input takes, uint8 NHWC: Y of RGB pictures for luma."""
    if item.role == LUMA and pictures.shape[-1] == 3:
        return np.stack([_to_ycbcr(picture)[..., :1] for picture in pictures])
    return pictures


def _pad_to_multiple(pictures: Pictures, item: Image) -> Pictures:
    """Repeat the last row and column until the size is a multiple of `multiple_of`."""
    down, right = (-side % item.multiple_of if item.size is None else 0 for side in pictures.shape[1:3])
    return np.pad(pictures, ((0, 0), (0, down), (0, right), (0, 0)), "edge") if down or right else pictures


def _to_ycbcr(picture: Pictures) -> Pictures:
    import PIL.Image

    return np.asarray(PIL.Image.fromarray(picture).convert("YCbCr"))


def _add_colour(luma: Pictures, originals: Pictures) -> Pictures:
    """Combine a new luma, uint8 (N, H, W, 1), with the upsampled colour of RGB originals."""
    import PIL.Image

    made = np.empty((*luma.shape[:3], 3), np.uint8)
    for k, picture in enumerate(luma):
        colour = images.resize(_to_ycbcr(originals[k]), picture.shape[:2])
        planes = (picture[..., 0], colour[..., 1], colour[..., 2])
        made[k] = PIL.Image.merge("YCbCr", [PIL.Image.fromarray(plane) for plane in planes]).convert("RGB")
    return made


def _choose_sides(spec: Spec, size: tuple[int, int], tile: int | None) -> tuple[int, int] | None:
    """Largest height and width of a window in input pixels; None for no tiles.

    Args:
        size: height and width of the padded picture.
    """
    can, rule = spec.output.reach is not None and spec.output.size is None, spec.images[0].multiple_of
    if tile is None:
        large = math.prod(size) > choose_window_side(spec) ** 2
        return choose_window_sides(spec, size) if can and large else None
    if not is_whole(tile) or tile < 0 or tile % rule:
        raise RequestError(f"tile is {tile!r}; it must be 0 or a multiple of {rule}")
    if tile and not can:
        raise RequestError(
            f"this {spec.family} model cannot use tiles: an output pixel depends on the whole picture; leave tile out"
        )
    side = int(tile) + 2 * compute_margin(spec)
    return (side, side) if tile else None


def _crop(picture: Pictures, start: tuple[int, int], size: tuple[int, int]) -> Pictures:
    return picture[start[0] : start[0] + size[0], start[1] : start[1] + size[1]]


def _paste(whole: Pictures, made: Pictures, tile: Tile, scale: int) -> None:
    """Copy the tile of a computed window, HWC, into the result; for scale 0 the window is the result."""
    if not scale:
        whole[:] = made
        return
    (top, left), (bottom, right), (up, before) = tile
    inner = made[(top - up) * scale : (bottom - up) * scale, (left - before) * scale : (right - before) * scale]
    whole[top * scale : bottom * scale, left * scale : right * scale] = inner


def _repeat(array: Array, count: int) -> Array:
    return np.repeat(array, count, axis=0) if len(array) == 1 < count else array


def _allocate(shape: tuple[int, ...]) -> Pictures:
    try:
        return np.empty(shape, np.uint8)
    except (MemoryError, ValueError) as error:
        raise RequestError(f"the result of {_format_size(shape[1:3])} pixels does not fit into memory") from error


def _format_size(size: tuple[int, ...]) -> str:
    return f"{size[1]} x {size[0]}"
