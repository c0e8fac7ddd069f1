"""What a picture file says about its picture, as far as it still holds for another one that is made of it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import PIL.Image

ORIENTATION = 0x0112
_KEPT = (0x010D, 0x010E, 0x010F, 0x0110, 0x011D, 0x0131, 0x0132, 0x013B, 0x013C, 0x4746, 0x4749, 0x8298)
"""Name of the document, description, maker, model, name of the page, software, date, artist, computer, rating (twice),
copyright. Others describe how the file stores its pixels."""
EXIF_DIRECTORIES = (0x8769, 0x8825)
"""Of the exposure and of the place."""
_SIZES = (0xA002, 0xA003, 0xA005)
"""Width and height in pixels, and the directory of the preview's format."""
_COLOR_SPACE, _SRGB = 0xA001, 1
_RESOLUTION, _UNIT, _IPTC, _XMP = (0x011A, 0x011B), 0x0128, 0x83BB, 0x02BC
_INCH = 2
_PER_INCH = {_INCH: 1.0, 3: 2.54}
"""Unit of the resolution -> that many to an inch."""
_XMP_ORIENTATION = re.compile(rb'\s+tiff:Orientation="[0-9]"|<tiff:Orientation>[0-9]</tiff:Orientation>')
XMP_KEYWORD = "XML:com.adobe.xmp"


@dataclass(frozen=True)
class Metadata:
    """What a file says about its picture. Color profile and orientation are not part of it: they are applied."""

    format: str = ""
    """Pillow's name of the format, such as PNG; empty for a picture that is of no file."""
    dpi: tuple[float, float] | None = None
    """Pixels per inch, across and down."""
    exif: bytes = b""
    """EXIF data: what was photographed, when, where and how."""
    xmp: bytes = b""
    """XMP packet."""
    text: Mapping[str, str] = field(default_factory=dict)
    """Text chunks of a PNG file; the comment of another one as `Comment`."""
    loops: int | None = None
    """How often an animation is played, 0 for without end; None for other pictures and if it does not say."""

    def enlarge(self, factor: float) -> Metadata:
        """The metadata of a picture with more pixels across and down. Those per inch grow, so that the size in print
        stays."""
        return replace(self, dpi=self.dpi and (self.dpi[0] * factor, self.dpi[1] * factor))


def read_metadata(image: PIL.Image.Image, exif: PIL.Image.Exif, remarks: list[str]) -> Metadata:
    """Read what still holds once orientation and color profile are applied.

    Args:
        exif: of the image; empty if it is damaged.
        remarks: takes what the file holds and this does not.
    """
    text = {key: str(value) for key, value in getattr(image, "text", {}).items() if key != XMP_KEYWORD}
    comment = image.info.get("comment")
    if isinstance(comment, bytes):
        text["Comment"] = comment.decode("utf-8", "replace")
    if image.info.get("photoshop") or _IPTC in exif:
        remarks.append("holds data of Photoshop or IPTC, which is left out")
    across, down = image.info.get("aspect") or (1, 1)
    if across != down:
        remarks.append(f"has pixels that are not square ({across} to {down}), which is not kept")
    xmp = image.info.get("xmp", b"")
    return Metadata(
        format="JPEG" if image.format == "MPO" else image.format or "",
        dpi=_read_dpi(image, exif),
        exif=_read_exif(exif),
        xmp=_XMP_ORIENTATION.sub(b"", xmp.encode() if isinstance(xmp, str) else xmp),
        text=text,
        loops=_count_loops(image),
    )


def _count_loops(image: PIL.Image.Image) -> int | None:
    """How often an animation is played. A GIF file says how often again, or nothing for once."""
    if getattr(image, "n_frames", 1) == 1:
        return None
    loops: int | None = image.info.get("loop")
    if image.format != "GIF":
        return loops
    return 1 if loops is None else loops + 1 if loops else 0


def _read_dpi(image: PIL.Image.Image, exif: PIL.Image.Exif) -> tuple[float, float] | None:
    found = image.info.get("dpi")
    try:
        if not found and exif.get(_UNIT, _INCH) in _PER_INCH:
            factor = _PER_INCH[exif.get(_UNIT, _INCH)]
            found = tuple(float(exif[tag]) * factor for tag in _RESOLUTION)
        dpi = (float(found[0]), float(found[1])) if found else (0.0, 0.0)
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return dpi if all(1 < side < math.inf for side in dpi) else None  # 1: TIFF without a unit


def _read_exif(found: PIL.Image.Exif) -> bytes:
    import PIL.Image

    kept = PIL.Image.Exif()
    for tag in _KEPT:
        if tag in found:
            kept[tag] = found[tag]
    for directory in EXIF_DIRECTORIES:
        values = {tag: value for tag, value in found.get_ifd(directory).items() if tag not in _SIZES}
        if _COLOR_SPACE in values:
            values[_COLOR_SPACE] = _SRGB
        if values:
            kept.get_ifd(directory).update(values)
    return kept.tobytes() if kept or any(kept.get_ifd(name) for name in EXIF_DIRECTORIES) else b""


def add_resolution(exif: bytes, dpi: tuple[float, float]) -> bytes:
    """EXIF data with pixels per inch, for formats that hold them nowhere else."""
    return _add_tags(exif, {_RESOLUTION[0]: dpi[0], _RESOLUTION[1]: dpi[1], _UNIT: _INCH})


def add_xmp(exif: bytes, xmp: bytes) -> bytes:
    """EXIF data with an XMP packet, as TIFF holds it."""
    return _add_tags(exif, {_XMP: xmp})


def _add_tags(exif: bytes, tags: Mapping[int, Any]) -> bytes:
    import PIL.Image

    made = PIL.Image.Exif()
    made.load(exif)
    for tag, value in tags.items():
        made[tag] = value
    return made.tobytes()
