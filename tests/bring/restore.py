"""Restoration networks: cubic resizing up and down, with and without antialiasing, a slope for each channel, and pixel
unshuffling."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from bring.common import UNIT, Made, image, make_spec, settle
from torch import Tensor, nn


class Net(nn.Module):
    def __init__(self, kind: str, width: int = 6) -> None:
        super().__init__()
        self.kind, fold = kind, 4 if kind == "unshuffle" else 1
        shuffle = nn.PixelShuffle(4 if fold > 1 else 2)
        first, last = nn.Conv2d(3 * fold, width, 3, 1, 1), nn.Conv2d(width, 12 * fold, 3, 1, 1)
        self.body = nn.Sequential(first, nn.PReLU(width), last, shuffle)
        settle(self, 0.3)

    def enlarge(self, x: Tensor, factor: float, **options: Any) -> Tensor:
        return F.interpolate(x, scale_factor=factor, mode="bicubic", align_corners=False, **options)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "unshuffle":
            return self.body(F.pixel_unshuffle(x, 2)) + self.enlarge(x, 2)
        if self.kind == "up":
            return self.body(x) + self.enlarge(x, 2)
        small = self.enlarge(x, 0.5, antialias=self.kind == "antialias")
        return self.body(x) + self.enlarge(small, 4)


def make(kind: str) -> Made:
    return Net(kind), make_spec(image("low", 16, role="low_res", range=UNIT), side=32, range=UNIT, scale=2)


def bicubic_up() -> Made:
    return make("up")


def unshuffle() -> Made:
    return make("unshuffle")


def antialias() -> Made:
    return make("antialias")


def down_half() -> Made:
    return make("down")
