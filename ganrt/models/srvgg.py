"""SRVGGNetCompact, the small network of Real-ESRGAN (Wang et al., "Real-ESRGAN", ICCV workshops 2021): all convolutions
at low resolution, on top of nearest-neighbour upsampling. Keys are those of BasicSR."""

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
    """Settings of `srvgg`. The defaults are those of the small published network."""

    scale: int = 4
    """Factor of height and width, 1 to 8."""
    channels: int = 3
    """1 (grey) or 3 (RGB)."""
    width: int = 64
    """Channels, 1 to 1024."""
    convs: int = 16
    """Convolutions between the first and the last, 0 to 128; the published networks have 16 and 32."""
    outscale: int = 0
    """Factor of height and width after the result is made smaller by bicubic interpolation, as Real-ESRGAN's files for
    ncnn do for 2x and 3x with the weights of 4x: 1 to `scale` - 1. 0 leaves the result as it is."""

    def __post_init__(self) -> None:
        check_channels(self.channels)
        check_bounds(outscale=(self.outscale, 0, self.scale - 1))
        check_bounds(scale=(self.scale, 1, 8), width=(self.width, 1, 1024), convs=(self.convs, 0, 128))


class Generator(nn.Module):
    """(N, channels, H, W) in [0, 1] -> (N, channels, scale H, scale W) in about [0, 1]; `outscale` for `scale` if it is
    given."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.scale, self.outscale = config.scale, config.outscale
        layers: list[nn.Module] = []
        before = config.channels
        for _ in range(config.convs + 1):
            layers += [nn.Conv2d(before, config.width, 3, padding=1), nn.PReLU(config.width)]
            before = config.width
        self.body = nn.Sequential(*layers, nn.Conv2d(before, config.channels * config.scale**2, 3, padding=1))
        self.shuffle = nn.PixelShuffle(config.scale)

    def forward(self, low_res: Tensor) -> Tensor:
        """Upsample images (N, channels, H, W)."""
        base = functional.interpolate(low_res, scale_factor=self.scale, mode="nearest")
        made: Tensor = base + self.shuffle(self.body(low_res))
        if self.outscale:
            made = functional.interpolate(made, scale_factor=self.outscale / self.scale, mode="bicubic")
        return made


def build_spec(config: Config) -> Spec:
    """A low-resolution image in, an upsampled one out, both in [0, 1]."""
    radius = upscaling.receptive_field_radius([(0, config.scale), (config.convs + 2, 1)])
    if config.outscale:
        radius += 1  # bicubic interpolation reads two pixels farther, of at least two that a pixel became
    return upscaling.build_spec("srvgg", config.channels, config.outscale or config.scale, radius)


def guess_config(shapes: Shapes) -> Config | None:
    """Infer everything: body.0 is (width, channels, 3, 3), a PReLU follows each convolution but the last, and the last
    has channels * scale^2 rows."""
    first = upscaling.conv_shape(shapes, "body.0.weight")
    last = upscaling.count_layers(shapes, r"body\.([0-9]{1,3})\.weight") - 1
    if first is None or first[1] == 0 or last < 2 or len(shapes.get("body.1.weight", ())) != 1:
        return None
    rows = upscaling.conv_shape(shapes, f"body.{last}.weight") or (0, 0)
    try:
        return Config(math.isqrt(rows[0] // first[1]), first[1], first[0], last // 2 - 1)
    except RequestError:
        return None


FAMILY = Family("srvgg", Config, Generator, build_spec, (Layout("BasicSR", guess_config),), task="super-resolution")
