"""AnimeGAN's generator, version 2 (Chen et al., "AnimeGAN", 2019; bryandlee/animegan2-pytorch): inverted residual
blocks, a norm over all channels of a picture, bilinear upsampling. Keys are those of animegan2-pytorch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from ganrt.models.family import Family, Layout, Shapes
from ganrt.spec import Image, Output, Spec

_RANGE = (-1.0, 1.0)
_SLOPE = 0.2
_EXPANSION = 2
_SYMMETRIC, _RIGHT = (1, 1, 1, 1), (0, 1, 0, 1)
"""Padding of a convolution, and of one that halves the image."""


@dataclass(frozen=True)
class Config:
    """Settings of `animegan`; the network has one size."""

    align_corners: bool = True
    """How the image is upsampled. Weights do not tell: the project's class takes True by default, and its `test.py`
    False."""


class Convolution(nn.Sequential):
    """Reflection padding, a convolution, a norm and an activation; keys are its places.

    Args:
        padding: left, right, top, bottom.
    """

    def __init__(
        self,
        before: int,
        after: int,
        kernel: int = 3,
        stride: int = 1,
        padding: tuple[int, int, int, int] = _SYMMETRIC,
        groups: int = 1,
    ) -> None:
        super().__init__(
            nn.ReflectionPad2d(padding) if any(padding) else nn.Identity(),
            nn.Conv2d(before, after, kernel, stride, groups=groups, bias=groups > 1),
            nn.GroupNorm(1, after),
            nn.LeakyReLU(_SLOPE),
        )


class InvertedResidual(nn.Module):
    """Widen, filter each channel by itself, narrow; the input is added where it has as many channels."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.is_residual = before == after
        inner = _EXPANSION * before
        self.layers = nn.Sequential(
            Convolution(before, inner, kernel=1, padding=(0, 0, 0, 0)),
            Convolution(inner, inner, groups=inner),
            nn.Conv2d(inner, after, 1, bias=False),
            nn.GroupNorm(1, after),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module to (N, C, H, W)."""
        made = self.layers(x)
        return x + made if self.is_residual else made  # type: ignore[no-any-return]


class Generator(nn.Module):
    """(N, 3, H, W) in [-1, 1] -> the same shape in [-1, 1]; H and W multiples of 4 unless corners are aligned."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.align_corners = config.align_corners
        self.block_a = nn.Sequential(
            Convolution(3, 32, kernel=7, padding=(3, 3, 3, 3)),
            Convolution(32, 64, stride=2, padding=_RIGHT),
            Convolution(64, 64),
        )
        self.block_b = nn.Sequential(Convolution(64, 128, stride=2, padding=_RIGHT), Convolution(128, 128))
        self.block_c = nn.Sequential(
            Convolution(128, 128),
            InvertedResidual(128, 256),
            *(InvertedResidual(256, 256) for _ in range(3)),
            Convolution(256, 128),
        )
        self.block_d = nn.Sequential(Convolution(128, 128), Convolution(128, 128))
        self.block_e = nn.Sequential(
            Convolution(128, 64), Convolution(64, 64), Convolution(64, 32, kernel=7, padding=(3, 3, 3, 3))
        )
        self.out_layer = nn.Sequential(nn.Conv2d(32, 3, 1, bias=False), nn.Tanh())

    def forward(self, image: Tensor) -> Tensor:
        """Stylize images."""
        half = self.block_a(image)
        x = self.block_c(self.block_b(half))
        x = self.block_d(self._upsample(x, half))
        return self.out_layer(self.block_e(self._upsample(x, image)))  # type: ignore[no-any-return]

    def _upsample(self, x: Tensor, like: Tensor) -> Tensor:
        """Bilinear; with aligned corners to the size of `like`, else by 2."""
        if self.align_corners:
            return functional.interpolate(x, like.shape[2:], mode="bilinear", align_corners=True)
        return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def build_spec(config: Config) -> Spec:
    """An RGB image in, a stylized one out, both in [-1, 1]."""
    picture = Image("image", "content", 3, _RANGE, multiple_of=1 if config.align_corners else 4)
    return Spec("animegan", (picture,), Output(3, _RANGE, None, name="styled"))


def guess_config(shapes: Shapes) -> Config | None:
    """The default config if this looks like the network."""
    return Config() if "block_c.1.layers.0.1.weight" in shapes and "out_layer.0.weight" in shapes else None


FAMILY = Family("animegan", Config, Generator, build_spec, (Layout("animegan2-pytorch", guess_config),))
