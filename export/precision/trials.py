"""Measurements of the graphs that a search tries, each made once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cached_property
from typing import Generic, TypeVar

import onnx_ir as ir

from .judge import Judge, Measured

ChoiceT = TypeVar("ChoiceT", bound=Hashable)


class Trials(Generic[ChoiceT]):
    """Measures what is made of one choice after another.

    Args:
        judge: measures a graph.
        make: makes the graph of a choice.
        lowest: the choice that is expected to do worst, such as all layers in 8 bits.
        measured: what the judge has found with that choice; None if it has not been asked.
    """

    def __init__(
        self, judge: Judge, make: Callable[[ChoiceT], ir.Model], lowest: ChoiceT, measured: Measured | None = None
    ) -> None:
        self._judge, self._make, self._lowest = judge, make, lowest
        self._measured: dict[ChoiceT, Measured] = {} if measured is None else {lowest: measured}
        self._estimated: dict[ChoiceT, float] = {}

    def measure(self, choice: ChoiceT) -> Measured:
        """Measure the graph of a choice on all samples."""
        if choice not in self._measured:
            self._measured[choice] = self._judge.measure(self._make(choice))
        return self._measured[choice]

    def estimate(self, choice: ChoiceT) -> float:
        """Measure it on one sample, the one on which `lowest` does worst. Returns the error, which is at most that of
        all samples, but for rounding."""
        if choice not in self._estimated:
            self._estimated[choice] = self._narrow_judge.measure(self._make(choice)).error
        return self._estimated[choice]

    @cached_property
    def _narrow_judge(self) -> Judge:
        return self._judge.narrow(self.measure(self._lowest).worst)
