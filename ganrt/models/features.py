"""Feature maps that `synthesis` takes: edges, texture, colour and brightness. The modules have no trainable weights,
are differentiable, and export as plain convolutions.

Images are RGB (N, 3, H, W) in [0, 1]; borders are padded by replication.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

_LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601)."""
_SOBEL = ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0))
_STEEPEST = 4.0
"""Response of the Sobel filter to a straight edge from black to white."""
_EPS = 1e-6
"""Added under a square root, whose gradient is infinite at 0."""
_FREQUENCY, _SIGMA, _RADIUS = 0.25, 2.0, 5
"""Gabor filters: cycles per pixel, standard deviation and radius in pixels."""
_FILL_RADII = (64, 32, 16, 8, 4, 2)
"""Radii in pixels of the boxes that holes are filled from; the smallest box with a known pixel wins."""
_BOX = 3
"""Radius of the box in which texture energy is averaged: 7 x 7 pixels."""


class Grey(nn.Module):
    """Luma, (N, 1, H, W) in [0, 1]."""

    radius: ClassVar[int] = 0
    """Receptive-field radius in pixels; likewise in the other features."""
    weights: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(_LUMA)[:, None, None], persistent=False)

    def forward(self, picture: Tensor) -> Tensor:
        """Extract the feature from images (N, 3, H, W)."""
        return (picture * self.weights).sum(1, keepdim=True)


class Edges(nn.Module):
    """Gradient magnitude of the luma by Sobel filters, (N, 1, H, W): 1 for a straight edge from black to white, up to
    1.07 at corners."""

    radius: ClassVar[int] = 1
    """Receptive-field radius in pixels."""
    kernels: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.grey = Grey()
        across = torch.tensor(_SOBEL)
        self.register_buffer("kernels", torch.stack([across, across.T])[:, None], persistent=False)

    def forward(self, picture: Tensor) -> Tensor:
        """Extract the feature from images (N, 3, H, W)."""
        slopes = functional.conv2d(_pad(self.grey(picture), 1), self.kernels)
        return torch.sqrt(slopes.square().sum(1, keepdim=True) + _EPS) / _STEEPEST


class Texture(nn.Module):
    """Amplitude of stripes in each of `count` directions, (N, count, H, W): the local energy of pairs of Gabor filters
    (even and odd, a quarter cycle per pixel), averaged over 7 x 7 pixels. Stripes of full contrast, 0 to 1, give 1."""

    radius: ClassVar[int] = _RADIUS + _BOX
    """Receptive-field radius in pixels."""
    kernels: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.grey = Grey()
        self.register_buffer("kernels", gabor_kernels(count), persistent=False)

    def forward(self, picture: Tensor) -> Tensor:
        """Extract the feature from images (N, 3, H, W)."""
        even, odd = functional.conv2d(_pad(self.grey(picture), _RADIUS), self.kernels).chunk(2, 1)
        energy = functional.avg_pool2d(_pad(even.square() + odd.square(), _BOX), 2 * _BOX + 1, 1)
        return torch.sqrt(energy + _EPS)


def gabor_kernels(count: int) -> Tensor:
    """Even Gabor filters of all directions, then the odd ones: float32 (2 count, 1, 11, 11). Direction k is k pi /
    count. The response to a flat image is 0."""
    side = torch.arange(-_RADIUS, _RADIUS + 1.0)
    envelope = torch.exp(-(side[:, None] ** 2 + side**2) / (2 * _SIGMA**2))
    envelope = envelope / envelope.sum()
    pairs: tuple[list[Tensor], list[Tensor]] = ([], [])
    for k in range(count):
        angle = math.pi * k / count
        phase = 2 * math.pi * _FREQUENCY * (side * math.cos(angle) + side[:, None] * math.sin(angle))
        even = envelope * phase.cos()
        pairs[0].append(even - envelope * even.sum())
        pairs[1].append(envelope * phase.sin())
    # A grating of full contrast has the amplitude 1/2, of which either filter of a pair sees half.
    return 4 * torch.stack([*pairs[0], *pairs[1]])[:, None]


class Colour(nn.Module):
    """Blurred colour, (N, 3, H, W) in [0, 1]: averages of `pool` x `pool` pixels, upsampled bilinearly. Height and
    width must be multiples of `pool`."""

    def __init__(self, pool: int) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, picture: Tensor) -> Tensor:
        """Extract the feature from images (N, 3, H, W)."""
        small = functional.avg_pool2d(picture, self.pool)
        return functional.interpolate(small, scale_factor=float(self.pool), mode="bilinear")


def dilate(mask: Tensor, radius: int) -> Tensor:
    """Grow the holes of a mask (N, 1, H, W) by `radius` pixels."""
    return functional.max_pool2d(mask, 2 * radius + 1, 1, radius)


def fill_holes(picture: Tensor, mask: Tensor) -> Tensor:
    """Fill the holes of an image (N, C, H, W), where the mask (N, 1, H, W) is 1, smoothly from their surroundings.

    A pixel becomes the mean of the known pixels in the smallest of several boxes around it that has any, else the mean
    of all known pixels. Values under the mask are ignored.
    """
    known = 1 - mask
    seen = picture * known
    fill = seen.sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True).clamp(min=1.0)
    for radius in _FILL_RADII:
        share = _box_mean(known, radius)
        fill = torch.where(share > _EPS, _box_mean(seen, radius) / share.clamp(min=_EPS), fill)
    return seen + fill * mask


def _box_mean(x: Tensor, radius: int) -> Tensor:
    """Mean over a square of side 2 radius + 1, zero-padded."""
    side = 2 * radius + 1
    down = functional.avg_pool2d(x, (side, 1), 1, (radius, 0))
    return functional.avg_pool2d(down, (1, side), 1, (0, radius))


def _pad(x: Tensor, radius: int) -> Tensor:
    return functional.pad(x, (radius, radius, radius, radius), "replicate")
