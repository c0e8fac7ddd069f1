"""What the super-resolution families share: their Spec, how far they look, initialisation, reading key patterns.

Their activations are not in place: torch.export takes twice as long to see through those that are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

from ganrt.errors import RequestError
from ganrt.models.family import Shapes
from ganrt.spec import Image, Output, Spec

_RANGE = (0.0, 1.0)


def build_spec(family: str, channels: int, scale: int, reach: int, multiple_of: int = 1) -> Spec:
    """A low-resolution picture in, one `scale` times as large out, both in [0, 1]."""
    picture = Image("low_res", "low_res", channels, _RANGE, multiple_of=multiple_of)
    return Spec(family, (picture,), Output(channels, _RANGE, None, scale, reach=reach))


def build_luma_spec(family: str, scale: int, reach: int) -> Spec:
    """The same for nets that see the Y of YCbCr alone; the colour is enlarged outside."""
    return Spec(family, (Image("luma", "luma", 1, _RANGE),), Output(1, _RANGE, None, scale, reach=reach))


def receptive_field_radius(stages: Sequence[tuple[int, int]], unshuffle: int = 1) -> int:
    """How many input pixels away something can still change an output pixel.

    Args:
        stages: from the output back to the input: (sum of the radii of the convolutions at this resolution, factor by
            which the layer before them enlarged, 1 for the stage at low resolution). Nearest-neighbour and pixel
            shuffle are alike: output pixel q depends on pixel q div factor.
        unshuffle: factor of a pixel-unshuffle at the very input.
    """
    enlarged = 1
    for _, factor in stages:
        enlarged *= factor
    farthest = 0
    for pixel in range(enlarged):
        low = high = pixel
        for radius, factor in stages:
            low, high = (low - radius) // factor, (high + radius) // factor
        here = pixel * unshuffle // enlarged
        farthest = max(farthest, here - low * unshuffle, (high + 1) * unshuffle - 1 - here)
    return farthest


def check_scale(family: str, scale: int, scales: tuple[int, ...]) -> None:
    """Raise RequestError unless the scale is one of `scales`."""
    if scale not in scales:
        *most, last = map(str, scales)
        raise RequestError(f"scale is {scale}; {family} enlarges by {', '.join(most)} or {last}")


def init_kaiming(module: nn.Module, share: float = 1.0) -> None:
    """Weights of all convolutions N(0, 2 / fan_in) (He et al. 2015) times `share`, biases 0. Shares below 1 let deep
    residual nets start near the identity (Wang et al., "ESRGAN", 2018, section 3.1)."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)
            part.weight.data *= share
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def conv_shape(shapes: Shapes, key: str) -> tuple[int, int] | None:
    """(output channels, input channels) of a convolution's weight, or None when there is no such tensor."""
    shape = shapes.get(key, ())
    return shape[:2] if len(shape) == 4 else None


def count_layers(shapes: Shapes, pattern: str) -> int:
    """1 + the largest number that the group of `pattern` has in a key that matches it; 0 without one."""
    matches = (re.fullmatch(pattern, key) for key in shapes)
    return max((int(match[1]) + 1 for match in matches if match), default=0)
