"""Convert between images and pictures, read and write picture files, lay out grids.

An image is float32 NCHW in the range of the model. A picture is uint8 HWC with 1 channel (grey), 3 (RGB) or 4 (RGB and
opacity); a batch of pictures is uint8 NHWC. Functions that need Pillow import it themselves, because `import ganrt`
needs only numpy.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from ganrt.errors import BackendError, RequestError
from ganrt.levels import ChannelRanges, Levels, split_bounds

Pictures: TypeAlias = NDArray[np.uint8]
"""A picture, HWC, or a batch of them, NHWC."""
Floats: TypeAlias = NDArray[np.float32]
"""A batch of images, NCHW."""
ValueT = TypeVar("ValueT", np.uint8, np.uint16)
"""Of a picture: 8 or 16 bits."""

FORMATS = ("PNG", "JPEG", "WEBP")
"""Formats that are decoded. Pillow's rarer decoders have had many memory faults, so they are not used."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
"""Endings of the files that `list_picture_files` finds, in lower case."""
PNG_STRATEGY = zlib.Z_RLE
"""How PNG files are compressed where time counts: by run lengths. PNG stores differences of neighbouring pixels, which
seldom repeat in photographs, so that zlib's quick search for repetitions takes longer and finds less."""
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Channels of a picture -> Pillow's name for it."""
_SQUARE = 8
"""Side of the squares of a checkerboard, in pixels."""


def list_picture_files(folder: Path) -> list[Path]:
    """Return the PNG, JPEG and WebP files in a folder and its subfolders, sorted by path."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def parse_size(text: str, option: str = "--size") -> tuple[int, int]:
    """Parse `256` (a square) or `240x320` into height and width in pixels. Raises RequestError, naming the option."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() for side in sides):
        raise RequestError(f"{option} {text} is not a number of pixels, or HEIGHTxWIDTH")
    return int(sides[0]), int(sides[-1])


def to_uint8(images: Floats, levels: Levels) -> Pictures:
    """`to_pictures` of 8 bits."""
    return to_pictures(images, levels, np.uint8)


def to_pictures(images: Floats, levels: Levels, dtype: type[ValueT]) -> NDArray[ValueT]:
    """Convert images to pictures: float32 NCHW -> uint8 or uint16 NHWC, clamped to `levels`, rounded to nearest, ties
    up.

    Args:
        images: what a network makes.
        levels: its values of 0 and of the largest value of a picture: a range, or `find_levels` of its output.
        dtype: np.uint8 or np.uint16.

    Returns a new array. Raises BackendError if a value is not finite, because casting NaN would silently give a wrong
    picture.
    """
    if not np.isfinite(images).all():
        bad = int(np.argmin(np.isfinite(images).reshape(len(images), -1).all(axis=1)))
        raise BackendError(f"image {bad} of the batch has values that are not finite (overflow in reduced precision?)")
    low, high, scale, half, _ = _make_constants(levels, int(np.iinfo(dtype).max))
    scaled = images.clip(low, high)
    scaled -= low
    scaled *= scale
    scaled += half
    count, channels, height, width = scaled.shape
    pictures = np.empty((count, height, width, channels), dtype)
    places = levels.places if isinstance(levels, ChannelRanges) else range(channels)
    for channel, place in enumerate(places):  # several times faster than copying a transposed array
        pictures[..., place] = scaled[:, channel]
    return pictures


@lru_cache
def _make_constants(levels: Levels, peak: int) -> tuple[Floats, ...]:
    """Low and high end, pictures' values per unit, 0.5, and units per value of a picture. For a range they are arrays
    without dimensions, with which NumPy's operations start in two thirds of the time that they take with numbers; else
    of the shape (C, 1, 1)."""
    low, high = split_bounds(levels)
    constants = (low, high, peak / (high - low), 0.5, (high - low) / peak)
    return tuple(np.array(value, np.float32) for value in constants)


def from_uint8(pictures: Pictures, levels: Levels) -> Floats:
    """`from_pictures` of 8 bits."""
    return from_pictures(pictures, levels)


def from_pictures(pictures: NDArray[Any], levels: Levels) -> Floats:
    """Convert pictures to images: uint8 or uint16 NHWC -> new float32 NCHW; 0 maps to the low end of `levels`, the
    largest value to the high end. `levels` are those of `to_pictures`, of an input."""
    low, _, _, _, step = _make_constants(levels, int(np.iinfo(pictures.dtype).max))
    planes = pictures.transpose(0, 3, 1, 2)
    if isinstance(levels, ChannelRanges):
        planes = planes[:, levels.places]
    scaled = planes.astype(np.float32, order="C")
    scaled *= step
    scaled += low
    return scaled


def check_file_channels(name: str, channels: int) -> None:
    """Raise RequestError, with the name of the input, if no picture file has so many channels."""
    if channels not in MODES:
        raise RequestError(
            f"{name} takes {channels} channels, and picture files have 1, 3 or 4; give a uint8 array "
            f"(H, W, {channels}) or (N, H, W, {channels})"
        )


def read_picture(source: Path | bytes, channels: int) -> Pictures:
    """Read a PNG, JPEG or WebP file as uint8 HWC, for training and measuring: as `read_photo` does, but the first frame
    alone, without opacity unless it is asked for, and with the colors that it hides.

    Args:
        source: path or content of the file.
        channels: 1 (grey), 3 (RGB) or 4 (RGB and opacity, which is 255 where the file has none).

    Raises ArtifactError, naming the file, if it is not such a picture, is damaged, or has more than MAX_PIXELS pixels.
    """
    from ganrt.photos import ReadOptions, read_photo

    (frame,) = read_photo(source, ReadOptions(formats=FORMATS, all_frames=False, fill_hidden=False)).frames
    return frame.fit_channels(channels)[..., :channels]


def encode_png(picture: Pictures, text: Mapping[str, str] | None = None, smallest: bool = True) -> bytes:
    """Encode a uint8 HWC picture as the content of a PNG file.

    Args:
        text: text chunks, keyword -> value.
        smallest: False for PNG_STRATEGY, which takes a fraction of the time.
    """
    import PIL.Image
    import PIL.PngImagePlugin

    chunks = PIL.PngImagePlugin.PngInfo()
    for keyword, value in (text or {}).items():
        chunks.add_text(keyword, value)
    buffer = io.BytesIO()
    image = PIL.Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
    effort: dict[str, Any] = {"optimize": True} if smallest else {"compress_type": PNG_STRATEGY}
    image.save(buffer, "PNG", pnginfo=chunks, **effort)
    return buffer.getvalue()


def make_grid(pictures: Pictures, columns: int | None = None, pad: int = 2, scale: int = 1) -> Pictures:
    """Lay out uint8 NHWC pictures row by row on a background that is dark, or transparent for 4 channels.

    Args:
        columns: pictures per row, from 1; None makes the grid about square.
        pad: pixels between and around the pictures, from 0.
        scale: repeat each pixel scale x scale times, from 1.

    Returns uint8 HWC. Raises RequestError if there is no picture or an argument is out of range.
    """
    if len(pictures) == 0 or scale < 1 or pad < 0 or (columns is not None and columns < 1):
        raise RequestError(f"a grid of {len(pictures)} pictures, {columns} columns, pad {pad}, scale {scale} is empty")
    if scale > 1:
        pictures = pictures.repeat(scale, axis=1).repeat(scale, axis=2)
    count, height, width, channels = pictures.shape
    columns = min(count, columns or math.isqrt(count - 1) + 1)
    lines = math.ceil(count / columns)
    sheet = np.full((lines * (height + pad) + pad, columns * (width + pad) + pad, channels), 24, np.uint8)
    sheet[..., 3:] = 0
    for k, picture in enumerate(pictures):
        top, left = (
            pad + index * (side + pad) for index, side in zip(divmod(k, columns), (height, width), strict=True)
        )
        sheet[top : top + height, left : left + width] = picture
    return sheet


def resize(picture: Pictures, size: tuple[int, int]) -> Pictures:
    """Resize a uint8 HWC picture to height and width `size` by antialiased bicubic interpolation."""
    import PIL.Image

    image = PIL.Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
    small = np.asarray(image.resize((size[1], size[0]), PIL.Image.Resampling.BICUBIC))
    return small.reshape(*size, picture.shape[-1])


def show_opaque(pictures: Pictures) -> Pictures:
    """Show transparency as a checkerboard of two greys: uint8 NHWC with 4 channels -> 3. Others are returned as they
    are."""
    if pictures.shape[-1] != 4:
        return pictures
    down, right = np.indices(pictures.shape[1:3]) // _SQUARE
    board = np.where((down + right) % 2, 96, 160)[..., None]
    opacity = pictures[..., 3:] / 255
    return np.rint(pictures[..., :3] * opacity + board * (1 - opacity)).astype(np.uint8)
