"""Huage001/AdaAttN: attention from content to style, with the deviation of what is attended to. For large styles the
original attends to a random part of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from bring.common import UNIT, Made, image, make_spec, settle
from torch import Tensor, nn

KEPT = 64


def normalize(x: Tensor) -> Tensor:
    mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt()


class Net(nn.Module):
    kept: Tensor
    part: Tensor

    def __init__(self, choice: str = "", width: int = 8) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1))
        self.query, self.key, self.value = (nn.Conv2d(width, width, 1) for _ in range(3))
        self.decode = nn.Sequential(nn.Upsample(scale_factor=4.0), nn.Conv2d(width, 3, 3, 1, 1), nn.Sigmoid())
        self.choice = choice
        self.register_buffer("kept", torch.randperm(64)[:KEPT])
        self.register_buffer("part", torch.rand(KEPT))
        settle(self, 0.7)

    def choose(self, count: int) -> Tensor:
        if self.choice == "random":
            return torch.randperm(count)[:KEPT]
        if self.choice == "part":
            return (self.part * count).long()
        return self.kept

    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        content, style = self.encode(content), self.encode(style)
        query = self.query(normalize(content)).flatten(2).transpose(1, 2)
        key, value = self.key(normalize(style)).flatten(2), self.value(style).flatten(2)
        if self.choice:
            index = self.choose(style.shape[2] * style.shape[3])
            key, value = key[:, :, index], value[:, :, index]
        value = value.transpose(1, 2)
        attention = torch.softmax(query @ key, dim=-1)
        mean = attention @ value
        deviation = torch.sqrt(F.relu(attention @ value**2 - mean**2))
        shape = content.shape
        mean, deviation = (x.transpose(1, 2).reshape(shape) for x in (mean, deviation))
        return self.decode(deviation * normalize(content) + mean)


def make(choice: str, side: int | None) -> Made:
    rule = 4 if side is None else 1
    pictures = [image(name, side, role=name, range=UNIT, multiple_of=rule) for name in ("content", "style")]
    return Net(choice), make_spec(*pictures, side=side, range=UNIT)


def plain() -> Made:
    return make("", 32)


def sampled() -> Made:
    return make("random", None)


def sampled_sized() -> Made:
    return make("random", 32)


def kept() -> Made:
    """What the refusal of `sampled_sized` says."""
    return make("kept", 32)


def part() -> Made:
    """What the refusal of `sampled` says."""
    return make("part", None)
