"""What may be given for an image input of a model, and the arrays that it becomes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ganrt.checks import as_array
from ganrt.errors import ArtifactError, RequestError
from ganrt.images import check_file_channels
from ganrt.photos import DEFAULTS, Photo, ReadOptions, fill_hidden_color, read_photo, split_opacity
from ganrt.spec import Image

if TYPE_CHECKING:
    import PIL.Image

Values: TypeAlias = NDArray[Any]
"""A batch of pictures, uint8 or uint16 NHWC."""
Picture: TypeAlias = "str | Path | bytes | IO[bytes] | PIL.Image.Image | Photo | Values"
"""A path, the content of a file, an open binary file, a Pillow image, a photo of one frame, or a uint8 or uint16 array
(H, W), (H, W, C) or (N, H, W, C)."""

_log = logging.getLogger(__name__)

LUMA = "luma"
"""Role of an image input that takes the Y of YCbCr; Cb and Cr are upsampled by bicubic interpolation."""


def to_pictures(item: Image, given: Any, options: ReadOptions = DEFAULTS) -> Values:
    """Read the picture or pictures given for an image input.

    Args:
        item: the image input.
        given: a `Picture`, or a list of them, of one size.
        options: how files are read.

    Returns uint8 or uint16 NHWC with the channels of the input, and one more for opacity where the picture has it and
    the input does not take it; for luma, RGB or grey. An array is not copied. Raises RequestError for a wrong type,
    dtype or shape, and for a file of several frames; ArtifactError for a file that cannot be read.
    """
    if not is_list(given):
        return _read_one(item, item.name, given, options)
    pictures = read_list(item, given, options)
    if not have_one_shape(pictures):
        raise RequestError(f"{item.name} is a list of pictures of different sizes; give pictures of one size")
    return np.concatenate(pictures)


def is_list(given: Any) -> bool:
    """Whether something is several pictures, of which each is given as one."""
    return isinstance(given, list | tuple)


def read_list(item: Image, given: Sequence[Any], options: ReadOptions = DEFAULTS) -> list[Values]:
    """Read the pictures of a list, each as `to_pictures` does: (1, H, W, C).

    Raises RequestError for an empty list, and what `to_pictures` raises, naming the position, from 0.
    """
    if not given:
        raise RequestError(f"{item.name} is an empty list; give at least one picture")
    return [_read_entry(item, f"{item.name}[{place}]", entry, options) for place, entry in enumerate(given)]


def _read_entry(item: Image, name: str, given: Any, options: ReadOptions) -> Values:
    if is_list(given):
        raise RequestError(f"{name} is a {type(given).__name__}; each entry of a list is one picture")
    try:
        made = _read_one(item, name, given, options)
    except ArtifactError as error:
        raise ArtifactError(f"{name}: {error}") from error
    if len(made) > 1:
        raise RequestError(f"{name} is an array of {len(made)} pictures; each entry of a list is one picture")
    return made


def _read_one(item: Image, name: str, given: Any, options: ReadOptions) -> Values:
    """What is no list, as `to_pictures` does, with a name for messages."""
    channels = 3 if item.role == LUMA else item.channels
    if _is_file(given):
        check_file_channels(name, channels)
        photo = given if isinstance(given, Photo) else _read_file(given, options)
        place = str(given) if isinstance(given, str | Path) else name
        return photo.only_frame(place).fit_channels(channels)[None]
    array = as_array(name, given)
    if array.dtype not in (np.uint8, np.uint16):
        raise RequestError(
            f"{name} is an array of {array.dtype}; give a uint8 or uint16 array, a path or a Pillow image"
        )
    shape = array.shape
    array = array.reshape(1, *shape, 1) if len(shape) == 2 else array.reshape(1, *shape) if len(shape) == 3 else array
    allowed = {channels, channels + 1 if channels in (1, 3) else channels} | ({1, 2} if item.role == LUMA else set())
    if array.ndim != 4 or array.shape[-1] not in allowed or array.size == 0:
        raise RequestError(
            f"{name} is an array of shape {shape}; this input takes (H, W, {channels}) or (N, H, W, {channels})"
        )
    return array


def _read_file(given: Any, options: ReadOptions) -> Photo:
    photo = read_photo(given, options)
    for remark in photo.remarks:
        _log.info("%s", remark)
    return photo


def have_one_shape(pictures: Sequence[Values]) -> bool:
    """Whether pictures have the same size, channels and depth, so that they can be one array."""
    return len({(picture.shape, picture.dtype) for picture in pictures}) == 1


def _is_file(given: Any) -> bool:
    """Whether something is a file, its content, or a picture with metadata; not an array."""
    kinds = (str, Path, bytes, bytearray, memoryview, Photo)
    pillow = hasattr(given, "convert") and hasattr(given, "mode")
    return isinstance(given, kinds) or pillow or (hasattr(given, "read") and hasattr(given, "seek"))


def split_pictures(pictures: Values, channels: int) -> tuple[Values, Values | None]:
    """Color, with hidden parts filled in, and opacity of pictures that may have one channel more than the input."""
    if pictures.shape[-1] not in (2, 4) or pictures.shape[-1] == channels:
        return pictures, None
    pairs = [split_opacity(picture) for picture in pictures]
    filled = [fill_hidden_color(color, opacity) for color, opacity in pairs if opacity is not None]
    return np.stack(filled), pictures[..., -1:]
