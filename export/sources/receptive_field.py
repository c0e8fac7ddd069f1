"""Measure how far an input pixel reaches: which output pixels change with it. With that, large pictures are computed in
tiles that overlap by as much, and give the same picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ganrt import feeds
from ganrt.feeds import Array, Feeds
from ganrt.images import Floats
from ganrt.levels import find_levels, find_span, undo_normalization
from ganrt.spec import Image, Spec

_SIDES = (64, 128, 256)
"""Of the pictures that are tried, in turn, while the changes reach the border."""
_SEED = 11
_INNER = 24
"""Side of what a window and the whole picture have in common, in pixels."""
_WHOLE = 192
"""Least side of the whole picture: a dilated convolution must see something in all its places."""
_ROUNDING = 1e-5
"""Of the output's range: convolutions of other sizes add up in another order."""
_CHANGES = (1.0, -1.0, 0.5)
"""Shares of the range by which a pixel changes: a rectifier hides some."""


def measure_reach(spec: Spec, run: Callable[[Feeds], Floats]) -> int | None:
    """Return the receptive-field radius of a model in input pixels, or None if a pixel can change any other.

    Args:
        spec: with image inputs of free size; an output of free size too.
        run: the model: feeds -> images, float32 NCHW. Without rounding that depends on what other pixels hold.

    Pixels of every residue modulo `multiple_of` are changed, in each image input, because strides and upsampling make
    the reach depend on the place. What no change of these pictures shows is not found; so a window is compared with the
    whole (`has_reach`).
    """
    step = max(item.multiple_of for item in spec.images)
    for side in _SIDES:
        side = -(-side // step) * step
        found = _measure_at(spec, run, side, step)
        if found is not None and has_reach(spec, run, found):
            return found
    return None


def has_reach(spec: Spec, run: Callable[[Feeds], Floats], reach: int) -> bool:
    """Whether a window of a picture gives what the whole gives, but for `reach` pixels along its sides.

    Args:
        spec, run: as for `measure_reach`.
    """
    step = max(item.multiple_of for item in spec.images)
    margin = -(-max(reach, 1) // step) * step
    inner = max(step, -(-_INNER // step) * step)
    window, side = inner + 2 * margin, -(-max(_WHOLE, inner + 4 * margin) // step) * step
    given = feeds.draw_feeds(spec, _SEED, 1, 1, size=(side, side))
    places = slice(margin, margin + window)
    names = {item.name for item in spec.images}
    cut = {n: np.ascontiguousarray(a[..., places, places]) if n in names else a for n, a in given.items()}
    scale = spec.output.scale
    whole, part = (undo_normalization(run(each), find_levels(spec.output))[0] for each in (given, cut))
    middle, own = (slice((first + margin) * scale, (first + margin + inner) * scale) for first in (margin, 0))
    apart, (low, high) = np.abs(whole[:, middle, middle] - part[:, own, own]).max(), spec.output.range
    return bool(apart <= _ROUNDING * (high - low))


def _measure_at(spec: Spec, run: Callable[[Feeds], Floats], side: int, step: int) -> int | None:
    """The largest distance of a change; None if one reaches the border of pictures of this side."""
    given = feeds.draw_feeds(spec, _SEED, 0, 1, size=(side, side))
    plain = run(given)[0]
    farthest = 0
    for item in spec.images:
        for place in range(side // 2, side // 2 + step):
            for change in _CHANGES:
                changed = run(given | {item.name: _change_pixel(given[item.name], place, change, item)})[0]
                apart = np.argwhere((changed != plain).any(axis=0))
                if not len(apart):
                    continue
                if apart.min() == 0 or apart.max() == plain.shape[1] - 1:
                    return None
                rows = apart // spec.output.scale
                farthest = max(farthest, int(np.abs(rows - place).max()))
    return farthest


def _change_pixel(images: Array, place: int, change: float, item: Image) -> Array:
    changed = images.copy()
    changed[..., place, place] += change * find_span(find_levels(item))
    return changed
