"""ESPCN (Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional
Neural Network", CVPR 2016).

Widths, ReLU where the paper has tanh, and state-dict keys are those of pytorch/examples (super_resolution), so its
weights load unchanged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from ganrt.errors import RequestError
from ganrt.models import upscaling
from ganrt.models.family import Family, Layout, Shapes, check_bounds
from ganrt.spec import Spec


@dataclass(frozen=True)
class Config:
    """Settings of `espcn`. The defaults are those of the paper and of pytorch/examples."""

    scale: int = 3
    """Factor of height and width, 1 to 8."""
    width: int = 64
    """Channels of the first two layers, an even number from 2 to 1024; the third layer has half of them."""

    def __post_init__(self) -> None:
        check_bounds(scale=(self.scale, 1, 8), width=(self.width, 2, 1024))
        if self.width % 2:
            raise RequestError(f"width is {self.width}; espcn needs an even number")


class Generator(nn.Module):
    """Y of YCbCr (N, 1, H, W) in [0, 1] -> (N, 1, scale H, scale W) in about [0, 1]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.width
        self.conv1 = nn.Conv2d(1, width, 5, padding=2)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv3 = nn.Conv2d(width, width // 2, 3, padding=1)
        self.conv4 = nn.Conv2d(width // 2, config.scale**2, 3, padding=1)
        self.relu = nn.ReLU()
        self.shuffle = nn.PixelShuffle(config.scale)
        for layer in (self.conv1, self.conv2, self.conv3):
            nn.init.orthogonal_(layer.weight, math.sqrt(2.0))
        nn.init.orthogonal_(self.conv4.weight)

    def forward(self, luma: Tensor) -> Tensor:
        """Upsample luma (N, 1, H, W)."""
        x = self.relu(self.conv1(luma))
        x = self.relu(self.conv2(x))
        x = self.relu(self.conv3(x))
        return self.shuffle(self.conv4(x))  # type: ignore[no-any-return]


def build_spec(config: Config) -> Spec:
    """Luma in, upsampled luma out, both in [0, 1]."""
    radius = upscaling.receptive_field_radius([(0, config.scale), (2 + 1 + 1 + 1, 1)])
    return upscaling.build_luma_spec("espcn", config.scale, radius)


def guess_config(shapes: Shapes) -> Config | None:
    """Infer width and scale: conv1 is (width, 1, 5, 5), conv4 has scale^2 rows."""
    first, last = upscaling.conv_shape(shapes, "conv1.weight"), upscaling.conv_shape(shapes, "conv4.weight")
    if first is None or first[1] != 1 or last is None:
        return None
    try:
        return Config(math.isqrt(last[0]), first[0])
    except RequestError:
        return None


FAMILY = Family(
    "espcn", Config, Generator, build_spec, (Layout("pytorch/examples", guess_config),), task="super-resolution"
)
