"""DCGAN (Radford, Metz, Chintala, "Unsupervised Representation Learning with Deep Convolutional GANs", ICLR 2016).

Widths, kernels and state-dict keys are those of pytorch/examples, which halve the paper's widths: its checkpoints load
unchanged.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from torch import Tensor, nn

from ganrt.errors import RequestError
from ganrt.models.family import Family, Layout, Shapes, check_bounds, check_channels, init_normal, one_logit
from ganrt.spec import Latent, Output, Spec


@dataclass(frozen=True)
class Config:
    size: int = 64
    """Height and width in pixels, a power of two."""
    channels: int = 3
    latent: int = 100
    width: int = 64
    """Channels before the last layer; they double towards the latent."""

    def __post_init__(self) -> None:
        check_channels(self.channels)
        check_bounds(latent=(self.latent, 1, 4096), width=(self.width, 1, 1024))
        if self.size not in (16, 32, 64, 128):
            raise RequestError(f"size is {self.size}; dcgan makes images of 16, 32, 64 or 128 pixels")

    @property
    def widths(self) -> list[int]:
        """Channels at 4, 8, ... size / 2 pixels: the discriminator's in reverse."""
        doublings = self.size.bit_length() - 4
        return [self.width << k for k in range(doublings, -1, -1)]


class Generator(nn.Module):
    """(N, latent) -> (N, channels, size, size) in [-1, 1]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = config.latent
        for k, width in enumerate(config.widths):
            stride, padding = (1, 0) if k == 0 else (2, 1)
            layers += [
                nn.ConvTranspose2d(before, width, 4, stride, padding, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            before = width
        layers += [nn.ConvTranspose2d(before, config.channels, 4, 2, 1, bias=False), nn.Tanh()]
        self.main = nn.Sequential(*layers)
        init_normal(self)

    def forward(self, z: Tensor) -> Tensor:
        return self.main(z[:, :, None, None])  # type: ignore[no-any-return]


class Discriminator(nn.Module):
    """(N, channels, size, size) -> logits (N,). The original's sigmoid belongs to the loss here."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths = config.widths[::-1]
        layers: list[nn.Module] = [
            nn.Conv2d(config.channels, widths[0], 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        for before, width in itertools.pairwise(widths):
            layers += [
                nn.Conv2d(before, width, 4, 2, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        layers.append(nn.Conv2d(widths[-1], 1, 4, 1, 0, bias=False))
        self.main = nn.Sequential(*layers)
        init_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        return one_logit(self.main(x))


def spec(config: Config) -> Spec:
    return Spec(
        family="dcgan",
        inputs=(Latent("z", (config.latent,), truncation="resampled"),),
        output=Output(config.channels, (-1.0, 1.0), (config.size, config.size)),
    )


def guess(shapes: Shapes) -> Config | None:
    """Everything shows in the first and the last weight: main.0 is (latent, 4-pixel width, 4, 4)."""
    keys = (re.fullmatch(r"main\.(0|[1-9][0-9]?)\.weight", key) for key in shapes if len(shapes[key]) == 4)
    numbers = sorted(int(key[1]) for key in keys if key)
    if len(numbers) < 3 or numbers != list(range(0, 3 * len(numbers), 3)):
        return None
    latent = shapes["main.0.weight"][0]
    width, channels = shapes[f"main.{numbers[-1]}.weight"][:2]
    try:
        return Config(2 ** (len(numbers) + 1), channels, latent, width)
    except RequestError:
        return None


FAMILY = Family("dcgan", Config, Generator, spec, (Layout("pytorch/examples", guess),), Discriminator)
