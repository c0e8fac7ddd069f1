"""Style transfer from any picture (Huang, Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance
Normalization", ICCV 2017): content and style go through the same encoder, the content's features get the channel means
and deviations of the style's, and a decoder generates the image.

With mu and sigma per channel, AdaIN(c, s) = sigma(s) (c - mu(c)) / sigma(c) + mu(s): a
rescaled content term plus the style's mean, which is the form y = f(x; W) + g(z; V) at the level of features.

Layers, statistics (unbiased variance plus 1e-5) and state-dict keys are those of pytorch-AdaIN: `vgg.` before the keys
of its vgg_normalised.pth, `decoder.` before those of its decoder.pth.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganrt.errors import CheckpointError, RequestError
from ganrt.models.family import Family, Layout, Shapes, State, check_bounds
from ganrt.spec import Image, Output, Scalar, Spec

RANGE = (0.0, 1.0)
_EPS = 1e-5
_LEVELS = (2, 2, 4, 1)
"""Convolutions at full, half, quarter and eighth size, up to relu4_1."""
LEVEL_ENDS = {"relu1_1": 4, "relu2_1": 11, "relu3_1": 18, "relu4_1": 31}
"""Layer in which styles are compared -> index in the encoder after which it ends."""
_LAST = 29
"""Number of the encoder's last convolution in vgg_normalised.pth, which goes on to relu5_4."""


@dataclass(frozen=True)
class Config:
    """Settings of `adain`. The default is the width of VGG-19."""

    width: int = 64
    """Channels at full size, 1 to 512; they double each time the size is halved."""

    def __post_init__(self) -> None:
        check_bounds(width=(self.width, 1, 512))


class Generator(nn.Module):
    """content (N, 3, H, W), style (N, 3, h, w) in [0, 1], strength (N,) -> (N, 3, H, W) about [0, 1], not clamped.

    H and W are multiples of 8. Strength 0 keeps the content's style, 1 takes the style's.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.vgg = _build_encoder(config.width)
        self.decoder = _build_decoder(config.width)

    def forward(self, content: Tensor, style: Tensor, strength: Tensor) -> Tensor:
        """Stylize the content."""
        wanted = self.vgg(content)
        share = strength[:, None, None, None]
        return self.decoder(share * adain(wanted, self.vgg(style)) + (1 - share) * wanted)  # type: ignore[no-any-return]


def adain(content: Tensor, style: Tensor) -> Tensor:
    """Give features (N, C, H, W) the channel means and deviations of others (N, C, h, w) (equation 8)."""
    mean, deviation = channel_statistics(content)
    wanted_mean, wanted_deviation = channel_statistics(style)
    return wanted_deviation * ((content - mean) / deviation) + wanted_mean


def channel_statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of (N, C, H, W): (N, C, 1, 1) each.

    Written with sums, because exporters turn a variance over a dynamic number of pixels into longer graphs.
    """
    count = features.shape[2] * features.shape[3]
    mean = features.mean((2, 3), keepdim=True)
    variance = (features - mean).square().sum((2, 3), keepdim=True) / (count - 1)
    return mean, torch.sqrt(variance + _EPS)


def _build_encoder(width: int) -> nn.Sequential:
    """VGG-19 up to relu4_1, after a 1x1 convolution that normalises RGB."""
    layers: list[nn.Module] = [nn.Conv2d(3, 3, 1)]
    before = 3
    for level, count in enumerate(_LEVELS):
        if level:
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        for _ in range(count):
            layers += _build_convolution(before, width << level)
            before = width << level
    return nn.Sequential(*layers)


def build_random_encoder(config: Config, seed: int = 0) -> nn.Sequential:
    """An encoder with random weights (He et al. 2015) that depend on the seed only, for use without a checkpoint."""
    numbers = torch.Generator().manual_seed(seed)
    encoder = _build_encoder(config.width)
    encoder.eval().requires_grad_(False)
    first, *others = (layer for layer in encoder if isinstance(layer, nn.Conv2d))
    first.weight[:, :, 0, 0] = 4 * torch.eye(3)  # RGB about its mean, in units of its deviation
    nn.init.constant_(first.bias, -2.0)  # type: ignore[arg-type]
    for layer in others:
        layer.weight.normal_(0.0, math.sqrt(2.0 / layer.weight[0].numel()), generator=numbers)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return encoder


def _build_decoder(width: int) -> nn.Sequential:
    """The encoder's mirror image, without the 1x1 convolution and the last activation."""
    layers: list[nn.Module] = []
    for level in range(len(_LEVELS) - 1, -1, -1):
        here, after = width << level, (width << level) // 2 if level else 3
        for left in range(_LEVELS[level] - 1, -1, -1):
            layers += _build_convolution(here, here if left else after)
        if level:
            layers.append(nn.Upsample(scale_factor=2.0, mode="nearest"))
    return nn.Sequential(*layers[:-1])


def _build_convolution(before: int, after: int) -> list[nn.Module]:
    return [nn.ReflectionPad2d(1), nn.Conv2d(before, after, 3), nn.ReLU()]


def build_spec(config: Config) -> Spec:
    """Content and style in [0, 1] and a strength in, the stylized image out."""
    return Spec(
        family="adain",
        inputs=(
            Image("content", "content", 3, RANGE, multiple_of=8),
            Image("style", "style", 3, RANGE),
            Scalar("strength", (0.0, 1.0), 1.0),
        ),
        output=Output(3, RANGE, None),
    )


def guess_config(shapes: Shapes) -> Config | None:
    """Infer the width from the encoder of a checkpoint that holds both parts."""
    return _infer_config(shapes, "vgg.2.weight") if _has_kernel(shapes, "decoder.28.weight") else None


def convert_state(state: State, config: Config) -> State:
    """Drop the layers of vgg_normalised.pth after relu4_1, which AdaIN does not use."""
    numbers = {key: re.match(r"vgg\.([0-9]+)\.", key) for key in state}
    return {key: state[key] for key, number in numbers.items() if number is None or int(number[1]) <= _LAST}


def _infer_config(shapes: Shapes, second: str) -> Config | None:
    """From the second convolution of the encoder, whose rows are the width."""
    try:
        return Config(shapes[second][0]) if _has_kernel(shapes, second) else None
    except RequestError:
        return None


def _has_kernel(shapes: Shapes, key: str) -> bool:
    return len(shapes.get(key, ())) == 4


def _guess_encoder(shapes: Shapes) -> Config | None:
    encoder = all(_has_kernel(shapes, key) for key in ("0.weight", "2.weight", "5.weight", "29.weight"))
    return _infer_config(shapes, "2.weight") if encoder and shapes["0.weight"] == (3, 3, 1, 1) else None


def _guess_decoder(shapes: Shapes) -> Config | None:
    decoder = all(_has_kernel(shapes, key) for key in ("1.weight", "5.weight", "14.weight", "25.weight", "28.weight"))
    return _infer_config(shapes, "25.weight") if decoder and shapes["28.weight"][0] == 3 else None


def _reject_encoder(state: State, config: Config) -> State:
    raise CheckpointError(
        "this is the encoder of AdaIN by itself; name its decoder too, as in --config decoder=decoder.pth"
    )


def _reject_decoder(state: State, config: Config) -> State:
    raise CheckpointError(
        "this is the decoder of AdaIN by itself; name its encoder too, as in --config encoder=vgg_normalised.pth"
    )


FAMILY = Family(
    "adain",
    Config,
    Generator,
    build_spec,
    (
        Layout("pytorch-AdaIN", guess_config, convert_state),
        Layout("pytorch-AdaIN, encoder alone", _guess_encoder, _reject_encoder),
        Layout("pytorch-AdaIN, decoder alone", _guess_decoder, _reject_decoder),
    ),
    task="any-style",
    files={"encoder": "vgg.", "decoder": "decoder."},
)
