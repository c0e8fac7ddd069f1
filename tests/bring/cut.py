"""taesungp/contrastive-unpaired-translation: down- and up-sampling with a fixed blur, and features of some layers when
they are asked for."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from bring.common import Made, image, make_spec, settle
from torch import Tensor, nn


def blur(taps: list[float], channels: int) -> Tensor:
    row = torch.tensor(taps)
    kernel = row[:, None] * row[None]
    return (kernel / kernel.sum())[None, None].repeat(channels, 1, 1, 1)


class Down(nn.Module):
    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("kernel", blur([1.0, 2.0, 1.0], channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), self.kernel, stride=2, groups=x.shape[1])


class Up(nn.Module):
    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("kernel", 4 * blur([1.0, 3.0, 3.0, 1.0], channels))

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1), "replicate")
        wide = F.conv_transpose2d(padded, self.kernel, stride=2, padding=2, groups=x.shape[1])
        return wide[:, :, 1:, 1:][:, :, :-1, :-1]


class Net(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        first, last = nn.Conv2d(3, width, 7), nn.Conv2d(width, 3, 7)
        middle = [Down(width), nn.Conv2d(width, width, 3, 1, 1), nn.InstanceNorm2d(width), nn.ReLU(True), Up(width)]
        self.model = nn.Sequential(nn.ReflectionPad2d(3), first, *middle, nn.ReflectionPad2d(3), last, nn.Tanh())
        settle(self)

    def forward(self, x: Tensor, layers: tuple[int, ...] = ()) -> Any:
        features = []
        for place, part in enumerate(self.model):
            x = part(x)
            if place in layers:
                features.append(x)
        return (x, features) if features else x


def free() -> Made:
    return Net(), make_spec(image(multiple_of=2))
