"""NVlabs/stylegan2-ada-pytorch: a mapping with truncation, modulated convolutions (fused: a group for each sample),
noise that is drawn or stored, a sum of images, and blocks in float16."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from bring.common import Made, make_spec
from torch import Tensor, nn

import ganrt

WIDTH = 8


class Fc(nn.Module):
    """A linear layer with an equalised learning rate."""

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(outputs, inputs)), nn.Parameter(torch.full((outputs,), bias))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight / math.sqrt(self.weight.shape[1]), self.bias)


def modulate(x: Tensor, weight: Tensor, styles: Tensor, fused: bool) -> Tensor:
    n, (o, i, size, _) = x.shape[0], weight.shape
    own = weight[None] * styles.reshape(n, 1, i, 1, 1)
    factors = (own.square().sum(dim=[2, 3, 4]) + 1e-8).rsqrt()
    if not fused:
        y = F.conv2d(x * styles.reshape(n, i, 1, 1), weight, padding=size // 2)
        return y * factors.reshape(n, o, 1, 1)
    own = (own * factors.reshape(n, o, 1, 1, 1)).reshape(n * o, i, size, size)
    y = F.conv2d(x.reshape(1, n * i, *x.shape[2:]), own, padding=size // 2, groups=n)
    return y.reshape(n, o, *x.shape[2:])


class Layer(nn.Module):
    stored: Tensor

    def __init__(self, outputs: int, size: int, side: int, noise: str, fused: bool, half: bool) -> None:
        super().__init__()
        self.affine = Fc(WIDTH, WIDTH, 1.0)
        self.weight = nn.Parameter(torch.randn(outputs, WIDTH, size, size))
        self.register_buffer("stored", torch.randn(side, side))
        self.side, self.noise, self.fused, self.half_mode = side, noise, fused, half

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        if self.half_mode:
            return modulate(x.half(), self.weight.half(), self.affine(w).half(), self.fused).float()
        y = modulate(x, self.weight, self.affine(w), self.fused)
        if self.noise == "random":
            y = y + 0.3 * torch.randn([x.shape[0], 1, self.side, self.side], device=x.device)
        elif self.noise == "const":
            y = y + 0.3 * self.stored
        return F.leaky_relu(y, 0.2).clamp(-256, 256)


class Mapping(nn.Module):
    mean: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.embed = Fc(classes, WIDTH) if classes else None
        self.fcs = nn.ModuleList([Fc(WIDTH * (2 if classes else 1), WIDTH), Fc(WIDTH, WIDTH)])
        self.register_buffer("mean", torch.randn(WIDTH) * 0.1)

    def forward(self, z: Tensor, c: Tensor | None, truncation: Any) -> Tensor:
        x = z * (z.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
        if self.embed is not None:
            x = torch.cat([x, self.embed(c)], dim=1)
        for fc in self.fcs:
            x = F.leaky_relu(fc(x), 0.2)
        factor = truncation.reshape(-1, 1) if isinstance(truncation, Tensor) else truncation
        return self.mean.lerp(x, factor)


class Net(nn.Module):
    def __init__(self, noise: str = "none", classes: int = 0, fused: bool = False, half: bool = False) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.mapping, self.const = Mapping(classes), nn.Parameter(torch.randn(WIDTH, 4, 4))
        self.convs = nn.ModuleList([Layer(WIDTH, 3, 4 << k, noise, fused, half and k > 0) for k in range(3)])
        self.rgbs = nn.ModuleList([Layer(3, 1, 4 << k, "none", fused, False) for k in range(3)])
        self.classes = classes

    def synthesize(self, w: Tensor) -> Tensor:
        x = self.const.unsqueeze(0).repeat([w.shape[0], 1, 1, 1])
        image: Any = None
        for k, (conv, rgb) in enumerate(zip(self.convs, self.rgbs, strict=True)):
            if k:
                x = F.interpolate(x, scale_factor=2.0, mode="bilinear")
                image = F.interpolate(image, scale_factor=2.0, mode="bilinear")
            x = conv(x, w)
            image = rgb(x, w) if image is None else image + rgb(x, w)
        return torch.tanh(0.3 * image)

    def forward(self, z: Tensor, *others: Tensor) -> Tensor:
        return self.synthesize(self.mapping(z, others[0] if self.classes else None, others[-1]))


def make(**settings: Any) -> Made:
    inputs: list[Any] = [ganrt.Latent("z", (WIDTH,))]
    if settings.get("classes"):
        inputs.append(ganrt.Label("c", settings["classes"], "one_hot"))
    scalar = ganrt.Scalar("truncation", (0.0, 1.0), 1.0)
    return Net(**settings), make_spec(*inputs, scalar, side=16)


def plain() -> Made:
    return make(noise="random")


def conditional() -> Made:
    return make(noise="const", classes=5)


def fused() -> Made:
    return make(fused=True)


def half() -> Made:
    return make(half=True)
