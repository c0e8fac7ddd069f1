"""The values of one picture of a file, upright and in sRGB: what its mode, depth, palette, orientation and color space
make of its bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import numpy as np

from ganrt.errors import RequestError
from ganrt.photos.color_numbers import is_deep_avif, make_profile
from ganrt.photos.color_profiles import convert_lab, convert_to_srgb, fits
from ganrt.photos.deep_pictures import decode_png, has_deep_color, keep_high_bytes, read_numbers
from ganrt.photos.opacity import Plane, split_opacity, turn_upright
from ganrt.photos.tiff_pages import TiffKind, decode_tiff, find_tiff_kind

if TYPE_CHECKING:
    import PIL.Image

_SMALL = {"L;2": 2, "L;4": 4}
"""Grey of a PNG file with fewer bits."""
_REDUCED = "has 16 bits a value, of which 8 are kept; a depth of 16 keeps all"


@dataclass(frozen=True)
class Page:
    """A picture of a file that Pillow is at, and has not read yet."""

    image: PIL.Image.Image
    raw: str
    """How it is stored: `find_raw_mode`."""
    file: IO[bytes] | None
    """None for a Pillow image that was given as such."""
    depth: int
    """Bits of a value that are asked for: 8, or 16 if it has as many."""
    orientation: int
    """Of EXIF, 1 to 8."""
    remarks: list[str]
    """Takes what is not kept."""
    number: int = 0
    several: bool = False
    """Whether the file has more."""


def read_values(page: Page) -> Plane:
    """Read grey or sRGB, with opacity last where there is some: (H, W, 1 to 4), uint8 or uint16, upright.

    Raises ArtifactError for values or a color profile that are not understood; MissingLibraryError for 16 bits of color
    without the extra `deep`.
    """
    image, tiff = page.image, find_tiff_kind(page.image)
    profile = image.info.get("icc_profile") or b""
    if page.file is not None:
        profile = make_profile(image, page.file) or profile
        if image.format == "AVIF" and is_deep_avif(page.file):
            page.remarks.append("has more than 8 bits a value, of which 8 are kept")
    values = _decode_deep(page, tiff)
    turned = values is None and image.format == "TIFF"  # by Pillow
    if values is None:
        values = read_numbers(image, tiff)
    if values is not None and page.depth == 8:
        values = keep_high_bytes(values)
        page.remarks.append(_REDUCED)
    if tiff and tiff.unknown:
        page.remarks.append("has a channel that is neither color nor opacity, which is left out")
    if values is None:
        values, profile = _read_bytes(image, page.raw, profile)
    if profile:
        values = _apply_profile(page, values, profile)
    return values if turned else turn_upright(values, page.orientation)


def _decode_deep(page: Page, tiff: TiffKind | None) -> Plane | None:
    """16 bits of color where they are needed: asked for, or not to be had from the 8 that Pillow keeps."""
    image = page.image
    if not has_deep_color(image, tiff, page.raw):
        return None
    if image.mode == "CMYK" or (page.several and image.format == "PNG"):
        what = "of an animation" if page.several else "of CMYK"
        page.remarks.append(f"has 16 bits a value {what}, of which 8 are kept")
        return None
    if page.file is None:
        if page.depth == 16:
            raise RequestError("a Pillow image holds 8 bits of color; give the file for a depth of 16")
        page.remarks.append(_REDUCED)
        return None
    lost = "transparency" in image.info or bool(tiff and tiff.planar)
    if page.depth == 8 and not lost and _has_color(image):
        page.remarks.append(_REDUCED)
        return None
    page.file.seek(0)
    content = page.file.read()
    return decode_tiff(content, page.number, tiff) if tiff else decode_png(content)


def _has_color(image: PIL.Image.Image) -> bool:
    return bool(np.asarray(image.convert("RGB")).any())


def _read_bytes(image: PIL.Image.Image, raw: str, profile: bytes) -> tuple[Plane, bytes]:
    """A picture of 8 bits, and the profile that is still to be applied."""
    if image.mode == "CMYK":
        values = np.asarray(image if profile else image.convert("RGB"))
        return (convert_to_srgb(values, profile), b"") if profile else (values, b"")
    if image.mode == "LAB":
        return convert_lab(image), b""
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        bits = _SMALL.get(raw)
        if bits and isinstance(image.info.get("transparency"), int):  # Pillow widens the values, and not this one
            image.info["transparency"] *= 255 // (2**bits - 1)
        values = np.asarray(image.convert("LA" if grey else "RGBA"))
        return (values[..., [0, 3]] if raw.startswith("LA;16") else values), profile
    values = np.asarray(image.convert("L" if grey else "RGB"))
    return values.reshape(*values.shape[:2], -1), profile


def _apply_profile(page: Page, values: Plane, profile: bytes) -> Plane:
    color, opacity = split_opacity(values)
    if page.file is None and not page.image.format and not fits(color, profile):
        page.remarks.append("has a color profile that is of no use since its colors were converted, and is left out")
        return values
    color = convert_to_srgb(color, profile)
    return color if opacity is None else np.concatenate([color, opacity], axis=2)
