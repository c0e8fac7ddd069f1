"""jantic/DeOldify: fastai's dynamic U-Net. Forward hooks take the skip connections, tensors carry attributes, weights
have a spectral norm, and a condition compares sizes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from bring.common import Made, image, make_spec, settle
from torch import Tensor, nn
from torch.nn.utils import spectral_norm


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.ReLU(), nn.BatchNorm2d(outputs))


class Up(nn.Module):
    """Doubles the size and joins what the hook of an earlier layer stored."""

    def __init__(self, skip: nn.Module, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stored = torch.empty(0)
        skip.register_forward_hook(self.store)
        self.shuffle = nn.Sequential(nn.Conv2d(inputs, 4 * inputs, 1), nn.PixelShuffle(2))
        self.blur = nn.Sequential(nn.ReplicationPad2d((1, 0, 1, 0)), nn.AvgPool2d(2, stride=1))
        self.conv = conv(inputs + outputs, outputs)

    def store(self, module: nn.Module, inputs: Any, result: Tensor) -> None:
        self.stored = result

    def forward(self, x: Tensor) -> Tensor:
        x = self.blur(torch.relu(self.shuffle(x)))
        if self.stored.shape[-2:] != x.shape[-2:]:
            x = F.interpolate(x, self.stored.shape[-2:], mode="nearest")
        return self.conv(torch.cat([x, self.stored], dim=1))


class Merge(nn.Module):
    def forward(self, x: Any) -> Tensor:
        return torch.cat([x, x.orig], dim=1)


class Chain(nn.Module):
    """The tensor that goes from layer to layer carries the picture, as in fastai's SequentialEx."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Any) -> Tensor:
        result = x
        for layer in self.layers:
            result.orig = x
            following = layer(result)
            result.orig = None
            result = following
        return result


def make(side: int | None, width: int = 4) -> Made:
    first = conv(3, width, 2)
    down = nn.Sequential(first, conv(width, 2 * width, 2))
    last = nn.Sequential(nn.Conv2d(width, 4 * width, 1), nn.PixelShuffle(2))
    net = settle(Chain(down, Up(first, 2 * width, width), last, Merge(), nn.Conv2d(width + 3, 3, 1), nn.Tanh()), 0.7)
    first[0] = spectral_norm(first[0])
    return net.eval(), make_spec(image(side=side), side=side)


def fastai() -> Made:
    return make(32)


def anysize() -> Made:
    return make(None)
