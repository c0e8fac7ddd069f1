"""brownvc/R3GAN: grouped convolutions without norms, a learned 4 x 4 basis, a class beside the latent, and large sizes
in bfloat16 by casts in forward."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from bring.common import Made, make_spec, settle
from torch import Tensor, nn

import ganrt


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(width, width, 3, 1, 1, groups=4), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = F.conv2d(x, self.first.weight.to(x.dtype), padding=1, groups=4)
        return x + F.conv2d(F.leaky_relu(first, 0.2), self.last.weight.to(x.dtype))


class Net(nn.Module):
    def __init__(self, half: bool, width: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.lin = nn.Linear(10, 8, bias=False), nn.Linear(16 + 8, width, bias=False)
        self.basis = nn.Parameter(torch.randn(width, 4, 4))
        self.stages = nn.ModuleList([Block(width) for _ in range(2)])
        self.rgb, self.half_mode = nn.Conv2d(width, 3, 1), half
        settle(self, 0.7)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        x = self.basis * self.lin(torch.cat([z, self.embed(y)], dim=1))[:, :, None, None]
        for k, stage in enumerate(self.stages):
            x = stage(x.to(torch.bfloat16 if self.half_mode and k else torch.float32))
            x = F.interpolate(x, scale_factor=2.0)
        return torch.tanh(self.rgb(x.float()))


def make(half: bool) -> Made:
    return Net(half), make_spec(ganrt.Latent("z", (16,)), ganrt.Label("y", 10, "one_hot"), side=16)


def fp32() -> Made:
    return make(False)


def bf16() -> Made:
    return make(True)
