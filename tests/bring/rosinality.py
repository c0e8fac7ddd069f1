"""rosinality/stylegan2-pytorch: forward takes a list of latents; two of them are mixed at a layer that Python's random
numbers choose."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from bring.common import Made, make_spec
from bring.stylegan2ada import WIDTH, Net
from torch import Tensor, nn

import ganrt


class Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, styles: Sequence[Tensor]) -> Any:
        ws = [self.net.mapping(style, None, 1.0) for style in styles]
        w = ws[0]
        if len(ws) == 2:
            k = random.randint(1, WIDTH - 1)
            w = torch.cat([ws[0][:, :k], ws[1][:, k:]], 1)
        return self.net.synthesize(w), None


class Unlisted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator = Generator()

    def forward(self, *latents: Tensor) -> Tensor:
        return self.generator(list(latents))[0]


def describe(*names: str) -> ganrt.Spec:
    return make_spec(*(ganrt.Latent(name, (WIDTH,)) for name in names), side=16)


def listed() -> Made:
    return Generator(), describe("z")


def wrapped() -> Made:
    return Unlisted(), describe("z")


def mixing() -> Made:
    return Unlisted(), describe("z", "other")
