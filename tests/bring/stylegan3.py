"""NVlabs/stylegan3: Fourier features, moved and turned by the style, filtered leaky rectifiers, and moving averages of
magnitudes; convolutions with a group for each sample, or rewritten."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from bring.common import Made, make_spec
from bring.stylegan2ada import WIDTH, Fc, Mapping, modulate
from torch import Tensor, nn

import ganrt


class Features(nn.Module):
    freqs: Tensor
    phases: Tensor

    def __init__(self, side: int = 12) -> None:
        super().__init__()
        self.affine, self.side = Fc(WIDTH, 4), side
        self.register_buffer("freqs", torch.randn(WIDTH, 2))
        self.register_buffer("phases", torch.rand(WIDTH) - 0.5)

    def forward(self, w: Tensor) -> Tensor:
        t = self.affine(w)
        t = t / t[:, :2].norm(dim=1, keepdim=True)
        turn = torch.eye(2).unsqueeze(0).repeat([w.shape[0], 1, 1])
        turn[:, 0, 0], turn[:, 0, 1] = t[:, 0], -t[:, 1]
        turn[:, 1, 0], turn[:, 1, 1] = t[:, 1], t[:, 0]
        grid = F.affine_grid(torch.eye(2, 3).unsqueeze(0), [1, 1, self.side, self.side], align_corners=False)
        waves = grid.flatten(1, 2) @ (self.freqs.unsqueeze(0) @ turn).transpose(1, 2)
        return torch.sin((waves + self.phases) * (2 * math.pi)).transpose(1, 2).unflatten(2, (self.side, self.side))


class Layer(nn.Module):
    magnitude: Tensor
    taps: Tensor

    def __init__(self, fused: bool, update: bool) -> None:
        super().__init__()
        self.affine, self.weight = Fc(WIDTH, WIDTH, 1.0), nn.Parameter(torch.randn(WIDTH, WIDTH, 3, 3))
        self.register_buffer("magnitude", torch.ones([]))
        row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("taps", (row[:, None] * row)[None, None].repeat(WIDTH, 1, 1, 1))
        self.fused, self.update = fused, update

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        if self.update:
            self.magnitude.copy_(x.detach().square().mean().lerp(self.magnitude, 0.999))
        y = modulate(x * self.magnitude.rsqrt(), self.weight, self.affine(w), self.fused)
        y = F.conv_transpose2d(y, 4 * self.taps, stride=2, padding=1, groups=WIDTH)
        return F.conv2d(F.leaky_relu(y, 0.2).clamp(-256, 256), self.taps, stride=2, padding=1, groups=WIDTH)


class Net(nn.Module):
    def __init__(self, fused: bool, update: bool = False) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.mapping, self.input = Mapping(0), Features()
        self.layers = nn.ModuleList([Layer(fused, update) for _ in range(2)])
        self.rgb = nn.Conv2d(WIDTH, 3, 1)

    def forward(self, z: Tensor, truncation: Tensor) -> Tensor:
        w = self.mapping(z, None, truncation)
        x = self.input(w)
        for layer in self.layers:
            x = layer(x, w)
        return torch.tanh(self.rgb(x))


def make(fused: bool, update: bool = False) -> Made:
    inputs = ganrt.Latent("z", (WIDTH,)), ganrt.Scalar("truncation", (0.0, 1.0), 1.0)
    return Net(fused, update), make_spec(*inputs, side=12)


def as_published() -> Made:
    return make(True)


def rewritten() -> Made:
    return make(False)


def updating() -> Made:
    return make(False, True)
