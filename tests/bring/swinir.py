"""JingyunLiang/SwinIR: attention in windows that move by half a window, with a mask for the size at hand; padding to
whole windows, and a crop."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from bring.common import UNIT, Made, image, make_spec, settle
from torch import Tensor, nn

SIDE, SHIFT = 4, 2


def split(x: Tensor) -> Tensor:
    b, h, w, c = x.shape
    return x.view(b, h // SIDE, SIDE, w // SIDE, SIDE, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, SIDE * SIDE, c)


def merge(windows: Tensor, h: int, w: int) -> Tensor:
    """The batch size as the original has it: a division of floats."""
    b = int(windows.shape[0] / (h * w / SIDE / SIDE))
    return windows.view(b, h // SIDE, w // SIDE, SIDE, SIDE, -1).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, -1)


def merge_free(windows: Tensor, h: int, w: int) -> Tensor:
    c = windows.shape[-1]
    return windows.view(-1, h // SIDE, w // SIDE, SIDE, SIDE, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, h, w, c)


class Block(nn.Module):
    def __init__(self, width: int, join: Callable[[Tensor, int, int], Tensor]) -> None:
        super().__init__()
        self.norm, self.qkv, self.proj = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.join = join

    def make_mask(self, h: int, w: int) -> Tensor:
        numbers = torch.zeros((1, h, w, 1))
        parts = (slice(0, -SIDE), slice(-SIDE, -SHIFT), slice(-SHIFT, None))
        for k, (rows, columns) in enumerate((rows, columns) for rows in parts for columns in parts):
            numbers[:, rows, columns] = k
        windows = split(numbers).squeeze(-1)
        return (windows.unsqueeze(1) != windows.unsqueeze(2)) * -100.0

    def forward(self, x: Tensor) -> Tensor:
        _, h, w, c = x.shape
        moved = torch.roll(self.norm(x), shifts=(-SHIFT, -SHIFT), dims=(1, 2))
        q, k, v = self.qkv(split(moved)).chunk(3, dim=-1)
        scores, mask = q @ k.transpose(-2, -1) * c**-0.5, self.make_mask(h, w)
        scores = (scores.unflatten(0, (-1, mask.shape[0])) + mask).flatten(0, 1)
        y = self.join(self.proj(scores.softmax(-1) @ v), h, w)
        return x + torch.roll(y, shifts=(SHIFT, SHIFT), dims=(1, 2))


class Net(nn.Module):
    def __init__(self, join: Callable[[Tensor, int, int], Tensor], width: int = 8) -> None:
        super().__init__()
        self.mean = torch.tensor([0.45, 0.44, 0.40]).view(1, 3, 1, 1)
        self.first, self.block = nn.Conv2d(3, width, 3, 1, 1), Block(width, join)
        self.up = nn.Sequential(nn.Conv2d(width, 12, 3, 1, 1), nn.PixelShuffle(2))
        settle(self, 0.5)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        x = F.pad(x, (0, (SIDE - w % SIDE) % SIDE, 0, (SIDE - h % SIDE) % SIDE), "reflect")
        self.mean = self.mean.type_as(x)
        y = self.block(self.first(x - self.mean).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return (self.up(y) + self.mean)[:, :, : 2 * h, : 2 * w]


def make(join: Callable[[Tensor, int, int], Tensor], side: int) -> Made:
    low = image("low", side, role="low_res", range=UNIT)
    return Net(join), make_spec(low, side=2 * side, range=UNIT, scale=2)


def fixed() -> Made:
    """Padded to 20 x 20."""
    return make(merge_free, 18)


def python_batch() -> Made:
    """With the original's division."""
    return make(merge, 16)
