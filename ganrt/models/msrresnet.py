"""MSRResNet of BasicSR: SRResNet without batch norm, as in EDSR (Lim et al., "Enhanced Deep Residual Networks for
Single Image Super-Resolution", CVPR workshops 2017), on top of bilinear upsampling. Keys are BasicSR's."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from ganrt.errors import RequestError
from ganrt.models import upscaling
from ganrt.models.family import Family, Layout, Shapes, check_bounds, check_channels
from ganrt.spec import Spec


@dataclass(frozen=True)
class Config:
    """Settings of `msrresnet`. The defaults are those of BasicSR."""

    scale: int = 4
    """Factor of height and width: 2, 3 or 4."""
    channels: int = 3
    """1 (grey) or 3 (RGB)."""
    width: int = 64
    """Channels, 1 to 1024."""
    blocks: int = 16
    """Residual blocks, 1 to 128."""

    def __post_init__(self) -> None:
        check_channels(self.channels)
        check_bounds(width=(self.width, 1, 1024), blocks=(self.blocks, 1, 128))
        upscaling.check_scale("msrresnet", self.scale, (2, 3, 4))

    @property
    def steps(self) -> tuple[int, ...]:
        """Factors of the pixel shuffles."""
        return (2, 2) if self.scale == 4 else (self.scale,)


class Block(nn.Module):
    """Two 3 x 3 convolutions with a ReLU between, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to features (N, width, H, W)."""
        return x + self.conv2(self.relu(self.conv1(x)))  # type: ignore[no-any-return]


class Generator(nn.Module):
    """(N, channels, H, W) in [0, 1] -> (N, channels, scale H, scale W) in about [0, 1]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, self.scale = config.width, config.scale
        self.conv_first = nn.Conv2d(config.channels, width, 3, padding=1)
        self.body = nn.Sequential(*(Block(width) for _ in range(config.blocks)))
        self.upconv1 = nn.Conv2d(width, width * config.steps[0] ** 2, 3, padding=1)
        if len(config.steps) == 2:
            self.upconv2 = nn.Conv2d(width, width * config.steps[1] ** 2, 3, padding=1)
        self.conv_hr = nn.Conv2d(width, width, 3, padding=1)
        self.conv_last = nn.Conv2d(width, config.channels, 3, padding=1)
        self.shuffle = nn.PixelShuffle(config.steps[0])
        self.lrelu = nn.LeakyReLU(0.1)
        upscaling.init_kaiming(self, 0.1)

    def forward(self, low_res: Tensor) -> Tensor:
        """Upsample images (N, channels, H, W)."""
        x = self.body(self.lrelu(self.conv_first(low_res)))
        x = self.lrelu(self.shuffle(self.upconv1(x)))
        if self.scale == 4:
            x = self.lrelu(self.shuffle(self.upconv2(x)))
        base = functional.interpolate(low_res, scale_factor=self.scale, mode="bilinear", align_corners=False)
        return base + self.conv_last(self.lrelu(self.conv_hr(x)))  # type: ignore[no-any-return]


def build_spec(config: Config) -> Spec:
    """A low-resolution image in, an upsampled one out, both in [0, 1]."""
    low = 1 + 2 * config.blocks + 1
    stages = [(2, 2), (1, 2), (low, 1)] if config.scale == 4 else [(2, config.scale), (low, 1)]
    return upscaling.build_spec("msrresnet", config.channels, config.scale, upscaling.receptive_field_radius(stages))


def guess_config(shapes: Shapes) -> Config | None:
    """Infer everything: conv_first is (width, channels, 3, 3); upconv1 has scale^2 width rows, or 4 width if there is
    an upconv2."""
    first, upsampling = (
        upscaling.conv_shape(shapes, "conv_first.weight"),
        upscaling.conv_shape(shapes, "upconv1.weight"),
    )
    blocks = upscaling.count_layers(shapes, r"body\.([0-9]{1,3})\.conv1\.weight")
    if first is None or first[0] == 0 or upsampling is None or not blocks:
        return None
    scale = 4 if "upconv2.weight" in shapes else math.isqrt(upsampling[0] // first[0])
    try:
        return Config(scale, first[1], first[0], blocks)
    except RequestError:
        return None


FAMILY = Family("msrresnet", Config, Generator, build_spec, (Layout("BasicSR", guess_config),), task="super-resolution")
