"""Run pictures through an image-to-image model: read them, pad them, compute them in tiles, convert the result back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import numpy as np

from ganrt import images
from ganrt.checks import as_array, is_whole
from ganrt.errors import RequestError
from ganrt.feeds import Array, Feeds, draw_missing
from ganrt.images import Floats
from ganrt.levels import find_levels
from ganrt.luma import add_color, take_luma
from ganrt.photos import DEFAULTS, ReadOptions, resize_plane
from ganrt.picture_inputs import LUMA, Picture, Values, is_list, split_pictures, to_pictures
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
from ganrt.wording import count_things


def transform(spec: Spec, given: Mapping[str, Any], compute: Callable[[Feeds], Floats], tile: int | None) -> Values:
    """Run pictures through a model.

    Args:
        spec, given, tile: as for `Windows`.
        compute: runs the model: feeds -> images, float32 NCHW.

    Returns pictures of the dtype of the first input's, NHWC, owned by the caller. Besides the pictures and the result,
    memory is bounded by the need of 512 * 512 input pixels or 1024 * 1024 output pixels, of one window, or of one
    picture without tiles, whichever is largest. Raises what `Windows` raises.
    """
    windows = Windows(spec, given, tile)
    count = windows.count
    for tile, picture in product(range(0, windows.rows, count), range(0, count, windows.at_once)):
        feeds = windows.take(tile + picture, min(windows.at_once, count - picture))
        windows.put(tile + picture, windows.convert(compute(feeds)))
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
        pictures[first.name], self._opacity = split_pictures(pictures[first.name], _count_colors(first))
        for item in spec.images[1:]:
            pictures[item.name], _ = split_pictures(pictures[item.name], _count_colors(item))
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
        self._whole = _allocate((self.count, *made_size, spec.output.channels), self._originals.dtype)

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
        return images.from_pictures(np.stack(parts), find_levels(item))

    def _follows_first(self, item: Image) -> bool:
        """Return whether an image input has the size of the first one, or of another that has, and is cut like it."""
        by_name = {other.name: other for other in self._spec.images}
        while item.like is not None:
            item = by_name[item.like]
        return item is self._spec.images[0]

    @property
    def value_type(self) -> type[np.uint8] | type[np.uint16]:
        """Of the pictures that are made: that of the first ones that were given."""
        return np.uint8 if self._whole.dtype == np.uint8 else np.uint16

    def convert(self, made: Floats) -> Values:
        """Make pictures of the model's images, NCHW: NHWC."""
        return images.to_pictures(made, find_levels(self._spec.output), self.value_type)

    def put(self, first: int, made: Values) -> None:
        """Put computed windows into the result: pictures NHWC, from the `first` one on."""
        scale = self._spec.output.scale if self._sides else 0
        for row, picture in enumerate(made, first):
            tile, place = divmod(row, self.count)
            _paste(self._whole[place], picture, self._tiles[tile], scale)

    def finish(self) -> Values:
        """Return the result, NHWC, once all windows are in it; the caller owns it. The opacity of the pictures is its
        last channel, unless the model makes one."""
        made, scale = self._whole, self._spec.output.scale
        if self._spec.output.size is None:
            height, width = self._originals.shape[1:3]
            made = made[:, : height * scale, : width * scale]
        if self._spec.images[0].role == LUMA and self._originals.shape[-1] == 3:
            made = np.stack([add_color(*pair) for pair in zip(made, self._originals, strict=True)])
        if self._opacity is None or made.shape[-1] == 4:
            return np.ascontiguousarray(made)
        opacity = np.stack([resize_plane(plane, made.shape[1:3]) for plane in self._opacity])
        return np.concatenate([made, opacity], axis=3)


def _count_colors(item: Image) -> int:
    """Channels of a picture for an input, without an opacity that the input does not take."""
    return 3 if item.role == LUMA else item.channels


def collect_inputs(
    spec: Spec,
    pictures: tuple[Picture, ...],
    inputs: Mapping[str, Any],
    seed: Seeds,
    start: Seeds = 0,
    labels: Labels = None,
    options: ReadOptions = DEFAULTS,
) -> tuple[dict[str, Any], bool]:
    """Give each input of `Generator.transform` its name, read the pictures, and draw what is missing.

    Returns input name -> value, and whether the result is a batch. Raises RequestError, ArtifactError.
    """
    given = name_inputs(spec, pictures, inputs)
    several = any(getattr(value, "ndim", 0) == 4 for value in given.values())
    several |= any(is_list(given.get(item.name)) for item in spec.images)
    for item in spec.images:
        if item.name in given:
            given[item.name] = to_pictures(item, given[item.name], options)
    count = max((len(given[item.name]) for item in spec.images if item.name in given), default=1)
    return given | draw_missing(spec, given, count, seed, start, labels), several


def name_inputs(spec: Spec, pictures: tuple[Any, ...], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Give the image inputs that come without a name theirs, in the order of the Spec. Raises RequestError."""
    if not spec.images:
        raise RequestError(f"this {spec.family} model takes no pictures; use sample()")
    if len(pictures) > len(spec.images):
        found = count_things(len(pictures), "picture was", "pictures were")
        raise RequestError(f"{found} given; this model takes {len(spec.images)}")
    positional = {item.name: picture for item, picture in zip(spec.images, pictures, strict=False)}
    twice = sorted(positional.keys() & inputs.keys())
    if twice:
        raise RequestError(f"{twice[0]} was given twice")
    return {**positional, **inputs}


def _read_inputs(spec: Spec, given: Mapping[str, Any]) -> dict[str, Values]:
    """Read all image inputs as NHWC; check that sizes and numbers of pictures agree."""
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


def _expand_rows(name: str, value: Any, count: int) -> Array:
    """Expand an input that is not an image to one row per picture."""
    array = np.atleast_1d(as_array(name, value))
    if len(array) not in (1, count):
        rows = count_things(len(array), "row")
        raise RequestError(f"{name} has {rows} for {count_things(count, 'picture')}; give one, or one per picture")
    return _repeat(array, count)


def _take_planes(item: Image, pictures: Values) -> Values:
    """The channels that the input takes, NHWC: Y of RGB pictures for luma."""
    if item.role == LUMA and pictures.shape[-1] == 3:
        return np.stack([take_luma(picture) for picture in pictures])
    return pictures


def _pad_to_multiple(pictures: Values, item: Image) -> Values:
    """Repeat the last row and column until the size is a multiple of `multiple_of`."""
    down, right = (-side % item.multiple_of if item.size is None else 0 for side in pictures.shape[1:3])
    return np.pad(pictures, ((0, 0), (0, down), (0, right), (0, 0)), "edge") if down or right else pictures


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


def _crop(picture: Values, start: tuple[int, int], size: tuple[int, int]) -> Values:
    return picture[start[0] : start[0] + size[0], start[1] : start[1] + size[1]]


def _paste(whole: Values, made: Values, tile: Tile, scale: int) -> None:
    """Copy the tile of a computed window, HWC, into the result; for scale 0 the window is the result."""
    if not scale:
        whole[:] = made
        return
    (top, left), (bottom, right), (up, before) = tile
    inner = made[(top - up) * scale : (bottom - up) * scale, (left - before) * scale : (right - before) * scale]
    whole[top * scale : bottom * scale, left * scale : right * scale] = inner


def _repeat(array: Array, count: int) -> Array:
    return np.repeat(array, count, axis=0) if len(array) == 1 < count else array


def _allocate(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Values:
    try:
        return np.empty(shape, dtype)
    except (MemoryError, ValueError) as error:
        raise RequestError(f"the result of {_format_size(shape[1:3])} pixels does not fit into memory") from error


def _format_size(size: tuple[int, ...]) -> str:
    return f"{size[1]} x {size[0]}"
