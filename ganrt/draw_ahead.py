"""`DrawAhead`: inputs of samples that are asked for one after another, drawn several at a time.

To draw 32 samples of a small latent takes little longer than to draw one, because NumPy spends most of the time on
starting its operations. So when a request continues the one before it, the samples that would come next are drawn with
it and kept. A sample depends on its seed and number alone, so they are the same values.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np

from ganrt.feeds import Feeds, draw_rows
from ganrt.sample_request import SampleRequest
from ganrt.spec import Label, Latent, Spec

MOST_SAMPLES = 32
"""Most samples that are kept. More would gain less than 4 % of what drawing one costs."""
MOST_VALUES = 2**14
"""Most values that are kept, so at most 128 KiB. Samples of more than half as many are drawn one by one: there the
values themselves take the time."""

_Key: TypeAlias = tuple[object, object, object]
"""Seed, class and truncation that all samples share."""


class _Block(NamedTuple):
    """Samples `first` to `end` - 1 of a key."""

    key: _Key | None
    first: int
    end: int
    feeds: Feeds


class DrawAhead:
    """Draws the samples of a model. Threads may share one: its state is one value that is never changed but replaced,
    so threads and forked children see all of it or what was there before."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._most = min(MOST_SAMPLES, MOST_VALUES // count_values(spec))
        self._block = _Block(None, 0, 0, {})

    def draw(self, request: SampleRequest, first: int, rows: int) -> Feeds:
        """Return the inputs of `rows` samples of a request from the `first` one on, as `draw_rows` does. They may be
        read-only.

        The first request of a seed draws what it asks for. One that continues where samples were drawn draws twice as
        many as the last time, up to the limits above: never more ahead than were asked for before. Requests that differ
        from image to image, or of more than half of the limit, are left alone.
        """
        seed, start = request.seed, request.start
        key = (seed, request.labels, request.truncation)
        if 2 * rows > self._most or any(isinstance(value, np.ndarray) for value in (start, *key)):
            return draw_rows(self._spec, request.take_rows(first, rows))
        number, block = int(start) + first, self._block
        continues = key == block.key and block.first <= number <= block.end
        if not (continues and number + rows <= block.end):
            count = rows
            if continues:  # beyond the last sample number it counts from 0 again, where nothing is taken
                wanted = min(2 * (block.end - block.first), self._most)
                count = max(1, wanted // rows) * rows  # so that the end is where a later request of as many begins
            block = self._block = self._draw_block(request, key, number, count)
        place = number - block.first
        return {name: array[place : place + rows] for name, array in block.feeds.items()}

    def _draw_block(self, request: SampleRequest, key: _Key, number: int, count: int) -> _Block:
        feeds = draw_rows(self._spec, request._replace(start=number).take_rows(0, count))
        for array in feeds.values():
            array.flags.writeable = False
        return _Block(key, number, number + count, feeds)


def count_values(spec: Spec) -> int:
    """Return how many values are drawn for a sample, at least 1."""
    sizes = (
        math.prod(item.shape) if isinstance(item, Latent) else item.classes if isinstance(item, Label) else 1
        for item in spec.inputs
    )
    return max(1, sum(sizes))
