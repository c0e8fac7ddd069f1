"""Opacity beside a network that takes none: the colour under transparent pixels is filled in before, and opacity is
resized and put back after it."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ganrt.errors import RequestError

Plane: TypeAlias = NDArray[Any]
"""uint8 or uint16 (H, W, channels). Opacity has one, from 0, transparent, to the largest value of its dtype, opaque."""


def split_opacity(values: Plane) -> tuple[Plane, Plane | None]:
    """Color and opacity of (H, W, 1 to 4) values."""
    bands = values.shape[2]
    return (values[..., : bands - 1], values[..., bands - 1 :]) if bands in (2, 4) else (values, None)


def turn_upright(values: Plane, orientation: int) -> Plane:
    """Turn and mirror stored pixels, (H, W, bands), as the EXIF orientation (1 to 8) says."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    down = orientation in (3, 4, 7, 8)
    across = orientation in (2, 3, 6, 7)
    return values[:: -1 if down else 1, :: -1 if across else 1]


def fill_hidden_color(color: Plane, opacity: Plane) -> Plane:
    """Give fully transparent pixels the color of the visible ones around them.

    A network mixes the colors of neighbouring pixels, and what a file holds where nothing is seen, mostly black or
    white, would show at the edge of what is seen. The fill is smooth: the mean, weighted by opacity, over the smallest
    square of 2^k pixels that holds something visible ("push-pull": Gortler et al., "The Lumigraph", SIGGRAPH 1996,
    section 3.4).

    Args:
        color: (H, W, C).
        opacity: (H, W, 1) of the same dtype.

    Returns a new array, or `color` itself where no pixel is fully transparent, or all are.
    """
    hidden = opacity[..., 0] == 0
    if not hidden.any() or hidden.all():
        return color
    filled, weight = color.copy(), opacity.astype(np.float32)
    for band in range(color.shape[2]):  # one by one, which takes a third of the memory
        smooth = _fill(color[..., band : band + 1].astype(np.float32), weight)
        filled[hidden, band] = np.rint(smooth[hidden, 0]).astype(color.dtype)
    return filled


def _fill(color: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """`color` where there is weight; elsewhere the weighted mean of a square around."""
    if weight.all():
        return color
    height, width = weight.shape[:2]
    odd = ((0, height % 2), (0, width % 2), (0, 0))
    sums, weights = (_add_squares(np.pad(part, odd)) for part in (color * weight, weight))
    means = (sums / np.maximum(weights, 1e-30)).astype(np.float32)
    around = _fill(means, (weights > 0).astype(np.float32)).repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    return np.where(weight > 0, color, around)


def _add_squares(part: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sums over squares of 2 x 2 pixels."""
    return part[::2, ::2] + part[1::2, ::2] + part[::2, 1::2] + part[1::2, 1::2]


def resize_plane(given: Plane, size: tuple[int, int]) -> Plane:
    """A plane, (H, W, 1), in another size (height, width), by antialiased bicubic interpolation; in the same size, the
    plane itself."""
    if given.shape[:2] == size:
        return given
    import PIL.Image

    peak = np.iinfo(given.dtype).max
    plane = PIL.Image.fromarray(given[..., 0].astype(np.float32))
    try:
        made = np.asarray(plane.resize((size[1], size[0]), PIL.Image.Resampling.BICUBIC))
    except (MemoryError, ValueError) as error:
        raise RequestError(f"a picture of {size[1]} x {size[0]} pixels does not fit into memory") from error
    found: Plane = np.rint(made.clip(0, peak)).astype(given.dtype)[..., None]
    return found
