"""Which module makes a number of the batch size while it is traced."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.fx.experimental.symbolic_shapes import is_concrete_int

from ganrt.spec import Spec

from .findings import places
from .tracing import arranged, dynamic_sides, examples


def freezing_module(module: nn.Module, spec: Spec) -> str:
    """Path of the first module that leaves the batch size as a number; it traces once more, in about a second."""
    batches: list[int | torch.SymInt] = []
    frozen: list[str] = []

    def enter(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        batches.append(inputs[0].shape[0])

    handles = [module.register_forward_pre_hook(enter)]
    for name, part in module.named_modules():

        def leave(_: nn.Module, inputs: object, result: object, name: str = name) -> None:
            if is_concrete_int(batches[-1]):
                frozen.append(name)

        handles.append(part.register_forward_hook(leave))
    free = tuple(dict.fromkeys(sides, Dim.AUTO) for sides in dynamic_sides(spec))
    try:
        torch.export.export(module, examples(spec), dynamic_shapes=arranged(module, free), strict=False)
    finally:
        for handle in handles:
            handle.remove()
    return places(frozen[:1]) if frozen else "forward"
