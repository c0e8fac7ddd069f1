"""Modules that return several things by name: a dict, a dataclass, a named tuple, an output object of diffusers. The
output of the Spec names the one that is the image."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from ganrt.spec import Spec

from .findings import Finding, Wrapper, list_named
from .observer import Run


class SelectNamed(Wrapper):
    """One of the results of a module that returns several by name."""

    def __init__(self, module: nn.Module, name: str) -> None:
        super().__init__(module)
        self.name = name

    def forward(self, *inputs: Tensor) -> Tensor:
        return cast(Tensor, list_named(self.wrapped_by_ganrt(*inputs))[self.name])


def take_named_output(module: nn.Module, run: Run, spec: Spec) -> tuple[nn.Module, list[Finding]]:
    """Take the result that has the name of the Spec's output, also in `run`.

    Returns the module that returns it alone, and a finding; or the module as it is, with a finding that is rejected if
    it returns things by other names.
    """
    found, name = list_named(run.result), spec.output.name
    if not found:
        return module, []
    if isinstance(found.get(name), Tensor):
        text = f"returns {_describe(run.result)}; {name} is taken"
        run.result = found[name]
        return SelectNamed(module, name), [Finding("forward", "forward", text, "fixed")]
    tensors = [other for other, value in found.items() if isinstance(value, Tensor)]
    advice = f'name it in the Spec, as in Output(..., name="{tensors[0]}"), or ' if tensors else ""
    text = (
        f"returns {_describe(run.result)}, and none is a tensor named {name!r}, as the output of the Spec is; "
        f"{advice}wrap the module in one that returns the pictures alone"
    )
    return module, [Finding("forward", "forward", text, "rejected")]


def _describe(result: object) -> str:
    found = list_named(result)
    shapes = {name: f" {tuple(value.shape)}" if isinstance(value, Tensor) else "" for name, value in found.items()}
    return f"a {type(result).__name__} with {', '.join(f'{name}{shape}' for name, shape in shapes.items())}"
