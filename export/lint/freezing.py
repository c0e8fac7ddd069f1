"""Find the module, and the line of the user's code, that turn a dynamic dimension into a constant during tracing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import sympy
import torch
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import is_concrete_int

from ganrt.spec import Image, Spec

from ..source_lines import SourceLine, watch_lines
from ..tracing import EXAMPLES, export_program, make_example_inputs, silence_exporter
from .findings import join_paths
from .guards import Guard, Side, map_symbols


class Place(NamedTuple):
    """Where something happens."""

    where: str
    """Path of a module, or the code between two."""
    line: SourceLine | None = None


class _BatchGuards:
    """Conditions that another batch size breaks. A batch size that went through a float leaves such a condition, and
    becomes a constant only later, where the number is used."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._sizes = {
            item.name: (rows.shape[2], rows.shape[3])
            for item, rows in zip(spec.inputs, make_example_inputs(spec), strict=True)
            if isinstance(item, Image)
        }
        self._symbols: dict[sympy.Symbol, Side] = {}
        self._environment: Any = None
        self._seen = 0

    def begin(self, inputs: Sequence[Tensor]) -> None:
        self._symbols, self._environment = map_symbols(self._spec, inputs)

    def are_broken(self) -> bool:
        """Whether a condition that came since the last call fails for another batch size."""
        new = self._environment.guards[self._seen :] if self._environment else []
        self._seen += len(new)
        known = (guard.expr for guard in new if guard.expr.free_symbols <= self._symbols.keys())
        return any(not Guard(expression, self._symbols).holds(self._sizes, EXAMPLES + 1) for expression in known)


def find_freezing_place(module: nn.Module, spec: Spec, place: int, axis: int) -> Place:
    """The module and the line after which a dimension that should be dynamic is a constant. Traces the module once
    more, in a few seconds.

    Args:
        place, axis: the side is this axis of the input at this place of the Spec.
    """
    sides: list[int | torch.SymInt] = []
    places = range(len(spec.inputs)) if axis == 0 else [place]  # all inputs share the batch size
    running: list[str] = []
    found: list[Place] = []
    lines: list[SourceLine | None] = []
    guards = _BatchGuards(spec)

    def enter_whole(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sides[:] = [inputs[k].shape[axis] for k in places]
        if axis == 0:
            guards.begin(inputs)

    def look(line: SourceLine | None) -> None:
        """What a module of PyTorch made constant is seen at its end, and its line here. Tracing goes on to its end: an
        exception that is raised here, in whatever function runs, could be lost in a callback."""
        if not lines and (any(map(is_concrete_int, sides)) or guards.are_broken()):
            where = found[0].where if found else running[-1]
            found[:] = [Place(where, line)]
            lines.append(line)

    handles = [module.register_forward_pre_hook(enter_whole)]
    for name, part in module.named_modules():
        where = f"forward of {join_paths([name])}" if any(part.children()) else join_paths([name])

        def enter(_: nn.Module, inputs: object, where: str = where) -> None:
            running.append(where)

        def leave(part: nn.Module, inputs: object, result: object) -> None:
            where = running.pop()
            if not found and any(map(is_concrete_int, sides)):
                found.append(Place(where))

        handles += [part.register_forward_pre_hook(enter), part.register_forward_hook(leave)]
    try:
        with silence_exporter(), watch_lines(look):
            export_program(module, spec)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else Place("forward")
