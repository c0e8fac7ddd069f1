"""bryandlee/animegan2-pytorch: one group norm, and bilinear resizing to the sizes of other tensors, with a flag as a
further argument of forward. Any picture size."""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from bring.common import Made, image, make_spec, settle
from torch import Tensor, nn


def layer(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    pad = (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1)
    conv = nn.Conv2d(inputs, outputs, 3, stride, bias=False)
    return nn.Sequential(nn.ReflectionPad2d(pad), conv, nn.GroupNorm(1, outputs), nn.LeakyReLU(0.2))


class Net(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.a, self.b = layer(3, width, 2), layer(width, width, 2)
        self.c, self.d = layer(width, width), nn.Sequential(layer(width, width), nn.Conv2d(width, 3, 1), nn.Tanh())

    def forward(self, x: Tensor, align_corners: bool = True) -> Tensor:
        y = self.a(x)
        half = y.size()[-2:]
        y = F.interpolate(self.b(y), half, mode="bilinear", align_corners=align_corners)
        y = F.interpolate(self.c(y), x.size()[-2:], mode="bilinear", align_corners=align_corners)
        return self.d(y)


def anysize() -> Made:
    return settle(Net()), make_spec(image())


def scripted() -> Made:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(settle(Net()), torch.zeros(1, 3, 64, 64)), make_spec(image())
