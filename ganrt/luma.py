"""Networks that take the luma of a picture: YCbCr there and back (ITU-T T.871, section 7)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganrt.images import resize
from ganrt.photos import Plane, resize_plane

_RED, _GREEN, _BLUE = 0.299, 0.587, 0.114
"""Weights of luma, of Rec. ITU-R BT.601."""
_CB, _CR = 2 * (1 - _BLUE), 2 * (1 - _RED)
"""Values of blue and red minus luma per unit of Cb and Cr."""


def take_luma(picture: Plane) -> Plane:
    """The luma of a picture: (H, W, 3), uint8 or uint16 -> (H, W, 1)."""
    if picture.dtype == np.uint8:
        return _to_ycbcr(picture)[..., :1]
    luma: Plane = np.rint(_mix_luma(picture)).astype(picture.dtype)[..., None]
    return luma


def add_color(luma: Plane, original: Plane) -> Plane:
    """Join a new luma, (H, W, 1), with the color of the original, (h, w, 3), which is resized by bicubic interpolation.

    Returns (H, W, 3) of the same dtype. 8 bits are computed as Pillow does, in 8 bits; 16 bits in floating point.
    """
    size = luma.shape[:2]
    if luma.dtype != np.uint8:
        return _add_deep_color(luma, original, (size[0], size[1]))
    import PIL.Image

    color = resize(_to_ycbcr(original), (size[0], size[1]))
    planes = (luma[..., 0], color[..., 1], color[..., 2])
    made: Plane = np.asarray(PIL.Image.merge("YCbCr", [PIL.Image.fromarray(plane) for plane in planes]).convert("RGB"))
    return made


def _to_ycbcr(picture: Plane) -> NDArray[np.uint8]:
    import PIL.Image

    return np.asarray(PIL.Image.fromarray(picture).convert("YCbCr"))


def _mix_luma(picture: Plane) -> NDArray[np.float64]:
    mixed: NDArray[np.float64] = picture @ np.array([_RED, _GREEN, _BLUE])
    return mixed


def _add_deep_color(luma: Plane, original: Plane, size: tuple[int, int]) -> NDArray[np.uint16]:
    """Blue and red minus luma are resized as 16-bit numbers around the middle, and green follows from the luma."""
    old, peak = _mix_luma(original), 65535
    middle = (peak + 1) // 2

    def enlarge(band: int, unit: float) -> NDArray[Any]:
        chroma = np.rint((original[..., band] - old) / unit + middle).clip(0, peak).astype(np.uint16)
        return (resize_plane(chroma[..., None], size)[..., 0].astype(np.float64) - middle) * unit

    new = luma[..., 0].astype(np.float64)
    red, blue = new + enlarge(0, _CR), new + enlarge(2, _CB)
    green = (new - _RED * red - _BLUE * blue) / _GREEN
    made: NDArray[np.uint16] = np.rint(np.stack([red, green, blue], axis=2)).clip(0, peak).astype(np.uint16)
    return made
