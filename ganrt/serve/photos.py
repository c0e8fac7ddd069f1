"""Pictures that clients send and get: read with their transparency and colour profile, and written with both."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import PIL.Image
import PIL.ImageCms
import PIL.ImageOps

from ganrt import images
from ganrt.errors import OverloadedError, RequestError, TooLargeError
from ganrt.images import FORMATS, Pictures

Format: TypeAlias = Literal["png", "webp", "npy"]
"""Formats of an answer."""
MEDIA_TYPES: dict[Format, str] = {"png": "image/png", "webp": "image/webp", "npy": "application/x-npy"}
_PNG_LEVEL = 3
"""Higher levels of compression take several times as long, for a few percent."""
_PIXEL_BYTES = {"PNG": 24, "JPEG": 24, "WEBP": 32}
"""Format -> bytes for a pixel while a picture is decoded, turned and converted, measured with Pillow 12."""
_SPACES = {"RGB": b"RGB ", "RGBA": b"RGB ", "L": b"GRAY"}
"""Mode of a picture -> the colour space of profiles that describe it."""


class Photo(NamedTuple):
    """A picture, and what belongs to it."""

    picture: Pictures
    """uint8 (H, W, C), with the channels that the model takes."""
    alpha: Pictures | None
    """Opacity, uint8 (H, W, 1), which the model does not take; None for an opaque format, and where it takes it."""
    profile: bytes | None
    """ICC profile that describes the picture; None for sRGB."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it takes."""
        return self.picture.nbytes + (0 if self.alpha is None else self.alpha.nbytes) + len(self.profile or b"")


def read_photo(
    name: str, content: bytes, channels: int, most_pixels: int, reserve: Callable[[int], None] = lambda _: None
) -> Photo:
    """Read a PNG, JPEG or WebP file.

    The EXIF orientation is applied and 16-bit values are reduced to their high byte. A profile of another colour space
    than the result's, such as that of a CMYK file, is applied, which gives sRGB.

    Args:
        name: of the input, for messages.
        content: the file.
        channels: 1 (grey), 3 (RGB) or 4 (RGB and opacity).
        most_pixels: larger pictures are rejected by their header, before memory is allocated.
        reserve: is told how many bytes of memory decoding takes, before it begins.

    Raises RequestError if it is not such a file, is damaged or animated, and for another number of channels;
    TooLargeError for too many pixels; what `reserve` raises.
    """
    images.check_file_channels(name, channels)
    try:
        with PIL.Image.open(io.BytesIO(content), formats=FORMATS) as file:
            if file.width * file.height > most_pixels:
                raise TooLargeError(f"{name} has {file.width} x {file.height} pixels; at most {most_pixels} are read")
            if getattr(file, "is_animated", False):
                raise RequestError(f"{name} is an animation; send one picture")
            reserve(_PIXEL_BYTES[file.format or "WEBP"] * file.width * file.height)
            return _convert(PIL.ImageOps.exif_transpose(file), channels)
    except (RequestError, OverloadedError):
        raise
    except PIL.Image.DecompressionBombError as error:
        raise TooLargeError(f"{name} has more pixels than are read: {error}") from error
    except PIL.UnidentifiedImageError as error:
        raise RequestError(f"{name} is not a {', '.join(FORMATS)} file") from error
    except Exception as error:  # Pillow raises almost any exception on damaged files
        raise RequestError(f"{name} cannot be read: {error}") from error


def _convert(image: PIL.Image.Image, channels: int) -> Photo:
    profile = image.info.get("icc_profile")
    alpha = None
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"))[..., None]
    if profile and profile[16:20] != _SPACES[images.MODES[channels]]:
        image, profile = _apply_profile(image, profile), None
        if channels == 4 and alpha is not None:
            image.putalpha(PIL.Image.fromarray(alpha[..., 0]))
    return Photo(images.from_pillow(image, channels), None if channels == 4 else alpha, profile or None)


def _apply_profile(image: PIL.Image.Image, profile: bytes) -> PIL.Image.Image:
    """Convert a picture to sRGB by its profile; a profile that does not fit its mode is damaged."""
    source = PIL.ImageCms.ImageCmsProfile(io.BytesIO(profile))
    grey = profile[16:20] == _SPACES["L"]
    plain = image if image.mode in ("L", "RGB", "CMYK") else image.convert("L" if grey else "RGB")
    made = PIL.ImageCms.profileToProfile(plain, source, PIL.ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert made is not None, "it returns a new picture unless it is asked to change the old one"
    return made


def encode_pictures(pictures: Pictures, form: Format, photo: Photo | None = None) -> bytes:
    """Encode pictures, uint8 NHWC, as an array (`npy`), or as one picture: a grid if there are several.

    Args:
        pictures: at least one.
        form: the format.
        photo: the picture that a single one was made of; its profile is put back, and its transparency, resized, where
            the model makes none.
    """
    buffer = io.BytesIO()
    if form == "npy":
        np.save(buffer, pictures, allow_pickle=False)
        return buffer.getvalue()
    picture = pictures[0] if len(pictures) == 1 else images.make_grid(pictures)
    bands = [picture[..., band] for band in range(picture.shape[-1])]
    profile = None
    if photo is not None:
        profile = photo.profile
        if photo.alpha is not None and len(bands) < 4:
            bands.append(images.resize(photo.alpha, picture.shape[:2])[..., 0])
    image = _join_bands(bands)
    if form == "png":
        image.save(buffer, "PNG", compress_level=_PNG_LEVEL, icc_profile=profile)
    else:
        image.save(buffer, "WEBP", lossless=True, method=0, exact=True, icc_profile=profile)
    return buffer.getvalue()


def _join_bands(bands: Sequence[Pictures]) -> PIL.Image.Image:
    """Return a picture of 1 (grey) to 4 (RGB and opacity) bands, uint8 (H, W) each."""
    planes = [PIL.Image.fromarray(np.ascontiguousarray(band)) for band in bands]
    return planes[0] if len(planes) == 1 else PIL.Image.merge(("LA", "RGB", "RGBA")[len(planes) - 2], planes)
