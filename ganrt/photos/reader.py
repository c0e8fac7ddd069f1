"""Read picture files with everything that makes them pictures: opacity, color profile, orientation, depth, frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, TypeAlias

import numpy as np

from ganrt.errors import ArtifactError, GanrtError, RequestError
from ganrt.photos.deep_pictures import find_raw_mode
from ganrt.photos.gif_blocks import has_gif_end
from ganrt.photos.metadata import EXIF_DIRECTORIES, ORIENTATION, read_metadata
from ganrt.photos.opacity import Plane, fill_hidden_color, split_opacity
from ganrt.photos.photo import Frame, Photo
from ganrt.photos.pixel_values import Page, read_values
from ganrt.photos.source import PIXEL_LIMIT, FileSource, collect_warnings, open_image, open_source

if TYPE_CHECKING:
    import PIL.Image

Source: TypeAlias = "FileSource | PIL.Image.Image"
"""A path, the content of a file, an open binary file, or a Pillow image."""

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF")
"""Pillow's names of the formats that are read."""
MAX_PIXELS = 2**26
"""Most pixels of a picture by default."""
_STILL = ("JPEG", "MPO", "BMP")
"""Formats whose first picture is the picture. MPO is what phones write: a JPEG file followed by further pictures."""


@dataclass(frozen=True)
class ReadOptions:
    """How to read a file."""

    depth: int = 8
    """Bits of a value: 8, or 16 for files that have as many; others keep 8."""
    most_pixels: int = MAX_PIXELS
    """Larger pictures, all frames together, are rejected by their header, before memory is allocated."""
    formats: Sequence[str] = FORMATS
    """Formats that are read. Pillow's decoders for the rarer ones have had more memory faults."""

    all_frames: bool = True
    """Whether all frames of an animation, and all pages, are read; else the first."""
    fill_hidden: bool = True
    """Whether fully transparent pixels get the color of the visible ones around them; else what the file holds."""

    def __post_init__(self) -> None:
        if self.depth not in (8, 16):
            raise RequestError(f"depth is {self.depth!r}; it must be 8 or 16")


DEFAULTS = ReadOptions()
"""8 bits, all formats."""


def read_photo(source: Source, options: ReadOptions = DEFAULTS, name: str | None = None) -> Photo:
    """Read a picture file.

    Orientation and color space are applied, which gives sRGB; CMYK without a profile is converted by Pillow's formula.
    Palettes become colors. Values of 16 bits are reduced to their high byte unless the options say 16; Pillow images of
    32-bit numbers must have values from 0 to 65535, of floating-point numbers values from 0 to 1.

    Args:
        source: a `Source`; a file object is read, and not closed.
        options: the depth, and what is rejected.
        name: of the picture in messages, instead of the file's.

    Raises ArtifactError, naming the file, if it is not such a picture, is damaged, has too many pixels, or cannot be
    shown in sRGB; MissingLibraryError for 16 bits of color without the extra `deep`; RequestError for a file that is
    open as text.
    """
    import PIL.Image

    remarks: list[str] = []
    if isinstance(source, PIL.Image.Image):
        name = name or "the picture"
        with _translate_errors(name):
            return _read_all(source, name, options, None, remarks)
    with open_source(source) as (found, file):
        name = name or found
        with _translate_errors(name), PIXEL_LIMIT.lift():
            with collect_warnings(remarks):
                image = open_image(name, file, options.formats)
            with image:
                return _read_all(image, name, options, file, remarks)


@contextmanager
def _translate_errors(name: str) -> Iterator[None]:
    """Raise ArtifactError for what Pillow raises."""
    try:
        yield
    except GanrtError:
        raise
    except Exception as error:  # Pillow raises almost any exception on damaged files
        raise ArtifactError(f"{name} cannot be read: {str(error) or type(error).__name__}") from error


def _read_all(
    image: PIL.Image.Image, name: str, options: ReadOptions, file: IO[bytes] | None, remarks: list[str]
) -> Photo:
    """Read all frames of an image, which is left at the frame that it was at."""
    if not image.width * image.height:
        raise ArtifactError(f"{name} has {image.width} x {image.height} pixels")
    count = getattr(image, "n_frames", 1)
    used = count if options.all_frames and image.format not in _STILL else 1
    if image.width * image.height * used > options.most_pixels:
        frames = f" in {used} frames" if used > 1 else ""
        raise ArtifactError(
            f"{name} has {image.width} x {image.height} pixels{frames}; at most {options.most_pixels} are read "
            "(--max-pixels, or most_pixels of ganrt.ReadOptions)"
        )
    if image.format == "GIF" and file is not None and not has_gif_end(file):
        remarks.append("has no end mark: it may have been cut, and have had more frames")
    if used < count:
        remarks.append(f"holds {count} pictures, of which the first is used")
    try:
        raw = find_raw_mode(image)
        if image.format == "PNG":  # its EXIF data may follow its pixels
            image.load()
        exif = _open_exif(image, remarks)
        first = Page(image, raw, file, options.depth, exif.get(ORIENTATION, 1), remarks)
        place = image.tell()
        frames_read = tuple(_read_frames(image, used, options, first))
        metadata = read_metadata(image, exif, remarks)
        if file is None and used > 1:
            image.seek(place)
    except ArtifactError as error:
        raise ArtifactError(f"{name}: {error}") from error
    return Photo(frames_read, metadata, tuple(f"{name} {remark}" for remark in dict.fromkeys(remarks)))


def _open_exif(image: PIL.Image.Image, remarks: list[str]) -> PIL.Image.Exif:
    """EXIF data; empty where it is damaged."""
    import PIL.Image

    try:
        with collect_warnings(remarks):
            found = image.getexif()
            for directory in EXIF_DIRECTORIES:
                found.get_ifd(directory)
    except Exception as error:  # Pillow raises almost any exception on damaged data
        remarks.append(f"has damaged EXIF data, which is left out: {str(error) or type(error).__name__}")
        return PIL.Image.Exif()
    return found


def _read_frames(image: PIL.Image.Image, count: int, options: ReadOptions, first: Page) -> Iterator[Frame]:
    page, pixels = first, 0
    for number in range(count):
        if count > 1:
            with collect_warnings(page.remarks):
                image.seek(number)
            page = replace(first, raw=find_raw_mode(image) or first.raw, number=number, several=True)
        pixels += image.width * image.height
        if pixels > options.most_pixels:
            raise ArtifactError(f"its frames have more than {options.most_pixels} pixels together")
        values = read_values(page)
        milliseconds = float(image.info.get("duration") or 0) if count > 1 else 0.0  # some say it once they are read
        if number == 0 and count > 1 and image.info.get("default_image"):
            page.remarks.append("has a picture for programs that show no animations, which is left out")
            continue
        yield _make_frame(values, milliseconds, options.fill_hidden)


def _make_frame(values: Plane, milliseconds: float, fill_hidden: bool) -> Frame:
    color, opacity = split_opacity(np.ascontiguousarray(values))
    filled = color if opacity is None or not fill_hidden else fill_hidden_color(color, opacity)
    return Frame(filled, opacity, milliseconds)
