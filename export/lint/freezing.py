"""Find the module, and the line of the user's code, that turn a dynamic dimension into a constant during tracing."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import is_concrete_int

from ganrt.spec import Spec

from ..source_lines import SourceLine, watch_lines
from ..tracing import export_program
from .findings import join_paths


class Place(NamedTuple):
    """Where something happens."""

    where: str
    """Path of a module, or the code between two."""
    line: SourceLine | None = None


def find_freezing_place(module: nn.Module, spec: Spec, place: int, axis: int) -> Place:
    """The first module at whose end a dimension that should be dynamic is a constant, or the code between two modules;
    and the line. Traces the module once more, in a few seconds.

    Args:
        place, axis: the side is this axis of the input at this place of the Spec.
    """
    sides: list[int | torch.SymInt] = []
    places = range(len(spec.inputs)) if axis == 0 else [place]  # all inputs share the batch size
    frozen: list[str] = []
    lines: list[SourceLine | None] = []

    def enter_whole(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sides[:] = [inputs[k].shape[axis] for k in places]

    def look(line: SourceLine | None) -> None:
        if not lines and any(map(is_concrete_int, sides)):
            lines.append(line)

    handles = [module.register_forward_pre_hook(enter_whole)]
    for name, part in module.named_modules():

        def enter(_: nn.Module, inputs: object, name: str = name) -> None:
            if name and any(map(is_concrete_int, sides)):
                frozen.append(f"forward of {join_paths([name.rpartition('.')[0]])} before {join_paths([name])}")

        def leave(part: nn.Module, inputs: object, result: object, name: str = name) -> None:
            if any(map(is_concrete_int, sides)):
                frozen.append(f"forward of {join_paths([name])}" if any(part.children()) else join_paths([name]))

        handles += [part.register_forward_pre_hook(enter), part.register_forward_hook(leave)]
    try:
        with watch_lines(look):
            export_program(module, spec)
    finally:
        for handle in handles:
            handle.remove()
    return Place(frozen[0] if frozen else "forward", lines[0] if lines else None)
