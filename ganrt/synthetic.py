"""Synthetic images for image inputs, for proofs, calibration and benchmarks: a function of a seed and a sample number.

The values are such as can occur. Pictures have flat parts, gradients, edges and grain. Class maps, instance maps and
masks, which are known by the role of the input, have regions of one value each.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ganrt import latents
from ganrt.images import MODES, Floats
from ganrt.latents import Whole64
from ganrt.levels import find_levels, normalize
from ganrt.spec import Image

CLASS_MAPS = ("classes", "labels", "parsing", "segmap", "segmentation", "semantics")
"""Roles of inputs that hold a class per pixel: as a whole number in one channel, or one-hot in several."""
INSTANCE_MAPS = ("instance", "instances")
"""Roles of inputs that hold the number of an object per pixel."""
MASKS = ("mask",)
"""Roles of inputs that hold one of two values per pixel."""

_BLOCK = 4
"""Side of the blocks in a texture, in pixels."""
_GRAIN = 0.25
"""Fraction of the range that is noise per pixel in a texture; the rest is constant per block."""
_REGIONS = 10
"""Regions of an image; the points of a region are nearer to its centre than to any other."""
_OWN_STREAM = 2**30
"""Added to the stream of an input for its regions, so that they do not depend on the textures."""
_SLOPE = 0.3
"""Largest difference across an image in a region with a gradient, as a fraction of the range."""


def draw_image(item: Image, seed: Whole64, start: Whole64, count: int, stream: int, size: tuple[int, int]) -> Floats:
    """Draw the samples start to start + count - 1 of an image input.

    Args:
        item: the input; its role and channels decide what is drawn.
        seed, start, count, stream: as for the functions of `ganrt.latents`.
        size: height and width in pixels.

    Returns float32 (count, channels, height, width) within the input's range, normalized if it is, owned by the caller.
    """
    return normalize(_draw_plain(item, seed, start, count, stream, size), find_levels(item))


def _draw_plain(item: Image, seed: Whole64, start: Whole64, count: int, stream: int, size: tuple[int, int]) -> Floats:
    """`draw_image` before it is normalized."""
    kind = item.role.lower()
    if kind in CLASS_MAPS and item.channels > 1:
        return _draw_one_hot(item, seed, start, count, stream, size)
    if kind in (*CLASS_MAPS, *INSTANCE_MAPS, *MASKS):
        return _draw_map(item, seed, start, count, stream, size, levels=2 if kind in MASKS else None)
    if item.channels in MODES:
        return _draw_picture(item, seed, start, count, stream, size)
    return draw_texture(item, seed, start, count, stream, size)


def draw_texture(item: Image, seed: Whole64, start: Whole64, count: int, stream: int, size: tuple[int, int]) -> Floats:
    """Draw constant blocks plus grain, so that low and high frequencies are both present. Arguments and result are
    those of `draw_image`, before it is normalized."""
    height, width = size
    blocks = (item.channels, -(-height // _BLOCK), -(-width // _BLOCK))
    coarse, fine = math.prod(blocks), item.channels * height * width
    values = latents.uniform(seed, start, count, stream, coarse + fine, 0.0, 1.0)
    flat = values[:, :coarse].reshape(count, *blocks).repeat(_BLOCK, axis=2).repeat(_BLOCK, axis=3)
    grain = values[:, coarse:].reshape(count, item.channels, height, width)
    mixed = flat[:, :, :height, :width] * np.float32(1 - _GRAIN) + grain * np.float32(_GRAIN)
    return _scale(mixed, item)


def _draw_picture(item: Image, seed: Whole64, start: Whole64, count: int, stream: int, size: tuple[int, int]) -> Floats:
    """Regions of a colour each: of every three, one is flat, one has a gradient, and one shows a texture."""
    height, width = size
    regions, values = _draw_regions(seed, start, count, stream, size, 3 * item.channels)
    colour, across, down = (
        np.take_along_axis(part, regions.reshape(count, 1, -1), axis=2).reshape(count, -1, height, width)
        for part in np.split(values.transpose(0, 2, 1), 3, axis=1)
    )
    x, y = np.linspace(-0.5, 0.5, width, dtype=np.float32), np.linspace(-0.5, 0.5, height, dtype=np.float32)
    slope = np.float32(_SLOPE)
    gradient = colour + ((across - np.float32(0.5)) * x + (down - np.float32(0.5)) * y[:, None]) * slope
    low, high = item.range
    texture = (draw_texture(item, seed, start, count, stream, size) - np.float32(low)) / np.float32(high - low)
    kind = regions[:, None] % 3
    return _scale(np.clip(np.where(kind == 0, colour, np.where(kind == 1, gradient, texture)), 0.0, 1.0), item)


def _draw_map(
    item: Image, seed: Whole64, start: Whole64, count: int, stream: int, size: tuple[int, int], levels: int | None
) -> Floats:
    """Regions of a value each: one of `levels` equally spaced values, or a whole number within the range."""
    regions, values = _draw_regions(seed, start, count, stream, size, item.channels)
    low, high = item.range
    first, last = math.ceil(low), math.floor(high)
    if levels is not None:
        chosen = low + np.floor(values * levels) * (high - low) / (levels - 1)
    elif first <= last:
        chosen = first + np.floor(values * (last - first + 1))
    else:
        chosen = np.full_like(values, low)
    drawn = np.take_along_axis(chosen.transpose(0, 2, 1), regions.reshape(count, 1, -1), axis=2)
    return np.ascontiguousarray(drawn.reshape(count, item.channels, *size), np.float32)


def _draw_one_hot(item: Image, seed: Whole64, start: Whole64, count: int, stream: int, size: tuple[int, int]) -> Floats:
    """Regions of a class each: its channel holds the high end of the range, the others the low end."""
    regions, values = _draw_regions(seed, start, count, stream, size, 1)
    classes = np.floor(values[..., 0] * item.channels).astype(np.int64)
    drawn = np.take_along_axis(classes, regions.reshape(count, -1), axis=1).reshape(count, 1, *size)
    hot = drawn == np.arange(item.channels)[:, None, None]
    return _scale(hot.astype(np.float32), item)


def _draw_regions(
    seed: Whole64, start: Whole64, count: int, stream: int, size: tuple[int, int], width: int
) -> tuple[NDArray[np.int64], latents.Float32s]:
    """Returns the number of the region of each pixel, int64 (count, *size), and `width` values from 0 to 1 for each
    region, float32 (count, _REGIONS, width)."""
    drawn = latents.uniform(seed, start, count, stream + _OWN_STREAM, _REGIONS * (2 + width), 0.0, 1.0)
    drawn = drawn.reshape(count, _REGIONS, 2 + width)
    sides = (np.arange(side, dtype=np.float32) + np.float32(0.5) for side in size)
    centres = drawn[..., :2] * np.array(size, np.float32)
    down, right = ((side - centres[..., axis, None]) ** 2 for axis, side in enumerate(sides))
    return np.argmin(down[..., :, None] + right[..., None, :], axis=1), drawn[..., 2:]


def _scale(values: Floats, item: Image) -> Floats:
    """Map 0 to 1 to the range of the input."""
    low, high = item.range
    return np.ascontiguousarray(values * np.float32(high - low) + np.float32(low), np.float32)
