"""Checkpoints of the architectures that spandrel knows (SwinIR, HAT, DAT, NAFNet and some forty others), as modules with
a Spec. ganrt reads the file, so that nothing in it is executed; spandrel recognizes its keys and builds the module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ganrt.backend import first_line
from ganrt.errors import CheckpointError
from ganrt.feeds import Feeds
from ganrt.images import Floats
from ganrt.models import State
from ganrt.spec import Image, Output, Spec

from .receptive_field import measure_reach

_RANGE = (0.0, 1.0)


class SpandrelModule(nn.Module):
    """What a descriptor of spandrel does with pictures in [0, 1]: call the model, and clamp."""

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.model = descriptor.model
        self._call: Callable[..., Tensor] = descriptor._call_fn

    def forward(self, *pictures: Tensor) -> Tensor:
        """Pictures (N, C, H, W), and a mask (N, 1, H, W) for inpainting -> images in [0, 1]."""
        return self._call(self.model, *pictures).clamp(*_RANGE)


def recognize_with_spandrel(state: State, path: str) -> tuple[nn.Module, Spec, str] | None:
    """The module of a state dict with its Spec and the name of the architecture; None if spandrel is not installed or
    does not know it. Raises CheckpointError where spandrel fails on what it has recognized."""
    try:
        import spandrel
    except ImportError:
        return None
    try:
        descriptor = spandrel.ModelLoader(device="cpu").load_from_state_dict(dict(state))
    except spandrel.UnsupportedModelError:
        return None
    except Exception as error:  # code of some forty projects, which raise whatever they raise
        raise CheckpointError(f"{path} looks like a model of spandrel, which cannot load it: {first_line(error)}") from error
    module = SpandrelModule(descriptor.float().eval()).requires_grad_(False)
    spec = _make_spec(descriptor)
    return module, _add_reach(spec, module), str(descriptor.architecture.name)


def _make_spec(descriptor: Any) -> Spec:
    """Pictures of free size that are multiples of what the architecture needs; square ones have the least size."""
    needs = descriptor.size_requirements
    side = max(needs.minimum, needs.multiple_of)
    size = (side, side) if needs.square else None
    multiple = 1 if size else needs.multiple_of
    role = "low_res" if descriptor.scale > 1 else "content"
    name = "low_res" if descriptor.scale > 1 else "photo"
    inputs = [Image(name, role, descriptor.input_channels, _RANGE, size, multiple)]
    if descriptor.purpose == "Inpainting":
        inputs.append(Image("mask", "mask", 1, _RANGE, size, multiple, like=name))
    made = tuple(descriptor.scale * pixels for pixels in size) if size else None
    output = Output(descriptor.output_channels, _RANGE, made, descriptor.scale, "restored")  # type: ignore[arg-type]
    return Spec(descriptor.architecture.id.replace("-", "_"), tuple(inputs), output)
