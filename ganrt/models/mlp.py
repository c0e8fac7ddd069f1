"""The classic GAN (Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014): a fully connected generator.

Its discriminator is strided-convolutional, 64-128-256-512. Hidden activations are ReLU; images leave as (C, H, W), so
weights trained for channels-last images need the rows of their last layer permuted. The article does not say whether
hidden layers are normalised: batch norm is a switch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from ganrt.errors import RequestError
from ganrt.models.family import Family, Layout, Shapes, check_bounds, check_channels, flatten_logits
from ganrt.spec import Latent, Output, Spec

_HIDDEN = (256, 512, 512)
_WIDTHS = (64, 128, 256, 512)


@dataclass(frozen=True)
class Config:
    """Settings of `mlp`. The defaults are those of the article's network for 28-pixel RGB images."""

    size: int = 28
    """Height and width in pixels, 16 to 128."""
    channels: int = 3
    """1 (grey) or 3 (RGB)."""
    latent: int = 100
    """Length of the latent, 1 to 4096."""
    batch_norm: bool = False
    """Whether the generator's hidden layers have batch norm."""

    def __post_init__(self) -> None:
        check_channels(self.channels)
        check_bounds(size=(self.size, 16, 128), latent=(self.latent, 1, 4096))


class Generator(nn.Module):
    """(N, latent) -> (N, channels, size, size) in [-1, 1]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.shape = (config.channels, config.size, config.size)
        layers: list[nn.Module] = []
        before = config.latent
        for width in _HIDDEN:
            norm = [nn.BatchNorm1d(width)] if config.batch_norm else []
            layers += [nn.Linear(before, width), *norm, nn.ReLU(inplace=True)]
            before = width
        self.main = nn.Sequential(*layers, nn.Linear(before, math.prod(self.shape)), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        """Generate images from latents (N, latent)."""
        return self.main(z).unflatten(1, self.shape)  # type: ignore[no-any-return]


class Discriminator(nn.Module):
    """(N, channels, size, size) -> logits (N,)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before, side = config.channels, config.size
        for width in _WIDTHS:
            layers += [nn.Conv2d(before, width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
            before, side = width, side // 2
        self.main = nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * side * side, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Score images (N, channels, size, size): logits (N,)."""
        return flatten_logits(self.main(x))


def build_spec(config: Config) -> Spec:
    """A normal latent in, an image in [-1, 1] out."""
    return Spec(
        family="mlp",
        inputs=(Latent("z", (config.latent,), truncation="resampled"),),
        output=Output(config.channels, (-1.0, 1.0), (config.size, config.size)),
    )


def guess_config(shapes: Shapes) -> Config | None:
    """Infer size and channels from the channels * size^2 rows of the last layer; a^2 = 3 b^2 has no solution."""
    batch_norm = "main.1.running_mean" in shapes
    first, last = shapes.get("main.0.weight", ()), shapes.get(f"main.{9 if batch_norm else 6}.weight", ())
    if len(first) != 2 or len(last) != 2:
        return None
    for channels in (1, 3):
        size = math.isqrt(last[0] // channels)
        if channels * size * size == last[0]:
            try:
                return Config(size, channels, first[1], batch_norm)
            except RequestError:
                return None
    return None


FAMILY = Family("mlp", Config, Generator, build_spec, (Layout("ganrt", guess_config),), Discriminator)
