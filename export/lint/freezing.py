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
    """Path of the first module at whose end a dimension that should be dynamic is a constant, or the code between two
    modules. Traces the module once more, in about a second.

    Args:
        place, axis: the side is this axis of the input at this place of the Spec.
    """
    sides: list[int | torch.SymInt] = []
    places = range(len(spec.inputs)) if axis == 0 else [place]  # all inputs share the batch size
    frozen: list[str] = []

    def enter_whole(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sides[:] = [inputs[k].shape[axis] for k in places]

    handles = [module.register_forward_pre_hook(enter_whole)]
    for name, part in module.named_modules():

        def enter(_: nn.Module, inputs: object, name: str = name) -> None:
            if name and any(map(is_concrete_int, sides)):
                frozen.append(f"forward of {join_paths([name.rpartition('.')[0]])} before {join_paths([name])}")

        def leave(part: nn.Module, inputs: object, result: object, name: str = name) -> None:
            if any(map(is_concrete_int, sides)):
                frozen.append(f"forward of {join_paths([name])}" if any(part.children()) else join_paths([name]))

        handles += [part.register_forward_pre_hook(enter), part.register_forward_hook(leave)]
    free = tuple(dict.fromkeys(axes, Dim.AUTO) for axes in find_dynamic_sides(spec))
    try:
        torch.export.export(module, make_example_inputs(spec), dynamic_shapes=group_varargs(module, free), strict=False)
    finally:
        for handle in handles:
            handle.remove()
    return frozen[0] if frozen else "forward"
