"""madebyollin/taesd, and the decoder of Stable Diffusion: pictures of four channels in, eight or two times as large
out; attention; weights that came in float16."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from bring.common import Made, image, make_spec, settle
from torch import Tensor, nn

import ganrt


class Tiny(nn.Module):
    def __init__(self, width: int = 6, doublings: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(4, width, 3, padding=1), nn.ReLU()]
        for _ in range(doublings):
            layers += [nn.Upsample(scale_factor=2.0), nn.Conv2d(width, width, 3, padding=1, bias=False), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 3, 3, padding=1))
        settle(self, 0.7)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layers(torch.tanh(x / 3) * 3))


class Vae(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(4, width, 3, 1, 1), nn.GroupNorm(4, width, 1e-6)
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.up, self.out = nn.Upsample(scale_factor=2.0), nn.Conv2d(width, 3, 3, 1, 1)
        settle(self, 0.7)

    def forward(self, z: Tensor) -> Tensor:
        x = self.first(z / 0.18215)
        b, c, h, w = x.shape
        tokens = self.norm(x).view(b, c, h * w).transpose(1, 2)
        q, k, v = (layer(tokens).unsqueeze(1) for layer in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v).squeeze(1)
        return torch.tanh(self.out(F.silu(self.up(x + y.transpose(1, 2).reshape(b, c, h, w)))))


def tiny() -> Made:
    latents = image("latents", 4, role="latent", channels=4, range=(-3.0, 3.0))
    return Tiny(), make_spec(latents, side=32, scale=8)


def vae() -> Made:
    return Vae(), make_spec(ganrt.Latent("z", (4, 8, 8)), side=16)


def vae_half() -> Made:
    net, spec = vae()
    return net.half(), spec
