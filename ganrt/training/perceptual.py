"""Perceptual losses: pictures compared by what a fixed network or filter bank sees in them.

All losses are relative: 0 is a perfect match, and 1 about as far away as a picture without any features. So one pair of
weights suits features of any scale, and every layer counts alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from ganrt.errors import RequestError
from ganrt.models import vgg
from ganrt.models.adain import channel_statistics
from ganrt.models.unpickle import read_state

Features: TypeAlias = Mapping[str, Tensor]
"""Layer -> what a picture shows there."""


class FilterBank(nn.Module):
    """What stands in for VGG where there is no checkpoint: needs no download, and is the same for everybody.

    A picture is halved again and again, to `levels` sizes. Each size gives two layers: `colourK`, red, green and blue
    above mid-grey and below it, apart (a Gram matrix of signed colours would take a picture for its negative), and
    `textureK`, the rectified answers of 48 filters of 7 x 7 pixels, drawn at random under a Gaussian window, of unit
    norm, and blind to flat colour. One layer of random filters in many sizes is known to be enough to match textures
    (Ustyuzhaninov et al., "What does it take to generate natural textures?", ICLR 2017). It was chosen over narrow VGGs
    of random weights, and over random filters that do see flat colour, by looking at what L-BFGS made of photographs:
    mean colours fill most of their Gram matrices, and the pictures made have coloured noise and less texture.

    It knows nothing of objects: style is matched by colours, strokes and their spacing, content by place.
    """

    filters: Tensor

    def __init__(self, levels: int = 5, count: int = 48, seed: int = 0) -> None:
        super().__init__()
        self.levels = levels
        self.register_buffer("filters", _random_filters(count, seed), persistent=False)

    def forward(self, x: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """RGB (N, 3, H, W) in [0, 1], H and W at least 16 -> layer name -> features (N, C, H / 2^k, W / 2^k).

        Raises RequestError for the name of a layer that there is not.
        """
        wanted, found = set(layers), dict[str, Tensor]()
        known = [f"{kind}{level}" for level in range(1, self.levels + 1) for kind in ("colour", "texture")]
        if unknown := sorted(wanted - set(known)):
            raise RequestError(f"the filter bank has no layer {unknown[0]!r}; it has {', '.join(known)}")
        x = (x - 0.5) / 0.25  # about the mean and deviation of photographs
        border = self.filters.shape[-1] // 2
        for level in range(1, self.levels + 1):
            if f"colour{level}" in wanted:
                found[f"colour{level}"] = functional.relu(torch.cat([x, -x], 1))
            if f"texture{level}" in wanted:
                continued = functional.pad(x, (border, border, border, border), "replicate")
                found[f"texture{level}"] = functional.relu(functional.conv2d(continued, self.filters))
            if level < self.levels:
                x = functional.avg_pool2d(x, 2)
        return found


def _random_filters(count: int, seed: int, side: int = 7) -> Tensor:
    """Float32 (count, 3, side, side). The caller's random numbers are left alone."""
    numbers = torch.Generator().manual_seed(seed)
    place = torch.arange(side) - side // 2
    window = torch.exp(-(place[:, None] ** 2 + place**2) / (2 * (side / 4) ** 2))
    drawn = window * torch.randn(count, 3, side, side, generator=numbers)
    blind = drawn - window * (drawn.sum((2, 3), keepdim=True) / window.sum())
    length: Tensor = torch.linalg.vector_norm(blind, dim=(1, 2, 3), keepdim=True)
    return blind / length


class FeatureExtractor(nn.Module):
    """A fixed feature extractor, and which of its layers stand for content and style."""

    def __init__(self, network: nn.Module, content: tuple[str, ...], style: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.content, self.style = network.eval(), content, style
        with torch.no_grad():
            usual = self(_pink_noise(64)).items()
        self.scale = {name: float(features.square().mean()) for name, features in usual}
        """Layer -> mean square of its features of a made-up picture with the spectrum of photographs. A picture's own
        mean square would not do: a clear sky has next to none, and its loss would drown all others."""

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """RGB (N, 3, H, W) in [0, 1] -> features of all content and style layers."""
        found: dict[str, Tensor] = self.network(pictures, dict.fromkeys((*self.content, *self.style)))
        return found


def _pink_noise(side: int) -> Tensor:
    """RGB (1, 3, side, side) about 1/2, deviation 1/4; amplitudes fall with the frequency, as those of photographs do
    (Field, J. Optical Society of America A 4, 1987). The caller's random numbers are left alone."""
    numbers = torch.Generator().manual_seed(0)
    across = torch.fft.fftfreq(side)
    frequency = torch.sqrt(across[:, None] ** 2 + across**2).clamp(min=1 / side)
    spectrum = torch.fft.fft2(torch.randn(1, 3, side, side, generator=numbers)) / frequency
    noise: Tensor = torch.fft.ifft2(spectrum).real
    noise = noise - noise.mean((2, 3), keepdim=True)
    return 0.5 + 0.25 * noise / noise.std((2, 3), keepdim=True)


def load_feature_extractor(weights: str = "") -> FeatureExtractor:
    """Features to train with: of the VGG-16 or VGG-19 in a torchvision checkpoint, or of the `FilterBank` for "".

    Layers of VGG-16 are those of Johnson et al. 2016 (as in pytorch/examples), of VGG-19 those of Gatys et al. 2016.
    Raises CheckpointError when the file cannot be read, or holds something else.
    """
    if not weights:
        levels = [f"{kind}{level}" for level in range(1, 6) for kind in ("colour", "texture")]
        return FeatureExtractor(FilterBank(), ("texture1", "texture2", "texture3"), tuple(levels))
    network = vgg.load_torchvision(read_state(Path(weights)))
    if network.depth == 16:
        return FeatureExtractor(network, ("relu2_2",), ("relu1_2", "relu2_2", "relu3_3", "relu4_3"))
    return FeatureExtractor(network, ("relu4_2",), tuple(f"relu{level}_1" for level in range(1, 6)))


def gram(features: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, C): which channels are active together, averaged over the H W pixels."""
    flat = features.flatten(2)
    return flat @ flat.mT / flat.shape[2]


def content_loss(found: Features, wanted: Features, scale: Mapping[str, float]) -> Tensor:
    """Mean squared difference of features over the layer's scale (`Perceptual.scale`), mean over the layers of `scale`;
    a scalar.

    Args:
        found, wanted: layer -> features (N, C, H, W); of layers that `scale` does not name too.
    """
    return _mean(functional.mse_loss(found[name], wanted[name]) / size for name, size in scale.items())


def style_loss(found: Features, wanted: Features) -> Tensor:
    """Squared difference of Gram matrices over the mean square of what is wanted, mean over the layers of `wanted`; a
    scalar.

    Args:
        found: layer -> features (N, C, H, W).
        wanted: layer -> Gram matrix (1, C, C) of the style picture.
    """
    return _mean((gram(found[name]) - aim).square().mean() / aim.square().mean() for name, aim in wanted.items())


def statistics_loss(found: Features, wanted: Features, scale: Mapping[str, float]) -> Tensor:
    """Squared differences of the channels' means and of their deviations, over the layer's scale, mean over the layers
    of `scale`: AdaIN's style loss (Huang, Belongie 2017, equation 13), made relative; a scalar.

    Args:
        found, wanted: layer -> features (N, C, H, W) and (N, C, h, w).
    """
    terms = []
    for name, size in scale.items():
        pairs = zip(channel_statistics(found[name]), channel_statistics(wanted[name]), strict=True)
        terms.append(torch.stack([functional.mse_loss(here, there) for here, there in pairs]).sum() / size)
    return _mean(terms)


def total_variation(pictures: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels, down plus across, of (N, C, H, W); a scalar."""
    down, across = pictures.diff(dim=2), pictures.diff(dim=3)
    return down.square().mean() + across.square().mean()


def _mean(terms: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(terms)).mean()
