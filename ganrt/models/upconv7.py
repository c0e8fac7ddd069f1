"""waifu2x's small networks (nagadomi/nunif): UpConv7, seven convolutions of which the last, transposed one doubles
height and width, and VGG7, seven that keep them. Keys are those of nunif.

No convolution pads. The module adds the border that they use up, by repeating the outermost pixels, as waifu2x's
callers do (nunif, simple_render): the output is then `scale` times the input, which is what a Spec can say. Far enough
from the border of a picture, its pixels are those that the network makes without one, because no layer looks at the
whole picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from ganrt.errors import RequestError
from ganrt.models import upscaling
from ganrt.models.family import Family, Layout, Shapes, State, check_channels
from ganrt.models.unpickle import HEADER
from ganrt.spec import Spec

_WIDTHS = {1: (32, 32, 64, 64, 128, 128), 2: (16, 32, 64, 128, 128, 256)}
"""Scale -> channels between the convolutions."""
_BORDER = 7
"""Pixels of the input that the convolutions use up on each side: one for each. It is the receptive-field radius: output
pixels of the 4x4 convolution of stride 2 reach one pixel farther to one side, left or right by turns."""


@dataclass(frozen=True)
class Config:
    """Settings of `upconv7`."""

    scale: int = 2
    """Factor of height and width: 2 (UpConv7) or 1 (VGG7)."""
    channels: int = 3
    """1 (grey) or 3 (RGB)."""

    def __post_init__(self) -> None:
        check_channels(self.channels)
        upscaling.check_scale("upconv7", self.scale, (1, 2))


class Generator(nn.Module):
    """(N, channels, H, W) in [0, 1] -> (N, channels, scale H, scale W) in [0, 1]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise((config.channels, *_WIDTHS[config.scale])):
            layers += [nn.Conv2d(before, after, 3), nn.LeakyReLU(0.1)]
        channels = config.channels
        last = nn.ConvTranspose2d(256, channels, 4, 2, 3) if config.scale == 2 else nn.Conv2d(128, channels, 3)
        self.net = nn.Sequential(*layers, last)
        upscaling.init_kaiming(self)

    def forward(self, low_res: Tensor) -> Tensor:
        """Upsample images (N, channels, H, W)."""
        made: Tensor = self.net(functional.pad(low_res, (_BORDER,) * 4, "replicate"))
        return made.clamp(0.0, 1.0)


def build_spec(config: Config) -> Spec:
    """A low-resolution image in, an upsampled one out, both in [0, 1]."""
    return upscaling.build_spec("upconv7", config.channels, config.scale, _BORDER)


def guess_config(shapes: Shapes) -> Config | None:
    """Infer everything: net.0 is (16 or 32, channels, 3, 3)."""
    first = upscaling.conv_shape(shapes, "net.0.weight") or (0, 0)
    scales = {widths[0]: scale for scale, widths in _WIDTHS.items()}
    try:
        return Config(scales[first[0]], first[1]) if first[0] in scales else None
    except RequestError:
        return None


def drop_header(state: State, config: Config) -> State:
    """Drop what the header of nunif's files says: the shapes tell it, too."""
    return {key: value for key, value in state.items() if not key.startswith(HEADER)}


FAMILY = Family("upconv7", Config, Generator, build_spec, (Layout("waifu2x of nunif", guess_config, drop_header),))
