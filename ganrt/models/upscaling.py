"""Helpers of the super-resolution families: Spec, receptive field, initialisation, reading checkpoint keys.

The activations of these families are not in place, because torch.export takes twice as long to trace those that are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

from ganrt.errors import RequestError
from ganrt.models.family import Shapes
from ganrt.spec import Image, Output, Spec

_RANGE = (0.0, 1.0)


def build_spec(family: str, channels: int, scale: int, radius: int, multiple_of: int = 1) -> Spec:
    """Spec of a model that upsamples images in [0, 1].

    Args:
        scale: factor of height and width.
        radius: receptive-field radius in input pixels.
        multiple_of: what height and width of the input must be multiples of.
    """
    picture = Image("low_res", "low_res", channels, _RANGE, multiple_of=multiple_of)
    return Spec(family, (picture,), Output(channels, _RANGE, None, scale, reach=radius))


def build_luma_spec(family: str, scale: int, radius: int) -> Spec:
    """Spec of a model that upsamples the Y of YCbCr; chroma is upsampled outside the model."""
    return Spec(family, (Image("luma", "luma", 1, _RANGE),), Output(1, _RANGE, None, scale, reach=radius))


def receptive_field_radius(stages: Sequence[tuple[int, int]], unshuffle: int = 1) -> int:
    """Receptive-field radius: the largest distance, in input pixels, at which the input still affects an output pixel.

    Args:
        stages: from the output back to the input, (sum of the radii of the convolutions at this resolution, factor of
            the upsampling before them, 1 for the stage at low resolution). For nearest-neighbour upsampling and pixel
            shuffle alike, output pixel q depends on pixel q div factor.
        unshuffle: factor of a pixel unshuffle at the input.
    """
    scale = 1
    for _, factor in stages:
        scale *= factor
    farthest = 0
    for pixel in range(scale):
        low = high = pixel
        for radius, factor in stages:
            low, high = (low - radius) // factor, (high + radius) // factor
        here = pixel * unshuffle // scale
        farthest = max(farthest, here - low * unshuffle, (high + 1) * unshuffle - 1 - here)
    return farthest


def check_scale(family: str, scale: int, scales: tuple[int, ...]) -> None:
    """Raise RequestError unless the scale is one of `scales`."""
    if scale not in scales:
        *most, last = map(str, scales)
        raise RequestError(f"scale is {scale}; {family} upsamples by {', '.join(most)} or {last}")


def init_kaiming(module: nn.Module, share: float = 1.0) -> None:
    """Initialise the weights of all convolutions as N(0, 2 / fan_in) (He et al. 2015) times `share`, biases 0. A share
    below 1 lets deep residual networks start near the identity (Wang et al., "ESRGAN", 2018, section 3.1)."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)
            part.weight.data *= share
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def conv_shape(shapes: Shapes, key: str) -> tuple[int, int] | None:
    """(output channels, input channels) of a convolution weight, or None if there is no such tensor."""
    shape = shapes.get(key, ())
    return shape[:2] if len(shape) == 4 else None


def count_layers(shapes: Shapes, pattern: str) -> int:
    """Count numbered layers: 1 + the largest number that the group of `pattern` matches in a key; 0 for no match."""
    matches = (re.fullmatch(pattern, key) for key in shapes)
    return max((int(match[1]) + 1 for match in matches if match), default=0)
