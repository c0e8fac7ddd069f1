"""The formats that photos are written in, and what each cannot hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ganrt.checks import is_whole
from ganrt.errors import RequestError
from ganrt.photos.photo import Photo

COMMENT = "Comment"
"""Keyword of the text that JPEG holds."""
SEGMENT = 65000
"""Most bytes of a piece of metadata in a JPEG file, whose segments have 65535."""


@dataclass(frozen=True)
class FileFormat:
    """A format that photos are written in."""

    name: str
    """Pillow's name of it."""
    suffix: str
    most_side: int | None = None
    """Most pixels of a side; None where memory ends first."""
    opacity: bool = True
    frames: bool = True
    deep: bool = False
    """Whether it holds 16 bits."""
    lossy: bool = False
    """Whether a quality from 1 to 100 is a choice."""
    text: bool = False
    """Whether it holds text by keywords."""
    loops: bool = False
    """Whether it holds how often an animation is played."""


FILE_FORMATS = {
    "png": FileFormat("PNG", ".png", deep=True, text=True, loops=True),
    "jpeg": FileFormat("JPEG", ".jpg", 65500, opacity=False, frames=False, lossy=True),
    "webp": FileFormat("WEBP", ".webp", 16383, lossy=True, loops=True),
    "avif": FileFormat("AVIF", ".avif", 32768, lossy=True),
    "tiff": FileFormat("TIFF", ".tif", deep=True),
}
"""Name, as `--format` takes it -> format."""


def choose_format(photo: Photo) -> str:
    """The format of a photo's file, of those that are written; for others png, which loses nothing."""
    return next((name for name, kind in FILE_FORMATS.items() if kind.name == photo.metadata.format), "png")


def check_format(photo: Photo, form: str, quality: int | None) -> None:
    """Raise RequestError, naming what to choose instead, where a format cannot hold the pixels of a photo, or takes no
    such quality."""
    kind, frames = FILE_FORMATS[form], photo.frames
    if quality is not None and not (kind.lossy and is_whole(quality) and 1 <= quality <= 100):
        raise RequestError(f"quality is {quality!r} for {kind.name}; it is 1 to 100, and for {_name(lossy=True)}")
    if len(frames) > 1 and not kind.frames:
        raise RequestError(f"{kind.name} cannot hold {len(frames)} frames; choose {_name(frames=True)}")
    if any(frame.opacity is not None for frame in frames) and not kind.opacity:
        raise RequestError(f"{kind.name} cannot hold opacity; choose {_name(opacity=True)}")
    if max(frame.depth for frame in frames) > 8:
        if not kind.deep:
            raise RequestError(f"{kind.name} cannot hold 16 bits; choose {_name(deep=True)}")
        if len(frames) > 1 and form != "tiff":
            raise RequestError(f"{kind.name} cannot hold {len(frames)} frames of 16 bits; choose tiff")
    sizes = {frame.color.shape[:2] for frame in frames}
    if len(sizes) > 1 and form != "tiff":
        raise RequestError(f"{kind.name} cannot hold frames of different sizes; choose tiff")
    height, width = frames[0].color.shape[:2]
    if kind.most_side and max(height, width) > kind.most_side:
        raise RequestError(f"{kind.name} cannot hold {width} x {height} pixels; a side has {kind.most_side} at most")


def _name(**wanted: bool) -> str:
    """The formats with a property."""
    return ", ".join(
        name for name, kind in FILE_FORMATS.items() if all(getattr(kind, key) == value for key, value in wanted.items())
    )


def list_losses(photo: Photo, form: str) -> tuple[str, ...]:
    """What of a photo's metadata a format cannot hold, one sentence for each."""
    return tuple(_list_losses(photo, form))


def _list_losses(photo: Photo, form: str) -> Iterator[str]:
    about, kind = photo.metadata, FILE_FORMATS[form]
    texts = [key for key in about.text if not (form == "jpeg" and key == COMMENT)]
    if texts and not kind.text:
        yield f"{kind.name} holds no such text, which is left out: {', '.join(texts)}"
    if not holds_exif(photo, form):
        yield f"{kind.name} of 16 bits of color is written without EXIF data, which is left out"
    if about.loops and len(photo.frames) > 1 and not kind.loops:
        yield f"{kind.name} does not hold how often an animation is played, which was {about.loops} times"
    if form == "tiff" and any(frame.milliseconds for frame in photo.frames):
        yield "TIFF does not hold how long frames are shown"
    if form == "jpeg":
        for name, content in (("EXIF data", about.exif), ("XMP data", about.xmp), (COMMENT, encode_comment(photo))):
            if len(content) > SEGMENT:
                yield f"JPEG holds no {name} of {len(content)} bytes, which is left out"


def holds_exif(photo: Photo, form: str) -> bool:
    """Whether the EXIF data of a photo, if there is any, can be written with its pixels."""
    deep = any(is_deep_color(frame.join().shape[2], frame.depth) for frame in photo.frames)
    return not (photo.metadata.exif and form == "tiff" and deep)


def is_deep_color(bands: int, depth: int) -> bool:
    """Whether a picture has 16 bits and is not just grey: Pillow does not write it."""
    return depth > 8 and bands > 1


def encode_comment(photo: Photo) -> bytes:
    """The comment of a JPEG file."""
    return photo.metadata.text.get(COMMENT, "").encode()
