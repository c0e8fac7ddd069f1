"""What a variant adds to the flat parts of an image: sky, walls, backgrounds. Errors that detail hides are seen there,
and the PSNR of the whole image does not show them.

Everything is in levels: 1/255 of the output range, the steps of a uint8 picture. Images are float and are not rounded,
but they are clamped to the range as pictures are. A texture well below half a level mostly vanishes when the image is
rounded; one of a level or more is a pattern that can be seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ganrt.images import Floats
from ganrt.levels import Levels, find_plain_range, undo_normalization

TEXTURE = 0.75
"""Most texture that a reduced precision may add, in levels. Conversion aims far below, but integer arithmetic differs
between backends: OpenVINO was seen to add 0.6 levels with a graph that adds 0.1 as it is written."""
SHIFT = 1.0
"""Largest mean shift allowed, in levels."""
_BLOCK = 8
"""Side of a block in pixels."""
_FLAT = 1.0
"""A block is flat when the original's standard deviation in it is below this, in levels."""
_FEWEST = 16
"""Flat blocks of a sample, channels counted one by one, below which nothing is measured."""


@dataclass(frozen=True)
class FlatParts:
    """Result of `measure_flat_parts`. Every field has one entry per sample, 0 for one with hardly any flat parts."""

    original: NDArray[np.float64]
    """Standard deviation of the original inside its flat blocks (root mean square over the blocks), in levels."""
    found: NDArray[np.float64]
    """Standard deviation of the image under test inside the same blocks, in levels."""
    shift: NDArray[np.float64]
    """How much brighter or darker the blocks are, without sign, on average, in levels."""

    @classmethod
    def join(cls, parts: Sequence[FlatParts]) -> FlatParts:
        """Return the results of several batches as those of one."""
        return cls(*(np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(cls)))

    @property
    def texture(self) -> NDArray[np.float64]:
        """Standard deviation that was added, in levels; negative where flat parts have become smoother."""
        return self.found - self.original

    def measure_excess(self, texture: float = TEXTURE, shift: float = SHIFT) -> NDArray[np.float64]:
        """Return the added variance and the squared shift as fractions of those at the given limits, whichever is
        larger; above 1 a limit is exceeded. Variances of independent errors add up, and so does this."""
        allowed = (self.original + texture) ** 2 - self.original**2
        return np.maximum((self.found**2 - self.original**2) / allowed, (self.shift / shift) ** 2)

    def failures(self) -> tuple[str, ...]:
        """Return a sentence for each limit that is exceeded, about the worst sample."""
        found = []
        for what, values, limit in (("adds a texture", self.texture, TEXTURE), ("adds a shift", self.shift, SHIFT)):
            if values.max() > limit:
                worst = int(np.argmax(values))
                found.append(
                    f"{what} of {values[worst]:.2f} levels of 255 to the flat parts of sample {worst}; "
                    f"{limit:g} are allowed"
                )
        return tuple(found)


def measure_flat_parts(found: Floats, expected: Floats, levels: Levels) -> FlatParts:
    """Compare two float NCHW batches where the original is flat, in blocks of _BLOCK x _BLOCK pixels of each channel.

    Args:
        found: the images under test, finite.
        expected: the images of the original, of the same shape.
        levels: output range of the model, or `find_levels` of its output.
    """
    made, original = (_cut_blocks(images, levels) for images in (found, expected))
    before = original.var(axis=2)
    flat = before < _FLAT**2
    count = flat.sum(axis=1, keepdims=True)
    weight = np.where(count >= _FEWEST, flat / np.maximum(count, 1), 0.0)
    shift = np.abs(made.mean(axis=2) - original.mean(axis=2))
    old, new, moved = ((values * weight).sum(axis=1) for values in (before, made.var(axis=2), shift))
    return FlatParts(np.sqrt(old), np.sqrt(new), moved)


def _cut_blocks(images: Floats, levels: Levels) -> NDArray[np.float64]:
    """(N, blocks, pixels), in levels. Rows and columns that fill no block are left out."""
    low, high = find_plain_range(levels)
    count, channels, height, width = images.shape
    rows, columns = height // _BLOCK, width // _BLOCK
    whole = undo_normalization(images[:, :, : rows * _BLOCK, : columns * _BLOCK], levels).astype(np.float64)
    steps = (np.clip(whole, low, high) - low) * (255 / (high - low))
    cut = steps.reshape(count, channels, rows, _BLOCK, columns, _BLOCK).transpose(0, 1, 2, 4, 3, 5)
    return cut.reshape(count, channels * rows * columns, _BLOCK**2)
