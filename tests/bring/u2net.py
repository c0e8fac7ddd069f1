"""xuebinqin/U-2-Net: pooling in ceil mode, dilations, bilinear resizing to the sizes of skip connections; returns seven
masks, of which the first is the result."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from bring.common import UNIT, Made, image, make_spec, settle
from torch import Tensor, nn


def layer(inputs: int, outputs: int, dilation: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear")


class Net(nn.Module):
    def __init__(self, single: bool, width: int = 4) -> None:
        super().__init__()
        self.first, self.below, self.join = layer(3, width), layer(width, width, 2), layer(2 * width, width)
        self.pool = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        self.sides, self.single = nn.ModuleList([nn.Conv2d(width, 1, 3, padding=1) for _ in range(2)]), single
        self.out = nn.Conv2d(2, 1, 1)
        settle(self)

    def forward(self, x: Tensor) -> Any:
        high = self.first(x)
        low = self.below(self.pool(high))
        joined = self.join(torch.cat((resize(low, high), high), 1))
        masks = self.sides[0](joined), resize(self.sides[1](low), joined)
        results = tuple(map(torch.sigmoid, (self.out(torch.cat(masks, 1)), *masks)))
        return results[0] if self.single else results


def make(single: bool) -> Made:
    return Net(single), make_spec(image(range=(-2.2, 2.7)), channels=1, range=UNIT)


def published() -> Made:
    return make(False)


def wrapped() -> Made:
    return make(True)
