"""The rows of a request: their inputs, and the pictures that are made of them.

A row is one image that the model computes. Rows of several requests can share a batch if their inputs have the same
shapes, which their key says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ganrt.errors import BackendError
from ganrt.feeds import Feeds, check_inputs
from ganrt.generator import Generator
from ganrt.images import Pictures, to_pictures, to_uint8
from ganrt.least_size import reject_small_pictures
from ganrt.levels import find_levels
from ganrt.picture_inputs import Values
from ganrt.sample_request import Draw
from ganrt.transform import Windows


class Rows(ABC):
    """The rows of one request."""

    count: int
    """Number of rows, at least 1."""
    key: Hashable
    """Rows of other requests with an equal key can share a batch."""
    at_once: int
    """Most rows of such a batch."""
    weight: int = 1
    """Work of a row, in a unit that all requests to the same model share."""

    @abstractmethod
    def take(self, first: int, rows: int) -> Any:
        """Return the inputs of `rows` rows from the `first` one on, for `compute`."""

    @abstractmethod
    def put(self, first: int, made: Values) -> None:
        """Keep what was made of the rows from the `first` one on: NHWC."""

    @abstractmethod
    def finish(self) -> Values:
        """Return the pictures of the request, NHWC, once all rows are made. The caller owns them."""

    @staticmethod
    @abstractmethod
    def compute(generator: Generator, taken: Sequence[Any]) -> Values:
        """Compute rows that were taken from requests with an equal key. Returns pictures, NHWC."""


class _Collected(Rows):
    """Rows of which each makes one picture."""

    def __init__(self, generator: Generator, count: int) -> None:
        self.count, self.at_once = count, generator.max_batch
        self._made: Pictures | None = None

    def put(self, first: int, made: Pictures) -> None:
        if self._made is None:
            self._made = np.empty((self.count, *made.shape[1:]), np.uint8)
        self._made[first : first + len(made)] = made

    def finish(self) -> Pictures:
        assert self._made is not None, "finish() is called once all rows are made"
        return self._made


class SampleRows(_Collected):
    """Samples of seeds."""

    key = "samples"

    def __init__(self, generator: Generator, draw: Draw) -> None:
        super().__init__(generator, draw.rows)
        self._draw = draw

    def take(self, first: int, rows: int) -> Draw:
        return self._draw.take_rows(first, rows)

    @staticmethod
    def compute(generator: Generator, taken: Sequence[Draw]) -> Pictures:
        return generator.make(Draw.join(taken))


class InputRows(_Collected):
    """Rows of inputs that the caller made, as for `Generator.__call__`."""

    def __init__(self, generator: Generator, inputs: Mapping[str, ArrayLike]) -> None:
        """Raises RequestError, naming the input, if one is missing, unknown or wrong."""
        self._feeds = check_inputs(generator.spec, inputs)
        super().__init__(generator, len(next(iter(self._feeds.values()))))
        self.key = ("inputs", *(array.shape[1:] for array in self._feeds.values()))

    def take(self, first: int, rows: int) -> Feeds:
        return {name: array[first : first + rows] for name, array in self._feeds.items()}

    @staticmethod
    def compute(generator: Generator, taken: Sequence[Feeds]) -> Pictures:
        return to_uint8(generator(**_join_feeds(taken)), find_levels(generator.spec.output))


class PictureRows(Rows):
    """Windows of pictures that are transformed."""

    def __init__(self, generator: Generator, given: Mapping[str, Any], tile: int | None) -> None:
        """Arguments and errors are those of `ganrt.transform.Windows`."""
        self._windows = Windows(generator.spec, given, tile)
        for picture in range(self._windows.count):  # its numbers; the pictures themselves are checked already
            check_inputs(generator.spec, self._windows.take(picture, 1))
        self.count, self.weight = self._windows.rows, self._windows.pixels
        self.at_once = min(generator.max_batch, self._windows.at_once)
        self.key = ("pictures", self._windows.value_type, *self._windows.shapes)

    def take(self, first: int, rows: int) -> Taken:
        return Taken(self._windows.take(first, rows), self._windows.value_type)

    def put(self, first: int, made: Values) -> None:
        self._windows.put(first, made)

    def finish(self) -> Values:
        return self._windows.finish()

    @staticmethod
    def compute(generator: Generator, taken: Sequence[Taken]) -> Values:
        feeds = _join_feeds([part.feeds for part in taken])
        try:
            images = generator(**feeds)
        except BackendError:
            if len(taken) == 1:  # the batcher tries the requests of a batch that failed one by one
                _reject_small(generator, feeds)
            raise
        return to_pictures(images, find_levels(generator.spec.output), taken[0].value_type)


def _reject_small(generator: Generator, feeds: Feeds) -> None:
    """Raise RequestError if the pictures are too small for the model."""
    names = {item.name for item in generator.spec.images}
    given = {name: array.transpose(0, 2, 3, 1) if name in names else array for name, array in feeds.items()}
    reject_small_pictures(generator.spec, given, lambda tried: generator(**tried))


class Taken(NamedTuple):
    """Windows of pictures."""

    feeds: Feeds
    value_type: type[np.uint8] | type[np.uint16]
    """Of the pictures that are made."""


def _join_feeds(taken: Sequence[Feeds]) -> Feeds:
    return {name: np.concatenate([feeds[name] for feeds in taken]) for name in taken[0]}
