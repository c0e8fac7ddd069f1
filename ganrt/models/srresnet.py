"""SRResNet, the generator of SRGAN (Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative
Adversarial Network", CVPR 2017).

Images are in [0, 1] on both sides. Keys are those of Lornatang/SRGAN-PyTorch; its earlier ones load as well. That
project clamps the output in the network. Here it is clamped when it is converted to uint8, so that gradients flow in
training.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import Tensor, nn

from ganrt.errors import RequestError
from ganrt.models import upscaling
from ganrt.models.family import Family, Layout, Shapes, State, check_bounds, check_channels
from ganrt.spec import Spec


@dataclass(frozen=True)
class Config:
    """Settings of `srresnet`. The defaults are those of the paper."""

    scale: int = 4
    """Factor of height and width: 2 or 4."""
    channels: int = 3
    """1 (grey) or 3 (RGB)."""
    width: int = 64
    """Channels, 1 to 1024."""
    blocks: int = 16
    """Residual blocks, 1 to 128."""

    def __post_init__(self) -> None:
        check_channels(self.channels)
        check_bounds(width=(self.width, 1, 1024), blocks=(self.blocks, 1, 128))
        upscaling.check_scale("srresnet", self.scale, (2, 4))

    @property
    def upsamplings(self) -> int:
        """Number of pixel shuffles, each by 2."""
        return self.scale // 2


class Block(nn.Module):
    """Residual block: convolution, batch norm, PReLU, convolution, batch norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.rcb = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.PReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to features (N, width, H, W)."""
        return x + self.rcb(x)  # type: ignore[no-any-return]


class Upsampler(nn.Module):
    """Upsample by 2: convolution, pixel shuffle, PReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.upsample_block = nn.Sequential(nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2), nn.PReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to features (N, width, H, W)."""
        return self.upsample_block(x)  # type: ignore[no-any-return]


class Generator(nn.Module):
    """(N, channels, H, W) in [0, 1] -> (N, channels, scale H, scale W) in about [0, 1]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.width
        self.conv1 = nn.Sequential(nn.Conv2d(config.channels, width, 9, padding=4), nn.PReLU())
        self.trunk = nn.Sequential(*(Block(width) for _ in range(config.blocks)))
        self.conv2 = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.upsampling = nn.Sequential(*(Upsampler(width) for _ in range(config.upsamplings)))
        self.conv3 = nn.Conv2d(width, config.channels, 9, padding=4)
        upscaling.init_kaiming(self)

    def forward(self, low_res: Tensor) -> Tensor:
        """Upsample images (N, channels, H, W)."""
        shallow = self.conv1(low_res)
        x = shallow + self.conv2(self.trunk(shallow))
        return self.conv3(self.upsampling(x))  # type: ignore[no-any-return]


def build_spec(config: Config) -> Spec:
    """A low-resolution image in, an upsampled one out, both in [0, 1]."""
    low = 4 + 2 * config.blocks + 1
    stages = [(4, 2), (1, 2), (low + 1, 1)] if config.scale == 4 else [(4, 2), (low + 1, 1)]
    return upscaling.build_spec("srresnet", config.channels, config.scale, upscaling.receptive_field_radius(stages))


def guess_config(shapes: Shapes) -> Config | None:
    """Infer everything: conv1.0 is (width, channels, 9, 9), and each upsampling by 2 has a block."""
    return _infer_config(shapes, "conv1.0.weight")


def guess_older(shapes: Shapes) -> Config | None:
    """The same for the keys of 2022, `conv_block1`."""
    return _infer_config(shapes, "conv_block1.0.weight")


def _infer_config(shapes: Shapes, key: str) -> Config | None:
    first = upscaling.conv_shape(shapes, key)
    blocks = upscaling.count_layers(shapes, r"trunk\.([0-9]{1,3})\.rcb\.0\.weight")
    upsamplings = upscaling.count_layers(shapes, r"upsampling\.([0-9]{1,3})\.upsample_block\.0\.weight")
    try:
        return None if first is None else Config(2 * upsamplings, first[1], first[0], blocks)
    except RequestError:
        return None


def convert_older(state: State, config: Config) -> State:
    """Rename conv_block1, 2, 3 to conv1, 2, 3."""
    return {re.sub(r"^conv_block([123])\.", r"conv\1.", key): value for key, value in state.items()}


FAMILY = Family(
    "srresnet",
    Config,
    Generator,
    build_spec,
    (Layout("SRGAN-PyTorch", guess_config), Layout("SRGAN-PyTorch of 2022", guess_older, convert_older)),
    task="super-resolution",
)
