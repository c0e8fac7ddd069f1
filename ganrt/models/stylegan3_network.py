"""The network of StyleGAN3: settings, and modules with plain weights.

A style modulates each convolution by scaling its input channels, and demodulation divides each output channel by the
expected deviation of what comes out. Both are done on the activations, not on the weights, so that all images of a
batch share them: conv(x; d w s) = d conv(s x; w). The original normalises styles over the whole batch before. With
demodulation that cancels, so here each image is normalised by itself, as the original does at batch 1.

The nonlinearity works at twice the sampling rate: a filter upsamples, a leaky ReLU and a clamp follow, and a filter
downsamples. The filters are convolutions of single channels, along one axis after the other; the radial downsampling
filters of R cannot be separated.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ganrt.errors import RequestError
from ganrt.models.family import check_bounds, check_channels
from ganrt.models.progan import pixel_norm

TAPS = 6
"""Taps of a filter per pixel of its lower sampling rate."""
DOWN = 2
"""Factor by which every layer downsamples."""
GAIN = math.sqrt(2.0)
"""Factor of every leaky ReLU. It is part of what precedes it: of weights and biases, or of a filter."""
_SLOPE, _CLAMP = 0.2, 256.0
_EPS = 1e-8


@dataclass(frozen=True)
class Config:
    """Settings of `stylegan3`. The defaults are the published stylegan3-t for 1024 pixels."""

    sizes: tuple[int, ...] = (36, 36, 52, 52, 84, 148, 148, 276, 276, 532, 1044, 1044, 1044, 1024)
    """Height and width that each layer makes, from 8 to 2100, with a margin around the picture; the last is the size of
    the images, without one. The Fourier features have the size of the first."""
    up: tuple[int, ...] = (2, 2, 4, 2, 4, 4, 2, 4, 2, 4, 4, 2, 2, 2)
    """Factor by which each layer upsamples, 2, 4 or 8. All downsample by 2 afterwards."""
    widths: tuple[int, ...] = (512, 512, 512, 512, 512, 512, 512, 512, 323, 203, 128, 81, 51, 32, 32)
    """Channels of the Fourier features and of each layer."""
    kernel: int = 3
    """Height and width of the kernels: 3 (T) or 1 (R)."""
    radial: int = 0
    """How many layers, from the first, downsample with a radial filter: R has all but two."""
    latent: int = 512
    """Length of the latent, 1 to 4096."""
    style: int = 512
    """Length of a style, 1 to 4096."""
    mapping: int = 2
    """Layers between latent and style, 1 to 16."""
    classes: int = 0
    """Number of classes; 0 for a network without."""
    channels: int = 3
    """1 (grey) or 3 (RGB)."""
    cutoff: int = 0
    """How many of the styles, from that of the Fourier features on, the truncation acts on; 0 for all of them."""
    bandwidth: float = 2.0
    """Frequency from which on Fourier features fade out: the first cutoff frequency of the original. It has an effect
    only where `transform` in the checkpoint shrinks the picture."""
    output_scale: float = 0.25
    """Factor of the image."""

    def __post_init__(self) -> None:
        check_channels(self.channels)
        check_bounds(
            latent=(self.latent, 1, 4096),
            style=(self.style, 1, 4096),
            mapping=(self.mapping, 1, 16),
            classes=(self.classes, 0, 100_000),
            radial=(self.radial, 0, len(self.sizes)),
            cutoff=(self.cutoff, 0, len(self.sizes) + 2),
        )
        if not 1 <= len(self.sizes) <= 64 or not all(8 <= size <= 2100 for size in self.sizes):
            raise RequestError(f"sizes is {self.sizes}; it takes 1 to 64 numbers from 8 to 2100")
        if len(self.up) != len(self.sizes) or not set(self.up) <= {2, 4, 8}:
            raise RequestError(f"up is {self.up}; it takes 2, 4 or 8 for each of the {len(self.sizes)} sizes")
        if len(self.widths) != len(self.sizes) + 1 or not all(1 <= width <= 8192 for width in self.widths):
            raise RequestError(f"widths is {self.widths}; it takes {len(self.sizes) + 1} numbers from 1 to 8192")
        if self.kernel not in (1, 3):
            raise RequestError(f"kernel is {self.kernel}; it must be 1 or 3")
        if not (math.isfinite(self.bandwidth) and self.bandwidth > 0 and math.isfinite(self.output_scale)):
            raise RequestError(f"bandwidth is {self.bandwidth}, output_scale {self.output_scale}; they must be numbers")
        if not (self.rate.is_integer() and 2 * self.bandwidth < self.rate <= self.sizes[0]):
            raise RequestError(
                f"up is {self.up}, so the Fourier features of images of {self.size} pixels have {self.rate:g} pixels "
                f"per picture; it must be a whole number above {2 * self.bandwidth:g} and at most {self.sizes[0]}"
            )
        self.list_borders()

    @property
    def size(self) -> int:
        """Height and width of the images in pixels."""
        return self.sizes[-1]

    @property
    def rate(self) -> float:
        """Sampling rate of the Fourier features: pixels per picture, without the margin."""
        return self.size / math.prod(factor / DOWN for factor in self.up)

    def list_borders(self) -> list[Border]:
        """What each layer does at the borders. Raises RequestError for sizes that no layer can make."""
        pairs = itertools.pairwise((self.sizes[0], *self.sizes))
        found = [find_border(*pair, self.kernel, up) for pair, up in zip(pairs, self.up, strict=True)]
        if None in found:
            layer = found.index(None)
            raise RequestError(f"sizes is {self.sizes}; layer {layer} cannot make {self.sizes[layer]} pixels")
        return [border for border in found if border is not None]


class Border(NamedTuple):
    """What a layer adds and cuts on each of the four sides, so that its output is centred on its input."""

    cut: int
    """Pixels cut off before the convolution, since they have no influence on what is left after upsampling."""
    pad: int
    """Zeros added by the convolution."""
    crop: int
    """Pixels cut off after upsampling."""


def find_border(before: int, after: int, kernel: int, up: int) -> Border | None:
    """The border for sizes in pixels (appendix C.3 of the paper), or None if zeros would have to be added after the
    convolution. The original pads by kernel - 1 and crops after upsampling; what that removes is not computed here."""
    wide, taps = before + kernel - 1, TAPS * up
    crop, odd = divmod((wide - 1) * up + taps - (after - 1) * DOWN - TAPS * DOWN, 2)
    useless = max(0, math.ceil((crop - taps + 1) / up))
    if odd or crop < 0 or wide <= 2 * useless:
        return None
    return Border(max(0, useless - kernel + 1), max(0, kernel - 1 - useless), crop - useless * up)


class Mapping(nn.Module):
    """Latents (N, latent) and one-hot classes (N, classes) -> styles (N, style), without truncation."""

    mean: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        first = config.latent + (config.style if config.classes else 0)
        self.embedding = nn.Linear(config.classes, config.style) if config.classes else None
        self.layers = nn.ModuleList(
            nn.Linear(before, config.style) for before in (first, *[config.style] * (config.mapping - 1))
        )
        self.register_buffer("mean", torch.zeros(config.style))

    def forward(self, z: Tensor, c: Tensor | None) -> Tensor:
        """Map latents and classes to styles."""
        x = pixel_norm(z)
        if self.embedding is not None:
            x = torch.cat([x, pixel_norm(self.embedding(c))], 1)
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), _SLOPE)
        return x


class FourierFeatures(nn.Module):
    """Styles (N, style) -> waves (N, width, size, size), moved and rotated by the style."""

    frequencies: Tensor
    phases: Tensor
    transform: Tensor
    positions: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, size = config.widths[0], config.sizes[0]
        self.size, self.bandwidth, self.fading = size, config.bandwidth, config.rate / 2 - config.bandwidth
        self.affine = nn.Linear(config.style, 4)
        self.mix = nn.Conv2d(width, width, 1, bias=False)
        self.register_buffer("frequencies", torch.zeros(width, 2))
        self.register_buffer("phases", torch.zeros(width))
        self.register_buffer("transform", torch.eye(3))
        nn.init.normal_(self.frequencies, 0.0, config.bandwidth / 4)
        nn.init.uniform_(self.phases, -0.5, 0.5)
        nn.init.constant_(self.affine.bias, 0.5)
        place = (torch.arange(size) - (size - 1) / 2) / config.rate
        grid = torch.stack([place.expand(size, size), place[:, None].expand(size, size), torch.ones(size, size)])
        self.register_buffer("positions", grid.flatten(1), persistent=False)

    def forward(self, style: Tensor) -> Tensor:
        """Make waves."""
        turn = self.affine(style)
        cosine, sine, right, down = (turn / turn[:, :2].norm(dim=1, keepdim=True))[:, :, None].unbind(1)
        x, y = self.frequencies.unbind(1)
        x, y = x * cosine + y * sine, y * cosine - x * sine
        waves = torch.stack([x, y, -x * right - y * down], 2)
        angle = waves @ (self.transform @ self.positions) + self.phases[:, None]
        strength = 1 - ((waves @ self.transform[:, :2]).norm(dim=2) - self.bandwidth) / self.fading
        made = torch.sin(2 * math.pi * angle) * strength.clamp(0, 1)[:, :, None]
        return self.mix(made.unflatten(2, (self.size, self.size)))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """Modulated convolution and filtered leaky ReLU: (N, before, size, size) -> (N, width, after, after)."""

    gain: Tensor

    def __init__(self, before: int, width: int, border: Border, up: int, config: Config, radial: bool) -> None:
        super().__init__()
        self.cut = border.cut
        self.affine = nn.Linear(config.style, before)
        self.conv = nn.Conv2d(before, width, config.kernel, padding=border.pad, bias=False)
        self.register_buffer("gain", torch.ones(()))
        self.bias = nn.Parameter(torch.zeros(width, 1, 1))
        self.up = nn.Sequential(
            nn.ConvTranspose2d(width, width, (1, TAPS * up), (1, up), (0, border.crop), groups=width, bias=False),
            nn.ConvTranspose2d(width, width, (TAPS * up, 1), (up, 1), (border.crop, 0), groups=width, bias=False),
        )
        taps = TAPS * DOWN
        kernels = [(taps, taps)] if radial else [(1, taps), (taps, 1)]
        self.down = nn.Sequential(
            *(
                nn.Conv2d(width, width, (high, wide), (min(high, DOWN), min(wide, DOWN)), groups=width, bias=False)
                for high, wide in kernels
            )
        )
        nn.init.constant_(self.affine.bias, 1.0)
        fill_lowpass(self.up, up, math.sqrt(GAIN) * up)
        fill_lowpass(self.down, DOWN, 1.0)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Apply the layer to features and styles (N, style)."""
        scale = self.affine(style)
        scale = scale * torch.rsqrt(scale.square().mean(1, keepdim=True))
        power = functional.linear(scale.square(), self.conv.weight.square().sum((2, 3)))
        x = self.conv(cut_border(x, self.cut) * scale[:, :, None, None])
        x = x * (torch.rsqrt(power + _EPS) * self.gain)[:, :, None, None] + self.bias
        x = functional.leaky_relu(self.up(x), _SLOPE).clamp(-_CLAMP, _CLAMP)
        return self.down(x)  # type: ignore[no-any-return]


class ToRGB(nn.Module):
    """Modulated 1 x 1 convolution without demodulation: (N, before, H, W) -> (N, channels, H, W)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.affine = nn.Linear(config.style, config.widths[-1])
        self.conv = nn.Conv2d(config.widths[-1], config.channels, 1)
        nn.init.constant_(self.affine.bias, 1.0)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Apply the layer to features and styles (N, style)."""
        return self.conv(x * self.affine(style)[:, :, None, None]).clamp(-_CLAMP, _CLAMP)  # type: ignore[no-any-return]


def cut_border(x: Tensor, width: int) -> Tensor:
    """(N, C, H, W) without `width` pixels on each side."""
    return x[:, :, width:-width, width:-width] if width else x


def fill_lowpass(filters: nn.Module, factor: int, gain: float) -> None:
    """Set the filters of a layer with fresh weights: a sinc in a Kaiser window, whose sum along each axis is `gain`."""
    place = (np.arange(TAPS * factor) - (TAPS * factor - 1) / 2) / factor
    row = np.sinc(place) * np.kaiser(TAPS * factor, 2.5)
    row *= gain / row.sum()
    with torch.no_grad():
        for weight in filters.parameters():
            height, width = (row if side > 1 else np.ones(1) for side in weight.shape[2:])
            weight.copy_(torch.from_numpy(np.outer(height, width)))


class Generator(nn.Module):
    """Latents (N, latent), one-hot classes (N, classes) if there are any, and truncations (N,) -> images (N, channels,
    size, size), about in [-1, 1]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.classes, self.cutoff, self.output_scale = config.classes, config.cutoff, config.output_scale
        self.mapping = Mapping(config)
        self.features = FourierFeatures(config)
        self.layers = nn.ModuleDict(
            {
                f"{k}_{config.sizes[k]}": Layer(before, width, border, config.up[k], config, k < config.radial)
                for k, ((before, width), border) in enumerate(
                    zip(itertools.pairwise(config.widths), config.list_borders(), strict=True)
                )
            }
        )
        self.to_rgb = ToRGB(config)

    def forward(self, z: Tensor, *others: Tensor) -> Tensor:
        """Generate images. After the latents come the classes, if there are any, and the truncations."""
        style = self.mapping(z, others[0] if self.classes else None)
        truncation = others[-1]
        truncated = style + (truncation - 1)[:, None] * (style - self.mapping.mean)
        count = self.cutoff or len(self.layers) + 2
        styles = iter([truncated] * count + [style] * (len(self.layers) + 2 - count))
        x = self.features(next(styles))
        for layer in self.layers.values():
            x = layer(x, next(styles))
        return self.to_rgb(x, next(styles)) * self.output_scale  # type: ignore[no-any-return]
