"""Write photos as files."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ganrt.errors import RequestError
from ganrt.images import PNG_STRATEGY
from ganrt.photos.codecs_library import import_codecs
from ganrt.photos.formats import FILE_FORMATS, SEGMENT, check_format, encode_comment, is_deep_color
from ganrt.photos.metadata import XMP_KEYWORD, Metadata, add_resolution, add_xmp
from ganrt.photos.opacity import Plane
from ganrt.photos.photo import Frame, Photo
from ganrt.photos.png_chunks import insert_chunks, list_chunks

if TYPE_CHECKING:
    import PIL.Image
    import PIL.PngImagePlugin

_XMP_TAG = 700
_DEEP_LEVEL = 2
"""Of the compression of PNG files with 16 bits: higher levels take several times as long, for a few percent. The two
bytes of a value do repeat, so PNG_STRATEGY makes larger files where the values have 8 bits in truth."""


def encode_photo(photo: Photo, form: str, quality: int | None = None) -> bytes:
    """Encode a photo as the content of a file. `list_losses` says what of its metadata the format cannot hold.

    Args:
        form: a name of FILE_FORMATS.
        quality: 1 to 100, of JPEG (default 95), AVIF (default 90) and WebP (default: lossless).

    Raises RequestError, naming what to choose instead, for another format, and where the format cannot hold the pixels;
    MissingLibraryError for 16 bits of color without the extra `deep`.
    """
    if form not in FILE_FORMATS:
        raise RequestError(f"form is {form!r}; choose {', '.join(FILE_FORMATS)}")
    kind = FILE_FORMATS[form]
    photo = replace(photo, frames=tuple(_drop_full_opacity(frame) for frame in photo.frames))
    check_format(photo, form, quality)
    frames = [frame.join() for frame in photo.frames]
    try:
        if any(is_deep_color(values.shape[2], 8 * values.itemsize) for values in frames):
            return _encode_deep(frames, photo.metadata, form)
        images = [_make_image(values) for values in (frames if form == "tiff" else _match_bands(frames))]
        settings = _make_settings(photo, form, quality)
        buffer = io.BytesIO()
        if len(images) > 1:
            settings |= {"save_all": True, "append_images": images[1:]}
            if form != "tiff":
                settings |= {"duration": round_durations([frame.milliseconds for frame in photo.frames])}
        images[0].save(buffer, kind.name, **settings)
    except (OSError, ValueError, OverflowError, MemoryError, struct.error) as error:
        raise RequestError(f"{kind.name} cannot hold it: {str(error) or type(error).__name__}") from error
    return buffer.getvalue()


def _drop_full_opacity(frame: Frame) -> Frame:
    opaque = frame.opacity is not None and bool((frame.opacity == np.iinfo(frame.opacity.dtype).max).all())
    return Frame(frame.color, None, frame.milliseconds) if opaque else frame


def _match_bands(frames: Sequence[Plane]) -> list[Plane]:
    """Frames with as many bands as the others: what one of an animation has, all have."""
    color = any(values.shape[2] > 2 for values in frames)
    opacity = any(values.shape[2] in (2, 4) for values in frames)
    made = []
    for values in frames:
        bands = values.shape[2]
        parts = [values[..., : bands - 1 if bands in (2, 4) else bands]]
        parts = parts * 3 if color and bands < 3 else parts
        if opacity:
            parts.append(values[..., -1:] if bands in (2, 4) else np.full_like(values[..., :1], 255))
        made.append(np.concatenate(parts, axis=2))
    return made


def _make_image(values: Plane) -> PIL.Image.Image:
    import PIL.Image

    return PIL.Image.fromarray(np.ascontiguousarray(values[..., 0] if values.shape[2] == 1 else values))


def round_durations(milliseconds: Sequence[float]) -> list[int]:
    """Whole milliseconds, of which any number add up to the exact sum, rounded."""
    ends = np.rint(np.cumsum([0.0, *milliseconds])).astype(int)
    return [int(time) for time in np.diff(ends)]


def _make_settings(photo: Photo, form: str, quality: int | None) -> dict[str, Any]:
    about = photo.metadata
    found: dict[str, Any] = {"exif": about.exif} if about.exif else {}
    if about.dpi and form in ("png", "jpeg", "tiff"):
        found["dpi"] = about.dpi
    if about.xmp and form in ("jpeg", "webp", "avif"):
        found["xmp"] = about.xmp
    if about.dpi and form in ("webp", "avif"):
        found["exif"] = add_resolution(about.exif, about.dpi)
    if form == "png":
        found |= {"compress_type": PNG_STRATEGY, "pnginfo": _make_text(about), "loop": about.loops or 0}
    if form == "jpeg":
        found |= {"quality": quality or 95, "subsampling": 0, "comment": encode_comment(photo)}
        found = {key: value for key, value in found.items() if not isinstance(value, bytes) or len(value) <= SEGMENT}
    if form == "webp":
        found |= {"quality": quality} if quality else {"lossless": True, "method": 0, "exact": True}
        found["loop"] = about.loops or 0
    if form == "avif":
        found |= {"quality": quality or 90, "subsampling": "4:4:4"}
    if form == "tiff":
        # libtiff, which compresses, does not write the directories of EXIF data.
        found |= {} if about.exif else {"compression": "tiff_adobe_deflate"}
        found |= {"exif": add_xmp(about.exif, about.xmp)} if about.xmp else {}
    return found


def _make_text(about: Metadata) -> PIL.PngImagePlugin.PngInfo:
    import PIL.PngImagePlugin

    chunks = PIL.PngImagePlugin.PngInfo()
    for keyword, value in about.text.items():
        chunks.add_text(keyword, value)
    if about.xmp:
        chunks.add_itxt(XMP_KEYWORD, about.xmp.decode("utf-8", "replace"))
    return chunks


def _encode_deep(frames: Sequence[Plane], about: Metadata, form: str) -> bytes:
    """Encode 16 bits of color, or pages of which one has them."""
    codecs = import_codecs()
    if form == "png":
        content: bytes = codecs.png_encode(frames[0], level=_DEEP_LEVEL)
        return insert_chunks(content, list_chunks(about))
    import tifffile

    settings: dict[str, Any] = {"resolution": about.dpi, "resolutionunit": "INCH"} if about.dpi else {}
    if about.xmp:
        settings["extratags"] = [(_XMP_TAG, "B", len(about.xmp), about.xmp, True)]
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        for values in frames:
            bands = values.shape[2]
            if bands == 2:  # few programs read 16 bits of grey with opacity
                values, bands = values[..., [0, 0, 0, 1]], 4
            file.write(
                np.ascontiguousarray(values[..., 0] if bands == 1 else values),
                photometric="rgb" if bands > 2 else "minisblack",
                planarconfig="contig" if bands > 2 else None,
                extrasamples=["unassalpha"] if bands == 4 else [],
                compression="zlib",
                metadata=None,
                software=False,
                contiguous=False,
                **settings,
            )
    return buffer.getvalue()
