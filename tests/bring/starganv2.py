"""clovaai/stargan-v2: a mapping network with a head for each domain, of which the label picks one, with a list of row
numbers or with torch.arange."""

from __future__ import annotations

import torch
from bring.common import Made, image, make_spec, settle
from torch import Tensor, nn

import ganrt


class Mapping(nn.Module):
    def __init__(self, listed: bool, domains: int = 3) -> None:
        super().__init__()
        self.shared = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
        self.heads = nn.ModuleList([nn.Linear(16, 8) for _ in range(domains)])
        self.listed = listed

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        h = self.shared(z)
        out = torch.stack([head(h) for head in self.heads], dim=1)
        if self.listed:
            index = torch.LongTensor(range(y.size(0))).to(y.device)
        else:
            index = torch.arange(y.shape[0], device=y.device)
        return out[index, y]


class AdaptiveNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.fc = nn.InstanceNorm2d(width), nn.Linear(8, 2 * width)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        gamma, beta = torch.chunk(self.fc(s)[:, :, None, None], 2, dim=1)
        return (1 + gamma) * self.norm(x) + beta


class Net(nn.Module):
    def __init__(self, listed: bool, width: int = 4) -> None:
        super().__init__()
        self.mapping, self.enc = Mapping(listed), nn.Conv2d(3, width, 3, 2, 1)
        self.norm, self.conv = AdaptiveNorm(width), nn.Conv2d(width, width, 3, 1, 1)
        self.dec = nn.Sequential(nn.Upsample(scale_factor=2.0), nn.Conv2d(width, 3, 3, 1, 1), nn.Tanh())
        settle(self, 0.7)

    def forward(self, x: Tensor, z: Tensor, y: Tensor) -> Tensor:
        s = self.mapping(z, y)
        return self.dec(self.conv(torch.relu(self.norm(self.enc(x), s))))


def make(listed: bool, domains: int = 3) -> Made:
    inputs = image(side=16), ganrt.Latent("z", (8,)), ganrt.Label("domain", domains)
    return Net(listed), make_spec(*inputs, side=16)


def published() -> Made:
    return make(True)


def arange() -> Made:
    return make(False)


def five_domains() -> Made:
    """The network has three."""
    return make(False, 5)
