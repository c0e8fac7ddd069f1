"""The generator of StyleGAN2 (Karras, Laine, Aittala, Hellsten, Lehtinen, Aila, "Analyzing and Improving the Image
Quality of StyleGAN", CVPR 2020), written for inference: a mapping of the latent to a style vector, and a synthesis of
skip connections to RGB.

The originals scale the weight of each convolution once per image and convolve in groups, one per image. Here the input
and the output are scaled instead, which is the same and lets all images of a batch share one weight.

Constant factors are folded into the parameters: those of the equalised learning rate, and the gain sqrt(2) behind each
activation. A leaky ReLU takes a positive factor of its input to its output, so what goes in is multiplied by it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ganrt.errors import RequestError
from ganrt.models.family import check_bounds, check_channels

GAIN = math.sqrt(2.0)
"""What the originals multiply the output of a leaky ReLU by."""
USUAL_RATE = 0.01
"""Multiplier of the mapping's learning rate in every published network."""
_SLOPE = 0.2
_EPS = 1e-8
_TAPS = (1.0, 3.0, 3.0, 1.0)
"""Of the filter behind each upsampling, along each side, before they are normalised."""
NOISES = ("const", "none", "random")


@dataclass(frozen=True)
class Config:
    """Settings of `stylegan2`. The defaults are those of stylegan3's repository for 256 pixels."""

    widths: tuple[int, ...] = (512, 512, 512, 512, 512, 256, 128)
    """Channels at 4, 8, 16, ... pixels, 1 to 10 numbers; the size is 2^(1 + count)."""
    channels: int = 3
    """1 (grey) or 3 (RGB)."""
    latent: int = 512
    """Length of the latent, 1 to 4096."""
    classes: int = 0
    """Number of classes, to 100,000; 0 for a network without."""
    style: int = 512
    """Length of the style vector (w), 1 to 4096."""
    layers: int = 8
    """Layers of the mapping, 1 to 64."""
    noise: str = "const"
    """What is added to the layers, which no checkpoint tells: `const` the maps that are stored in it, `random` maps
    that are drawn from the seed, `none` nothing."""
    cutoff: int = 0
    """Number of layers, the first ones, whose style is truncated; 0 for all. No checkpoint tells it."""
    clamp: float = 256.0
    """Largest magnitude behind each convolution; 0 for no limit. Network pickles tell it, state dicts do not."""
    mapping_rate: float = USUAL_RATE
    """Multiplier of the mapping's learning rate, above 0: its weights are stored divided by it. Network pickles tell
    it, state dicts do not."""

    def __post_init__(self) -> None:
        check_channels(self.channels)
        check_bounds(
            latent=(self.latent, 1, 4096),
            classes=(self.classes, 0, 100_000),
            style=(self.style, 1, 4096),
            layers=(self.layers, 1, 64),
            cutoff=(self.cutoff, 0, 2 * len(self.widths)),
        )
        if not 1 <= len(self.widths) <= 10 or not all(1 <= width <= 4096 for width in self.widths):
            raise RequestError(f"widths is {self.widths}; it takes 1 to 10 numbers from 1 to 4096")
        if self.noise not in NOISES:
            raise RequestError(f"noise is {self.noise!r}; it must be one of {', '.join(NOISES)}")
        if not 0 <= self.clamp < math.inf:
            raise RequestError(f"clamp is {self.clamp}; it must be a number from 0, where 0 means no limit")
        if not 0 < self.mapping_rate < math.inf:
            raise RequestError(f"mapping_rate is {self.mapping_rate}; it must be a number above 0")

    @property
    def size(self) -> int:
        """Height and width of the images in pixels."""
        return 2 << len(self.widths)

    @property
    def noise_sizes(self) -> tuple[int, ...]:
        """Height and width of the noise map of each convolution."""
        return (4, *(4 << k for k in range(1, len(self.widths)) for _ in range(2)))


def make_filter() -> Tensor:
    """The usual filter of upsampling by 2, (4, 4); its sum is 4, as zeros between the pixels take three quarters."""
    taps = torch.tensor(_TAPS)
    return 4.0 * torch.outer(taps, taps) / taps.sum() ** 2


def _normalize(x: Tensor) -> Tensor:
    """Normalise (N, C) to a mean square of 1."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + _EPS)


class Mapping(nn.Module):
    """(N, latent), and one-hot classes (N, classes) if there are any -> style vectors (N, style)."""

    mean: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embed = nn.Linear(config.classes, config.style) if config.classes else None
        before = [config.latent + (config.style if config.classes else 0)] + [config.style] * (config.layers - 1)
        self.layers = nn.ModuleList(nn.Linear(width, config.style) for width in before)
        for layer in self.layers:
            nn.init.normal_(layer.weight, 0.0, GAIN / math.sqrt(layer.in_features))  # type: ignore[arg-type]
        self.register_buffer("mean", torch.zeros(config.style))
        """Mean of the style vectors, towards which they are truncated."""
        self.rate = config.mapping_rate / USUAL_RATE

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Map latents, and classes."""
        x = _normalize(z)
        if self.embed is not None:
            x = torch.cat([x, _normalize(self.embed(c))], 1)
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), _SLOPE)
            if self.rate != 1:  # it multiplies weight and bias alike
                x = x * self.rate
        return x

    def truncate(self, w: Tensor, psi: Tensor) -> Tensor:
        """Move style vectors (N, style) towards their mean, to the part `psi` (N,) of the distance. 1 changes no
        bit."""
        return w - (w - self.mean) * (1.0 - psi)[:, None]


class Convolution(nn.Module):
    """3 x 3 convolution of (N, before, H, W), modulated by a style vector (N, style): to twice the height and width if
    `upsample` is true. Then noise, bias and a leaky ReLU."""

    noise: Tensor

    def __init__(self, config: Config, before: int, after: int, size: int, upsample: bool) -> None:
        super().__init__()
        self.mode, self.clamp = config.noise, config.clamp
        self.affine = nn.Linear(config.style, before)
        """Computes the factor of each channel of the input."""
        self.conv: nn.Conv2d | nn.ConvTranspose2d
        if upsample:
            self.conv = nn.ConvTranspose2d(before, after, 3, 2, bias=False)
            self.blur: nn.Module = nn.Conv2d(after, after, 4, padding=1, groups=after, bias=False)
        else:
            self.conv = nn.Conv2d(before, after, 3, padding=1, bias=False)
            self.blur = nn.Identity()
        self.energy = nn.Linear(before, after, bias=False)
        """Half the sum of squares of the 9 weights between two channels. With squared factors of the input, half the
        squared norm of what the original convolves with, hence the output's factor times GAIN."""
        self.bias = nn.Parameter(torch.zeros(after, 1, 1))
        self.strength = nn.Parameter(torch.zeros(()))
        """Standard deviation of drawn noise."""
        self.register_buffer("noise", torch.zeros(1, size, size))
        """The stored noise map, times the strength."""
        self._initialize()

    def _initialize(self) -> None:
        nn.init.normal_(self.affine.weight, 0.0, 1 / math.sqrt(self.affine.in_features))
        nn.init.ones_(self.affine.bias)
        nn.init.normal_(self.conv.weight, 0.0, 1 / (3 * math.sqrt(self.affine.out_features)))
        with torch.no_grad():
            energy = self.conv.weight.square().sum((2, 3)) / 2
            self.energy.weight.copy_(energy.T if isinstance(self.blur, nn.Conv2d) else energy)
            if isinstance(self.blur, nn.Conv2d):
                self.blur.weight.copy_(make_filter().expand_as(self.blur.weight))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """Convolve. `noise` (N, 1, H, W) is for networks that draw it."""
        factors = self.affine(w)
        scale = torch.rsqrt(self.energy(factors.square()) + _EPS / 2)
        x = self.blur(self.conv(x * factors[:, :, None, None])) * scale[:, :, None, None]
        if noise is not None:
            x = x + noise * self.strength
        elif self.mode == "const":
            x = x + self.noise
        x = functional.leaky_relu(x + self.bias, _SLOPE)
        return x.clamp(-self.clamp, self.clamp) if self.clamp else x


class ToImage(nn.Module):
    """1 x 1 convolution of (N, before, H, W), modulated, to the channels of the image."""

    def __init__(self, config: Config, before: int) -> None:
        super().__init__()
        self.clamp = config.clamp
        self.affine = nn.Linear(config.style, before)
        self.conv = nn.Conv2d(before, config.channels, 1)
        nn.init.normal_(self.affine.weight, 0.0, 1 / math.sqrt(config.style))
        nn.init.ones_(self.affine.bias)
        nn.init.normal_(self.conv.weight, 0.0, 1 / math.sqrt(before))
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Convolve."""
        x = self.conv(x * self.affine(w)[:, :, None, None])
        return x.clamp(-self.clamp, self.clamp) if self.clamp else x


class Block(nn.Module):
    """One resolution: (N, before, H, W) and the image so far -> (N, width, 2H, 2W) and the larger image. The first one,
    `number` 0, has no convolution that upsamples, and no image before it."""

    def __init__(self, config: Config, number: int) -> None:
        super().__init__()
        width, channels, size = config.widths[number], config.channels, 4 << number
        self.number = number
        if number:
            self.conv0 = Convolution(config, config.widths[number - 1], width, size, upsample=True)
            self.upsample = nn.ConvTranspose2d(channels, channels, 4, 2, 1, groups=channels, bias=False)
            with torch.no_grad():
                self.upsample.weight.copy_(make_filter().expand_as(self.upsample.weight))
        self.conv1 = Convolution(config, width, width, size, upsample=False)
        self.to_image = ToImage(config, width)

    def forward(
        self, x: Tensor, image: Tensor | None, styles: list[Tensor], noise: list[Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        """Style k belongs to convolution k of the network; the image has the style of the convolution that follows."""
        last = 2 * self.number
        if image is not None:
            x, image = self.conv0(x, styles[last - 1], noise[last - 1]), self.upsample(image)
        x = self.conv1(x, styles[last], noise[last])
        added = self.to_image(x, styles[last + 1])
        return x, added if image is None else image + added


class Generator(nn.Module):
    """Latents (N, latent), one-hot classes (N, classes) if there are any, truncations (N,), and noise maps (N, 1, H, W)
    if they are drawn -> (N, channels, size, size), about in [-1, 1]: the output is linear."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.classes, self.cutoff, self.count = config.classes, config.cutoff, 2 * len(config.widths)
        self.mapping = Mapping(config)
        self.const = nn.Parameter(torch.empty(config.widths[0], 4, 4))
        nn.init.normal_(self.const)
        self.blocks = nn.ModuleList(Block(config, number) for number in range(len(config.widths)))

    def forward(self, z: Tensor, *others: Tensor) -> Tensor:
        """Generate images: classes, truncation and noise are in the order of the Spec."""
        c, (psi, *rest) = (others[0], others[1:]) if self.classes else (None, others)
        drawn: list[Tensor | None] = list(rest)
        whole = self.mapping(z, c)
        truncated = self.mapping.truncate(whole, psi)
        styles = [truncated if not self.cutoff or k < self.cutoff else whole for k in range(self.count)]
        noise = drawn or [None] * (self.count - 1)
        x: Tensor = self.const[None]
        image: Tensor | None = None
        for block in self.blocks:
            x, image = block(x, image, styles, noise)
        assert image is not None, "there is one block at least"
        return image
