"""RRDBNet, the generator of ESRGAN and Real-ESRGAN (Wang et al., "ESRGAN: Enhanced Super-Resolution Generative
Adversarial Networks", ECCV workshops 2018).

Keys are those of BasicSR; both earlier generations of ESRGAN's own load as well. The network always upsamples by 4; for
scales 2 and 1 the input is first pixel-unshuffled, as in Real-ESRGAN.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ganrt.errors import RequestError
from ganrt.models import upscaling
from ganrt.models.family import Family, Layout, Shapes, State, check_bounds, check_channels
from ganrt.spec import Spec

_SHARE = 0.2
"""Factor of each residual before it is added."""


@dataclass(frozen=True)
class Config:
    """Settings of `rrdb`. The defaults are those of ESRGAN."""

    scale: int = 4
    """Factor of height and width: 1, 2 or 4."""
    channels: int = 3
    """1 (grey) or 3 (RGB)."""
    width: int = 64
    """Channels between blocks, 1 to 1024."""
    blocks: int = 23
    """Residual-in-residual dense blocks, 1 to 64; Real-ESRGAN's anime network has 6."""
    growth: int = 32
    """Channels that each dense layer adds, 1 to 1024."""

    def __post_init__(self) -> None:
        check_channels(self.channels)
        check_bounds(width=(self.width, 1, 1024), blocks=(self.blocks, 1, 64), growth=(self.growth, 1, 1024))
        upscaling.check_scale("rrdb", self.scale, (1, 2, 4))

    @property
    def fold(self) -> int:
        """Factor of the pixel unshuffle at the input."""
        return 4 // self.scale


class Dense(nn.Module):
    """Dense block: five convolutions, each with the outputs of all earlier ones as input."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, growth, 3, padding=1)
        self.conv2 = nn.Conv2d(width + growth, growth, 3, padding=1)
        self.conv3 = nn.Conv2d(width + 2 * growth, growth, 3, padding=1)
        self.conv4 = nn.Conv2d(width + 3 * growth, growth, 3, padding=1)
        self.conv5 = nn.Conv2d(width + 4 * growth, width, 3, padding=1)
        self.lrelu = nn.LeakyReLU(0.2)
        upscaling.init_kaiming(self, 0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to features (N, width, H, W)."""
        seen = [x]
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen.append(self.lrelu(conv(torch.cat(seen, 1))))
        return x + _SHARE * self.conv5(torch.cat(seen, 1))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Residual-in-residual dense block: three dense blocks in a residual."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = Dense(width, growth)
        self.rdb2 = Dense(width, growth)
        self.rdb3 = Dense(width, growth)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to features (N, width, H, W)."""
        return x + _SHARE * self.rdb3(self.rdb2(self.rdb1(x)))  # type: ignore[no-any-return]


class Generator(nn.Module):
    """(N, channels, H, W) in [0, 1] -> (N, channels, scale H, scale W) in about [0, 1]; H and W are multiples of
    4 / scale."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, self.fold = config.width, config.fold
        self.conv_first = nn.Conv2d(config.channels * self.fold**2, width, 3, padding=1)
        self.body = nn.Sequential(*(Block(width, config.growth) for _ in range(config.blocks)))
        self.conv_body = nn.Conv2d(width, width, 3, padding=1)
        self.conv_up1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_up2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_hr = nn.Conv2d(width, width, 3, padding=1)
        self.conv_last = nn.Conv2d(width, config.channels, 3, padding=1)
        self.lrelu = nn.LeakyReLU(0.2)

    def forward(self, low_res: Tensor) -> Tensor:
        """Upsample images (N, channels, H, W)."""
        x = self.conv_first(pixel_unshuffle(low_res, self.fold))
        x = x + self.conv_body(self.body(x))
        x = self.lrelu(self.conv_up1(functional.interpolate(x, scale_factor=2, mode="nearest")))
        x = self.lrelu(self.conv_up2(functional.interpolate(x, scale_factor=2, mode="nearest")))
        return self.conv_last(self.lrelu(self.conv_hr(x)))  # type: ignore[no-any-return]


def pixel_unshuffle(x: Tensor, side: int) -> Tensor:
    """(N, C, side H, side W) -> (N, C side^2, H, W), as nn.PixelUnshuffle.

    Written out, because ONNX's SpaceToDepth, to which nn.PixelUnshuffle is exported, orders the channels differently
    (microsoft/onnxscript issue 2891).
    """
    if side == 1:
        return x
    count, channels, height, width = x.shape
    squares = x.view(count, channels, height // side, side, width // side, side)
    return squares.permute(0, 1, 3, 5, 2, 4).reshape(count, channels * side**2, height // side, width // side)


def build_spec(config: Config) -> Spec:
    """A low-resolution image in, an upsampled one out, both in [0, 1]."""
    low = 1 + 15 * config.blocks + 1
    radius = upscaling.receptive_field_radius([(3, 2), (1, 2), (low, 1)], config.fold)
    return upscaling.build_spec("rrdb", config.channels, config.scale, radius, config.fold)


_ENDS = ("conv_first", "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last")
_TRUNK_ENDS = ("conv_first", "trunk_conv", "upconv1", "upconv2", "HRconv", "conv_last")


def guess_config(shapes: Shapes) -> Config | None:
    """Infer everything: conv_first is (width, channels (4 / scale)^2, 3, 3), the first dense layer has `growth` rows,
    conv_last one row per channel."""
    return _infer_config(shapes, "conv_first", r"body\.([0-9]{1,3})\.rdb", "body.0.rdb1.conv1", "conv_last")


def guess_trunk(shapes: Shapes) -> Config | None:
    """The same for ESRGAN's second generation of keys, with RRDB_trunk."""
    return _infer_config(shapes, "conv_first", r"RRDB_trunk\.([0-9]{1,3})\.RDB", "RRDB_trunk.0.RDB1.conv1", "conv_last")


def guess_model(shapes: Shapes) -> Config | None:
    """The same for ESRGAN's first generation of keys, with numbers for names."""
    return _infer_config(
        shapes, "model.0", r"model\.1\.sub\.([0-9]{1,3})\.RDB", "model.1.sub.0.RDB1.conv1.0", "model.10"
    )


def _infer_config(shapes: Shapes, first: str, block: str, dense: str, last: str) -> Config | None:
    head, growth = upscaling.conv_shape(shapes, f"{first}.weight"), upscaling.conv_shape(shapes, f"{dense}.weight")
    blocks = upscaling.count_layers(shapes, block + r"[123]\.conv[1-5](?:\.0)?\.weight")
    if head is None or growth is None:
        return None
    channels = (upscaling.conv_shape(shapes, f"{last}.weight") or (3, 0))[0]
    scales = {channels * (4 // scale) ** 2: scale for scale in (1, 2, 4)}
    try:
        return Config(scales.get(head[1], 4), channels, head[0], blocks, growth[0])
    except RequestError:
        return None


def convert_trunk(state: State, config: Config) -> State:
    """Rename the second generation's keys to BasicSR's."""
    names = dict(zip(_TRUNK_ENDS, _ENDS, strict=True))
    dense = r"RRDB_trunk\.(\d+)\.RDB([123])\.(conv\d)\.(\w+)"
    return {_rename_key(key, names, dense): tensor for key, tensor in state.items()}


def convert_model(state: State, config: Config) -> State:
    """Rename the first generation's keys to BasicSR's."""
    numbers = ("model.0", f"model.1.sub.{config.blocks}", "model.3", "model.6", "model.8", "model.10")
    names = dict(zip(numbers, _ENDS, strict=True))
    dense = r"model\.1\.sub\.(\d+)\.RDB([123])\.(conv\d)\.0\.(\w+)"
    return {_rename_key(key, names, dense): tensor for key, tensor in state.items()}


def _rename_key(key: str, ends: dict[str, str], dense: str) -> str:
    """Rename a key of a layer of `ends`, or of a dense layer: `dense` has the groups block, number, conv and leaf."""
    if match := re.fullmatch(dense, key):
        return f"body.{match[1]}.rdb{match[2]}.{match[3]}.{match[4]}"
    layer, _, leaf = key.rpartition(".")
    return f"{ends.get(layer, layer)}.{leaf}"


FAMILY = Family(
    "rrdb",
    Config,
    Generator,
    build_spec,
    (
        Layout("BasicSR", guess_config),
        Layout("ESRGAN with RRDB_trunk", guess_trunk, convert_trunk),
        Layout("ESRGAN of 2018", guess_model, convert_model),
    ),
    task="super-resolution",
)
