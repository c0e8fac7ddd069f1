"""VDSR (Kim et al., "Accurate Image Super-Resolution Using Very Deep Convolutional Networks", CVPR 2016): the
residual of bicubic upsampling.

Keys are those of twtygqyy/pytorch-vdsr as it is now; its earlier ones (`features.N`) load as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ganrt.errors import RequestError
from ganrt.models import upscaling
from ganrt.models.family import Family, Layout, Shapes, State, check_bounds
from ganrt.spec import Spec

_CUBIC = 2
"""Taps of the bicubic kernel on either side of the nearest pixel."""


@dataclass(frozen=True)
class Config:
    """Settings of `vdsr`. The defaults are those of the paper."""

    scale: int = 1
    """Factor of bicubic upsampling inside the network, 1 to 8. 1 is the published network, whose input has been
    upsampled already. A checkpoint does not contain it."""
    width: int = 64
    """Channels, 1 to 1024."""
    convs: int = 20
    """Number of convolutions, 2 to 64."""
    bias: bool = False
    """Whether the convolutions have biases; pytorch-vdsr's have none."""

    def __post_init__(self) -> None:
        check_bounds(scale=(self.scale, 1, 8), width=(self.width, 1, 1024), convs=(self.convs, 2, 64))


class Block(nn.Module):
    """3 x 3 convolution and ReLU."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.conv = nn.Conv2d(config.width, config.width, 3, padding=1, bias=config.bias)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module to (N, C, H, W)."""
        return self.relu(self.conv(x))  # type: ignore[no-any-return]


class Bicubic(nn.Module):
    """Bicubic upsampling, (N, 1, H, W) -> (N, 1, scale H, scale W), with replicated borders.

    Keys's cubic convolution with a = -0.5, as in MATLAB and Pillow; torch's own has -0.75. One convolution per phase,
    which every backend computes alike.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        offsets = (torch.arange(scale) + 0.5) / scale - 0.5
        taps = cubic_kernel(torch.arange(-_CUBIC, _CUBIC + 1)[None] - offsets[:, None])
        kernels = taps[:, None, :, None] * taps[None, :, None, :]
        self.register_buffer("kernels", kernels.flatten(0, 1)[:, None], persistent=False)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module to (N, C, H, W)."""
        padded = functional.pad(x, (_CUBIC,) * 4, mode="replicate")
        return self.shuffle(functional.conv2d(padded, self.kernels))  # type: ignore[no-any-return, arg-type]


def cubic_kernel(x: Tensor) -> Tensor:
    """Weights of taps at distances x (Keys, "Cubic convolution interpolation for digital image processing", 1981,
    equation 15)."""
    x = x.abs()
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


class Generator(nn.Module):
    """Y of YCbCr (N, 1, H, W) in [0, 1] -> (N, 1, scale H, scale W) in about [0, 1]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.upsample = Bicubic(config.scale) if config.scale > 1 else nn.Identity()
        self.input = nn.Conv2d(1, config.width, 3, padding=1, bias=config.bias)
        self.relu = nn.ReLU()
        self.residual_layer = nn.Sequential(*(Block(config) for _ in range(config.convs - 2)))
        self.output = nn.Conv2d(config.width, 1, 3, padding=1, bias=config.bias)
        for part in self.modules():  # by the channels that come out, as the project does
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out")

    def forward(self, luma: Tensor) -> Tensor:
        """Upsample luma (N, 1, H, W)."""
        base = self.upsample(luma)
        x = self.residual_layer(self.relu(self.input(base)))
        return base + self.output(x)  # type: ignore[no-any-return]


def build_spec(config: Config) -> Spec:
    """Luma in, upsampled luma out, both in [0, 1]."""
    cubic_radius = _CUBIC if config.scale > 1 else 0
    radius = upscaling.receptive_field_radius([(config.convs, config.scale), (cubic_radius, 1)])
    return upscaling.build_luma_spec("vdsr", config.scale, radius)


def guess_config(shapes: Shapes) -> Config | None:
    """Infer everything but the scale from the first weight and the number of layers."""
    first = upscaling.conv_shape(shapes, "input.weight")
    layers = upscaling.count_layers(shapes, r"residual_layer\.([0-9]{1,3})\.conv\.weight")
    return None if first is None or first[1] != 1 else _infer_config(first[0], layers + 2, "input.bias" in shapes)


def guess_features(shapes: Shapes) -> Config | None:
    """Infer everything but the scale from the keys of earlier versions, `features.N`."""
    first = upscaling.conv_shape(shapes, "features.0.weight")
    last = upscaling.count_layers(shapes, r"features\.([0-9]{1,3})\.weight")
    return (
        None
        if first is None or first[1] != 1
        else _infer_config(first[0], (last + 1) // 2, "features.0.bias" in shapes)
    )


def _infer_config(width: int, convs: int, bias: bool) -> Config | None:
    try:
        return Config(1, width, convs, bias)
    except RequestError:
        return None


def convert_features(state: State, config: Config) -> State:
    """Rename features.0, 2, ... 2 (convs - 1) to input, residual_layer.N.conv, output."""
    names = ["input", *(f"residual_layer.{k}.conv" for k in range(config.convs - 2)), "output"]
    leaves = ("weight", "bias") if config.bias else ("weight",)
    return {f"{name}.{leaf}": state[f"features.{2 * k}.{leaf}"] for k, name in enumerate(names) for leaf in leaves}


FAMILY = Family(
    "vdsr",
    Config,
    Generator,
    build_spec,
    (Layout("pytorch-vdsr", guess_config), Layout("pytorch-vdsr with features", guess_features, convert_features)),
    task="super-resolution",
)
