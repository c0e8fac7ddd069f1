"""Stability-AI's SD-turbo and its kind: one step of a small U-Net at a fixed time, with attention to tokens of a class,
and a decoder."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from bring.common import Made, make_spec, settle
from bring.taesd import Tiny
from torch import Tensor, nn

import ganrt


class Net(nn.Module):
    def __init__(self, width: int = 8, classes: int = 10) -> None:
        super().__init__()
        self.width, self.time = width, nn.Sequential(nn.Linear(width, width), nn.SiLU())
        self.tokens, self.first = nn.Embedding(classes, 4 * width), nn.Conv2d(4, width, 3, 1, 1)
        self.norm, self.query = nn.GroupNorm(4, width), nn.Linear(width, width, bias=False)
        self.out, self.decoder = nn.Conv2d(width, 4, 3, 1, 1), Tiny(doublings=1)
        settle(self, 0.7)

    def forward(self, noise: Tensor, label: Tensor, timestep: int = 999) -> Tensor:
        step = torch.tensor([timestep], dtype=torch.long, device=noise.device).expand(noise.shape[0])
        half = self.width // 2
        waves = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
        angles = step[:, None].float() * waves[None]
        time = self.time(torch.cat([torch.cos(angles), torch.sin(angles)], -1))
        x = self.first(noise) + time[:, :, None, None]
        tokens = self.tokens(label).view(-1, 1, 4, self.width)
        query = self.query(self.norm(x).flatten(2).transpose(1, 2)).unsqueeze(1)
        x = x + F.scaled_dot_product_attention(query, tokens, tokens).transpose(1, 2).reshape(x.shape)
        alpha = 0.0047**0.5
        return self.decoder(((noise - (1 - alpha**2) ** 0.5 * self.out(F.silu(x))) / alpha * 0.1).clamp(-3, 3))


def factory() -> Made:
    return Net(), make_spec(ganrt.Latent("noise", (4, 8, 8)), ganrt.Label("label", 10), side=16)
