"""Find the module that turns a dynamic dimension into a constant during tracing."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.fx.experimental.symbolic_shapes import is_concrete_int

from ganrt.spec import Spec

from ..tracing import find_dynamic_sides, group_varargs, make_example_inputs
from .findings import join_paths


def find_freezing_module(module: nn.Module, spec: Spec, place: int, axis: int) -> str:
    """Path of the first module whose output has a constant where a dimension should be dynamic. Traces the module once
    more, in about a second.

    Args:
        place, axis: the side is this axis of the input at this place of the Spec.
    """
    sides: list[int | torch.SymInt] = []
    frozen: list[str] = []

    def enter(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sides.append(inputs[place].shape[axis])

    handles = [module.register_forward_pre_hook(enter)]
    for name, part in module.named_modules():

        def leave(_: nn.Module, inputs: object, result: object, name: str = name) -> None:
            if is_concrete_int(sides[-1]):
                frozen.append(name)

        handles.append(part.register_forward_hook(leave))
    free = tuple(dict.fromkeys(axes, Dim.AUTO) for axes in find_dynamic_sides(spec))
    try:
        torch.export.export(module, make_example_inputs(spec), dynamic_shapes=group_varargs(module, free), strict=False)
    finally:
        for handle in handles:
            handle.remove()
    return join_paths(frozen[:1]) if frozen else "forward"
