"""Which values of a network the levels 0 and 255 of a picture are.

Without a mean and a standard deviation they are the same for all channels: a plain range. With them, each channel of
the network has a range of its own; and the channels may stand in another order than those of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ganrt.spec import Image, Output, Range


@dataclass(frozen=True)
class ChannelRanges:
    """The values of each channel of a network."""

    plain: Range
    """Range of the values before they are normalized."""
    ranges: tuple[Range, ...]
    """The values of each channel that are the levels 0 and 255, in the order of the network."""
    places: tuple[int, ...]
    """For each channel of the network: the channel of a picture that it is."""


Levels: TypeAlias = Range | ChannelRanges
"""Values that are the levels 0 and 255: for all channels alike, which are in the order of a picture, or for each."""


def find_levels(item: Image | Output) -> Levels:
    """Return the values that the levels 0 and 255 are in an input or output."""
    if item.mean is None and item.std is None and item.order == "rgb":
        return item.range
    return _find_channel_ranges(item.channels, item.range, item.mean, item.std, item.order)


@lru_cache
def _find_channel_ranges(
    channels: int, plain: Range, mean: Sequence[float] | None, std: Sequence[float] | None, order: str
) -> ChannelRanges:
    centres, widths = mean or (0.0,) * channels, std or (1.0,) * channels
    ranges = tuple(
        ((plain[0] - centre) / width, (plain[1] - centre) / width)
        for centre, width in zip(centres, widths, strict=True)
    )
    places = (2, 1, 0, 3)[:channels] if order == "bgr" else tuple(range(channels))
    return ChannelRanges(plain, ranges, places)


def find_plain_range(levels: Levels) -> Range:
    """Return the range of the values once no normalization is left."""
    return levels.plain if isinstance(levels, ChannelRanges) else levels


def find_hull(levels: Levels) -> Range:
    """Return the smallest range that holds the values of all channels."""
    if not isinstance(levels, ChannelRanges):
        return levels
    return min(low for low, _ in levels.ranges), max(high for _, high in levels.ranges)


def find_span(levels: Levels) -> float:
    """Return the difference of the values of the levels 0 and 255, in the channel where it is smallest."""
    ranges = levels.ranges if isinstance(levels, ChannelRanges) else (levels,)
    return min(high - low for low, high in ranges)


def split_bounds(levels: Levels) -> NDArray[np.float64]:
    """Return the low and the high ends: float64 without dimensions for a range, else (C, 1, 1)."""
    if not isinstance(levels, ChannelRanges):
        return np.array(levels)
    return np.array(levels.ranges).T[..., None, None]


def normalize(images: NDArray[np.float32], levels: Levels) -> NDArray[np.float32]:
    """Convert images in their plain range, channels in the order of a picture, to what the network takes.

    Args:
        images: float32 NCHW.

    Returns `images` themselves where that is the same, else a new array.
    """
    if not isinstance(levels, ChannelRanges):
        return images
    low, scale = _find_conversion(levels)
    return ((images[:, levels.places] - levels.plain[0]) / scale + low).astype(np.float32)


def undo_normalization(images: NDArray[Any], levels: Levels) -> NDArray[Any]:
    """Convert what a network takes or makes to images in their plain range, channels in the order of a picture.

    Args:
        images: floats, NCHW.

    Returns `images` themselves where that is the same, else a new float64 array.
    """
    if not isinstance(levels, ChannelRanges):
        return images
    low, scale = _find_conversion(levels)
    return ((images - low) * scale + levels.plain[0])[:, np.argsort(levels.places)]


def _find_conversion(levels: ChannelRanges) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The value of level 0 in each channel, and how many plain units one of its units is: float64 (C, 1, 1)."""
    low, high = split_bounds(levels)
    return low, (levels.plain[1] - levels.plain[0]) / (high - low)
