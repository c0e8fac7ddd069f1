"""Pictures of 16 bits: Pillow reads those in grey; of others it keeps the high byte, so that imagecodecs (the extra
`deep`) reads and writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ganrt.errors import ArtifactError
from ganrt.photos.codecs_library import import_codecs
from ganrt.photos.tiff_pages import TiffKind

if TYPE_CHECKING:
    import PIL.Image

Deep = NDArray[np.uint16]
"""(H, W, bands)."""
_PEAK = 65535
_NUMBERS = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
"""Modes of one channel with more than 8 bits."""


def find_raw_mode(image: PIL.Image.Image) -> str:
    """Pillow's name of how a file that is opened, and not yet read, stores its pixels; empty if it does not say."""
    for tile in getattr(image, "tile", ()):
        args = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if args and isinstance(args[0], str):
            return args[0]
    return ""


def has_deep_color(image: PIL.Image.Image, tiff: TiffKind | None, raw: str) -> bool:
    """Whether a file that is opened, and not yet read, holds 16 bits of a color, of which Pillow keeps 8 at most."""
    return image.mode not in _NUMBERS and (tiff.bits == 16 if tiff else ";16" in raw)


def read_numbers(image: PIL.Image.Image, tiff: TiffKind | None = None) -> Deep | None:
    """A picture of Pillow's modes for more than 8 bits: (H, W, 1), or 2 with opacity; None for other modes. 16-bit grey
    is taken as it is, grey of fewer bits is widened; 32-bit numbers must be from 0 to 65535, and floating-point ones
    from 0 to 1.

    Raises ArtifactError for numbers that are not.
    """
    if image.mode.startswith("I;16"):
        return _read_grey(image, tiff)
    if image.mode not in ("I", "F"):
        return None
    values, most = np.asarray(image), _PEAK if image.mode == "I" else 1
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= most):
        kind = "whole" if image.mode == "I" else "floating-point"
        raise ArtifactError(f"its {kind} numbers are {low:g} to {high:g}; they must be from 0 to {most}: scale them")
    return np.rint(values * (_PEAK / most)).astype(np.uint16)[..., None]


def _read_grey(image: PIL.Image.Image, tiff: TiffKind | None) -> Deep:
    transparent = image.info.get("transparency")
    values = np.asarray(image).astype(np.uint16)
    if tiff and tiff.bits < 16:
        values = (values.astype(np.uint32) * _PEAK // (2**tiff.bits - 1)).astype(np.uint16)
    if tiff and tiff.white_is_zero:
        values = _PEAK - values
    if transparent is None:
        return values[..., None]
    return np.stack([values, np.where(values == transparent, 0, _PEAK).astype(np.uint16)], axis=2)


def decode_png(content: bytes) -> Deep:
    """Decode a PNG file of 16 bits of color: (H, W, 2 to 4).

    Raises MissingLibraryError without imagecodecs, ArtifactError for a damaged file.
    """
    codecs = import_codecs()
    try:
        values = codecs.png_decode(content)
    except Exception as error:  # errors of each codec, and whatever their checks raise
        raise ArtifactError(f"its 16-bit values cannot be read: {error}") from error
    if values.dtype != np.uint16 or values.ndim != 3:
        raise ArtifactError(f"its values are {values.dtype} of shape {values.shape}, not 16 bits of color")
    found: Deep = values
    return found


def keep_high_bytes(values: Deep) -> NDArray[np.uint8]:
    """Reduce (H, W, 1 to 4) to 8 bits. Raises ArtifactError where that would make a picture black that is not."""
    high = (values >> 8).astype(np.uint8)
    color = values[..., : 1 if values.shape[2] < 3 else 3]
    if not (color >> 8).any() and color.any():
        raise ArtifactError(
            f"its 16-bit values are {int(color.max())} at most, which is black in 8 bits; ask for a depth of 16 bits, "
            "which keeps them, or scale them"
        )
    return high
