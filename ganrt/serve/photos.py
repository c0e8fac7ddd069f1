"""Pictures that clients send and get."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
import PIL.Image

from ganrt import images
from ganrt.errors import GanrtError, RequestError, TooLargeError
from ganrt.images import FORMATS, Pictures
from ganrt.photos import Frame, Photo, ReadOptions, encode_photo, read_photo, split_opacity

Format: TypeAlias = Literal["png", "webp", "npy"]
"""Formats of an answer."""
MEDIA_TYPES: dict[Format, str] = {"png": "image/png", "webp": "image/webp", "npy": "application/x-npy"}
_PIXEL_BYTES = {"PNG": 48, "JPEG": 24, "WEBP": 64}
"""Format -> bytes for a pixel while a picture is decoded, converted and filled in, measured with Pillow 13."""


def decode_picture(
    name: str, content: bytes, channels: int, most_pixels: int, reserve: Callable[[int], None] = lambda _: None
) -> Pictures:
    """Decode a PNG, JPEG or WebP file as `ganrt.read_photo` does: upright, sRGB, 8 bits; of an MPO file, which phones
    write, the first picture.

    Args:
        name: of the input, for messages.
        content: the file.
        channels: 1 (grey), 3 (RGB) or 4 (RGB and opacity).
        most_pixels: larger pictures are rejected by their header, before memory is allocated.
        reserve: is told how many bytes of memory decoding takes, before it begins.

    Returns uint8 (H, W, channels), or one channel more for opacity where the picture has it and the input does not take
    it. Raises RequestError if it is not such a file, is damaged or animated, and for another number of channels;
    TooLargeError for too many pixels; what `reserve` raises.
    """
    images.check_file_channels(name, channels)
    try:
        with PIL.Image.open(io.BytesIO(content), formats=FORMATS) as file:
            size, form = file.size, "JPEG" if file.format == "MPO" else file.format or "WEBP"
            animated = form != "JPEG" and getattr(file, "is_animated", False)
    except PIL.UnidentifiedImageError as error:
        raise RequestError(f"{name} is not a {', '.join(FORMATS)} file") from error
    except PIL.Image.DecompressionBombError as error:
        raise TooLargeError(f"{name} has more pixels than are read: {error}") from error
    except Exception as error:  # Pillow raises almost any exception on damaged files
        raise RequestError(f"{name} cannot be read: {error}") from error
    if size[0] * size[1] > most_pixels:
        raise TooLargeError(f"{name} has {size[0]} x {size[1]} pixels; at most {most_pixels} are read")
    if animated:
        raise RequestError(f"{name} is an animation; send one picture")
    reserve(_PIXEL_BYTES[form] * size[0] * size[1])
    try:
        photo = read_photo(content, ReadOptions(most_pixels=most_pixels, formats=FORMATS), name)
        return photo.only_frame(name).fit_channels(channels)
    except GanrtError as error:
        raise RequestError(str(error)) from error


def encode_pictures(pictures: Pictures, form: Format) -> bytes:
    """Encode pictures, uint8 NHWC with 1 (grey) to 4 (RGB and opacity) channels, as an array (`npy`), or as one
    picture: a grid if there are several."""
    if form == "npy":
        buffer = io.BytesIO()
        np.save(buffer, pictures, allow_pickle=False)
        return buffer.getvalue()
    picture = pictures[0] if len(pictures) == 1 else images.make_grid(pictures)
    return encode_photo(Photo((Frame(*split_opacity(picture)),)), form)
