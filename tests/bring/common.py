"""What the generators of this folder share: weights that behave like trained ones, and short ways to say a Spec."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import nn

import ganrt

Made: TypeAlias = tuple[nn.Module, ganrt.Spec]
"""What a factory returns."""
UNIT, SIGNED = (0.0, 1.0), (-1.0, 1.0)


def settle(module: nn.Module, gain: float = 1.0) -> Any:
    """Give fresh layers weights that keep the magnitude of their input, times `gain`, and norms that have seen data."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            part.weight.data.mul_(gain)
            if part.bias is not None:
                nn.init.normal_(part.bias, 0.0, 0.05)
        elif isinstance(part, nn.BatchNorm2d) and part.running_mean is not None and part.running_var is not None:
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.7, 1.3)
    return module.eval()


def image(name: str = "photo", side: int | None = None, **others: Any) -> ganrt.Image:
    """A colour picture in [-1, 1]; square with `side`, else of any size."""
    given = {"role": "content", "channels": 3, "range": SIGNED, "size": None if side is None else (side, side)}
    return ganrt.Image(name, **{**given, **others})


def make_spec(*inputs: Any, side: int | None = None, **output: Any) -> ganrt.Spec:
    """A Spec whose output is a colour picture in [-1, 1]."""
    given = {"channels": 3, "range": SIGNED, "size": None if side is None else (side, side)}
    return ganrt.Spec("net", inputs, ganrt.Output(**{**given, **output}))
