"""Checkpoints of the architectures that spandrel knows (SwinIR, HAT, NAFNet and some forty others), as modules with
a Spec. ganrt reads the file, so that nothing in it is executed; spandrel recognizes the keys and builds the module."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ganrt.backend import first_line
from ganrt.errors import CheckpointError
from ganrt.feeds import Feeds
from ganrt.images import Floats
from ganrt.models import State
from ganrt.spec import Image, Output, Spec

from ..lint import fixes_batch
from .receptive_field import measure_reach

_RANGE = (0.0, 1.0)
_TILED = "SUPPORTED"
"""spandrel's name for models that large pictures may be cut into tiles for."""


class Recognition(NamedTuple):
    """What spandrel made of a state dict."""

    module: nn.Module
    spec: Spec
    architecture: str


class SpandrelModule(nn.Module):
    """What a descriptor of spandrel does with pictures in [0, 1]: call the model, and clamp."""

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.model = descriptor.model
        self._call: Callable[..., Tensor] = descriptor._call_fn

    def forward(self, *pictures: Tensor) -> Tensor:
        """Pictures (N, C, H, W), and a mask (N, 1, H, W) for inpainting -> images in [0, 1]."""
        return self._call(self.model, *pictures).clamp(*_RANGE)


def has_spandrel() -> bool:
    """Return whether spandrel is installed, with torchvision, without which it cannot be imported."""
    return all(importlib.util.find_spec(name) for name in ("spandrel", "torchvision"))


def recognize_with_spandrel(state: State, path: Path) -> Recognition | None:
    """The module of a state dict; None if spandrel does not know it. Raises CheckpointError where spandrel fails on
    what it has recognized."""
    import spandrel

    try:
        with warnings.catch_warnings():  # of torch.meshgrid and others: nothing that a user could change
            warnings.simplefilter("ignore")
            descriptor = spandrel.ModelLoader(device="cpu").load_from_state_dict(dict(state))
    except spandrel.UnsupportedModelError:
        return None
    except Exception as error:  # code of some forty projects, which raise whatever they raise
        raise CheckpointError(f"{path}: spandrel recognizes it, but cannot load it: {first_line(error)}") from error
    module = SpandrelModule(descriptor.float().eval()).requires_grad_(False).eval()
    spec = _make_spec(descriptor)
    spec = replace(spec, single=fixes_batch(module, spec))
    if descriptor.tiling.name == _TILED and spec.output.size is None:
        reach = measure_reach(spec, _make_runner(module))
        spec = replace(spec, output=replace(spec.output, reach=None if reach is None else max(1, reach)))
    return Recognition(module, spec, str(descriptor.architecture.name))


def _make_spec(descriptor: Any) -> Spec:
    """Pictures of free size, multiples of what the architecture needs; of the least size where they must be square."""
    needs = descriptor.size_requirements
    side = max(needs.minimum, needs.multiple_of)
    size = (side, side) if needs.square else None
    multiple = 1 if size else needs.multiple_of
    name, role = ("low_res", "low_res") if descriptor.scale > 1 else ("photo", "content")
    inputs = [Image(name, role, descriptor.input_channels, _RANGE, size, multiple)]
    if descriptor.purpose == "Inpainting":
        inputs.append(Image("mask", "mask", 1, _RANGE, size, multiple, like=name))
    made = (descriptor.scale * side, descriptor.scale * side) if size else None
    output = Output(descriptor.output_channels, _RANGE, made, descriptor.scale, "restored")
    return Spec(str(descriptor.architecture.id).replace("-", "_"), tuple(inputs), output)


def _make_runner(module: nn.Module) -> Callable[[Feeds], Floats]:
    def run(given: Feeds) -> Floats:
        with torch.inference_mode():
            images: Floats = module(*map(torch.from_numpy, given.values())).numpy()
        return images

    return run
