"""What a batch of an engine is asked for: which inputs cross the bus, and which outputs come back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ganrt.errors import DeviceMemoryError
from ganrt.feeds import Draw, Feeds
from ganrt.gpu.tensor_names import FINITENESS_TENSOR, PICTURES_TENSOR
from ganrt.spec import Spec

if TYPE_CHECKING:
    from ganrt.gpu.device import BorrowedArray


class Request(ABC):
    """A batch, whole or in parts."""

    draw: Draw | None = None
    """Samples whose inputs are drawn on the device."""

    def __init__(self, spec: Spec, rows: int, outputs: tuple[str, ...]) -> None:
        self.spec, self.rows, self.outputs = spec, rows, outputs

    @abstractmethod
    def part(self, first: int, rows: int) -> Request:
        """Some of the rows; rows beyond the end are copies of others, to be thrown away."""

    @abstractmethod
    def feeds(self) -> Feeds:
        """The inputs that the host gives."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the inputs that are not drawn."""
        return {name: array.shape for name, array in self.feeds().items()}


class Given(Request):
    """Inputs that the caller made, for the float image."""

    def __init__(self, spec: Spec, given: Feeds) -> None:
        super().__init__(spec, len(next(iter(given.values()))), (spec.output.name,))
        self._given = given

    def part(self, first: int, rows: int) -> Request:
        places = np.minimum(np.arange(first, first + rows), self.rows - 1)
        return Given(self.spec, {name: np.ascontiguousarray(a[places]) for name, a in self._given.items()})

    def feeds(self) -> Feeds:
        return self._given


class Held(Request):
    """Inputs that the caller has on the device, for the float image."""

    def __init__(self, spec: Spec, arrays: Mapping[str, BorrowedArray]) -> None:
        super().__init__(spec, next(iter(arrays.values())).shape[0], (spec.output.name,))
        self.arrays = arrays

    def part(self, first: int, rows: int) -> Request:
        raise DeviceMemoryError(
            f"a batch of {self.rows} does not fit into the GPU's memory, and arrays on the device are not cut: give "
            f"{rows} rows at a time"
        )

    def feeds(self) -> Feeds:
        return {}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: array.shape for name, array in self.arrays.items()}


class Sampled(Request):
    """Samples of a seed, for pictures."""

    def __init__(self, spec: Spec, draw: Draw) -> None:
        super().__init__(spec, draw.rows, (PICTURES_TENSOR, FINITENESS_TENSOR))
        self.draw: Draw = draw

    def part(self, first: int, rows: int) -> Request:
        return Sampled(self.spec, self.draw.part(first, rows))

    def feeds(self) -> Feeds:
        return self.draw.given(self.spec)
