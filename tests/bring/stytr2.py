"""diyiiyiii/StyTR-2: positions from pooled features, resized to the grid of tokens, and attention of content to style;
without the attention where only the positions matter."""

from __future__ import annotations

import torch.nn.functional as F
from bring.common import UNIT, Made, image, make_spec, settle
from torch import Tensor, nn


class Positions(nn.Module):
    def __init__(self, pooled: int, width: int = 8) -> None:
        super().__init__()
        self.patch, self.pool = nn.Conv2d(3, width, 4, 4), nn.AdaptiveAvgPool2d(pooled)
        self.pos, self.out = nn.Conv2d(width, width, 1), nn.Sequential(nn.Conv2d(width, 3, 1), nn.Sigmoid())
        settle(self)

    def embed(self, content: Tensor) -> Tensor:
        tokens = self.patch(content)
        return tokens + F.interpolate(self.pos(self.pool(tokens)), size=tokens.shape[-2:], mode="nearest")

    def forward(self, content: Tensor) -> Tensor:
        return self.out(F.interpolate(self.embed(content), scale_factor=4.0, mode="bilinear"))


class Net(Positions):
    def __init__(self, pooled: int, width: int = 8) -> None:
        super().__init__(pooled, width)
        self.attention, self.norm = nn.MultiheadAttention(width, 2), nn.LayerNorm(width)

    def forward(self, content: Tensor, style: Tensor) -> Tensor:  # type: ignore[override]
        grid = self.embed(content)
        queries, keys = (x.flatten(2).permute(2, 0, 1) for x in (grid, self.patch(style)))
        tokens = self.norm(queries + self.attention(queries, keys, keys)[0])
        return self.out(F.interpolate(tokens.permute(1, 2, 0).reshape(grid.shape), scale_factor=4.0, mode="bilinear"))


def pool18_fixed() -> Made:
    pictures = [image(name, 24, role=name, range=UNIT) for name in ("content", "style")]
    return Net(18), make_spec(*pictures, side=24, range=UNIT)


def positions(pooled: int) -> Made:
    return Positions(pooled), make_spec(image("content", range=UNIT, multiple_of=4), range=UNIT)


def pool3() -> Made:
    return positions(3)


def global_pool() -> Made:
    return positions(1)
