"""NVlabs/MUNIT: an MLP writes the weights of the adaptive instance norms, which are batch norms in training mode on
reshaped features; the layer norm has a branch for one sample."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from bring.common import Made, image, make_spec, settle
from torch import Tensor, nn

import ganrt


class AdaptiveNorm(nn.Module):
    mean: Tensor
    variance: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        mean, variance = self.mean.repeat(b), self.variance.repeat(b)
        y = F.batch_norm(x.reshape(1, b * c, h, w), mean, variance, self.weight, self.bias, True, 0.1, 1e-5)
        return y.view(b, c, h, w)


class LayerNorm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.size(0) == 1:
            mean, deviation = x.view(-1).mean().view(-1, 1, 1, 1), x.view(-1).std().view(-1, 1, 1, 1)
        else:
            flat = x.reshape(x.size(0), -1)
            mean, deviation = flat.mean(1).view(-1, 1, 1, 1), flat.std(1).view(-1, 1, 1, 1)
        return (x - mean) / (deviation + 1e-5)


class Net(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.first, self.conv = nn.Conv2d(3, width, 3, 1, 1), nn.Conv2d(width, width, 3, 1, 1)
        self.norm = AdaptiveNorm(width)
        self.last = nn.Sequential(LayerNorm(), nn.ReLU(), nn.Conv2d(width, 3, 3, 1, 1), nn.Tanh())
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2 * width))
        settle(self)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        made = self.mlp(style.flatten(1))
        self.norm.bias, self.norm.weight = (half.reshape(-1) for half in made.chunk(2, dim=1))
        return self.last(self.norm(self.conv(self.first(x))))


def published() -> Made:
    return Net(), make_spec(image(side=16), ganrt.Latent("style", (8, 1, 1)), side=16)
