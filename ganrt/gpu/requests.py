"""Where the inputs of a batch come from, and which outputs are copied back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ganrt.errors import DeviceMemoryError
from ganrt.feeds import Feeds
from ganrt.gpu.tensor_names import FINITENESS_TENSOR, PICTURES_TENSOR
from ganrt.sample_request import Draw
from ganrt.spec import Spec

if TYPE_CHECKING:
    from ganrt.gpu.device import BorrowedArray


class Request(ABC):
    """A batch of `rows` rows whose `outputs` are wanted."""

    draw: Draw | None = None
    """Samples whose inputs are drawn on the device."""

    def __init__(self, spec: Spec, rows: int, outputs: tuple[str, ...]) -> None:
        self.spec, self.rows, self.outputs = spec, rows, outputs

    @abstractmethod
    def split_off(self, first: int, rows: int) -> Request:
        """Return `rows` rows from `first` on. Beyond the last row they are padding, whose results are discarded."""

    @abstractmethod
    def feeds(self) -> Feeds:
        """Return the inputs that are on the host."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the inputs that are not drawn."""
        return {name: array.shape for name, array in self.feeds().items()}


class HostRequest(Request):
    """All inputs are on the host; the float image is wanted."""

    def __init__(self, spec: Spec, feeds: Feeds) -> None:
        super().__init__(spec, len(next(iter(feeds.values()))), (spec.output.name,))
        self._feeds = feeds

    def split_off(self, first: int, rows: int) -> Request:
        places = np.minimum(np.arange(first, first + rows), self.rows - 1)
        return HostRequest(self.spec, {name: np.ascontiguousarray(a[places]) for name, a in self._feeds.items()})

    def feeds(self) -> Feeds:
        return self._feeds


class DeviceRequest(Request):
    """All inputs are the caller's arrays on the device; the float image is wanted."""

    def __init__(self, spec: Spec, arrays: Mapping[str, BorrowedArray]) -> None:
        super().__init__(spec, next(iter(arrays.values())).shape[0], (spec.output.name,))
        self.arrays = arrays

    def split_off(self, first: int, rows: int) -> Request:
        raise DeviceMemoryError(
            f"a batch of {self.rows} does not fit into the GPU's memory, and arrays on the device are not split: give "
            f"{rows} rows at a time"
        )

    def feeds(self) -> Feeds:
        return {}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: array.shape for name, array in self.arrays.items()}


class DrawRequest(Request):
    """Samples that are drawn on the device; pictures are wanted."""

    def __init__(self, spec: Spec, draw: Draw) -> None:
        super().__init__(spec, draw.rows, (PICTURES_TENSOR, FINITENESS_TENSOR))
        self.draw: Draw = draw

    def split_off(self, first: int, rows: int) -> Request:
        return DrawRequest(self.spec, self.draw.take_rows(first, rows))

    def feeds(self) -> Feeds:
        return {}
