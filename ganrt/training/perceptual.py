"""Perceptual and style losses, in the features of VGG or of a fixed filter bank.

All losses are relative: 0 is a perfect match, and about 1 the distance of an image without any features. So the same
weights suit features of any scale, and every layer has equal weight.
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
"""Layer -> features (N, C, H, W), or their Gram matrices (N, C, C)."""


class FilterBank(nn.Module):
    """A fixed feature extractor that replaces VGG when there is no checkpoint. It is the same for the same seed.

    The image is downsampled by 2 repeatedly, to `levels` sizes. Each size gives two layers: `colourK`, red, green and
    blue above and below mid-grey in separate channels (a Gram matrix of signed colours is the same for an image and its
    negative), and `textureK`, the rectified responses of `count` random 7 x 7 filters under a Gaussian window, of unit
    norm and zero mean. One layer of random filters at several sizes is enough to match textures (Ustyuzhaninov et al.,
    "What does it take to generate natural textures?", ICLR 2017). docs/training/style.md has the alternatives that were
    tried.

    The filters have not learned to recognise objects: they match colours, strokes and their spacing.
    """

    filters: Tensor

    def __init__(self, levels: int = 5, count: int = 48, seed: int = 0) -> None:
        super().__init__()
        self.levels = levels
        self.register_buffer("filters", _random_filters(count, seed), persistent=False)

    def forward(self, x: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """RGB (N, 3, H, W) in [0, 1], H and W at least 16 -> layer name -> features (N, C, H / 2^k, W / 2^k).

        Raises RequestError for an unknown layer.
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
    """Float32 (count, 3, side, side). The global random number generator is not advanced."""
    numbers = torch.Generator().manual_seed(seed)
    place = torch.arange(side) - side // 2
    window = torch.exp(-(place[:, None] ** 2 + place**2) / (2 * (side / 4) ** 2))
    drawn = window * torch.randn(count, 3, side, side, generator=numbers)
    blind = drawn - window * (drawn.sum((2, 3), keepdim=True) / window.sum())
    length: Tensor = torch.linalg.vector_norm(blind, dim=(1, 2, 3), keepdim=True)
    return blind / length


class FeatureExtractor(nn.Module):
    """A fixed network, and its layers in which content and style are compared."""

    def __init__(self, network: nn.Module, content: tuple[str, ...], style: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.content, self.style = network.eval(), content, style
        with torch.no_grad():
            usual = self(_pink_noise(64)).items()
        self.scale = {name: float(features.square().mean()) for name, features in usual}
        """Layer -> mean square of its features for pink noise, which has the spectrum of photographs. The mean square
        of each image would not do: a clear sky has almost none, so its loss would dominate."""

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """RGB (N, 3, H, W) in [0, 1] -> features of all content and style layers."""
        found: dict[str, Tensor] = self.network(pictures, dict.fromkeys((*self.content, *self.style)))
        return found


def _pink_noise(side: int) -> Tensor:
    """RGB (1, 3, side, side) about 1/2, deviation 1/4; amplitudes are inversely proportional to the frequency, as in
    photographs (Field, J. Optical Society of America A 4, 1987). The global random number generator is not advanced."""
    numbers = torch.Generator().manual_seed(0)
    across = torch.fft.fftfreq(side)
    frequency = torch.sqrt(across[:, None] ** 2 + across**2).clamp(min=1 / side)
    spectrum = torch.fft.fft2(torch.randn(1, 3, side, side, generator=numbers)) / frequency
    noise: Tensor = torch.fft.ifft2(spectrum).real
    noise = noise - noise.mean((2, 3), keepdim=True)
    return 0.5 + 0.25 * noise / noise.std((2, 3), keepdim=True)


def load_feature_extractor(weights: str = "") -> FeatureExtractor:
    """Load VGG-16 or VGG-19 from a torchvision checkpoint, or build the `FilterBank` for "".

    The layers of VGG-16 are those of Johnson et al. 2016 (as in pytorch/examples), of VGG-19 those of Gatys et al.
    2016. Raises CheckpointError when the file cannot be read or is no such checkpoint.
    """
    if not weights:
        levels = [f"{kind}{level}" for level in range(1, 6) for kind in ("colour", "texture")]
        return FeatureExtractor(FilterBank(), ("texture1", "texture2", "texture3"), tuple(levels))
    network = vgg.load_torchvision(read_state(Path(weights)))
    if network.depth == 16:
        return FeatureExtractor(network, ("relu2_2",), ("relu1_2", "relu2_2", "relu3_3", "relu4_3"))
    return FeatureExtractor(network, ("relu4_2",), tuple(f"relu{level}_1" for level in range(1, 6)))


def gram(features: Tensor) -> Tensor:
    """Gram matrices (N, C, C) of features (N, C, H, W): products of channels, averaged over the pixels (Gatys et al.
    2016, equation 3)."""
    flat = features.flatten(2)
    return flat @ flat.mT / flat.shape[2]


def content_loss(found: Features, wanted: Features, scale: Mapping[str, float]) -> Tensor:
    """Mean squared difference of features, divided by the layer's scale, mean over the layers of `scale`; a scalar
    (Johnson et al. 2016, equation 2, made relative).

    Args:
        found, wanted: layer -> features (N, C, H, W). Other layers than those of `scale` are ignored.
        scale: layer -> `FeatureExtractor.scale`.
    """
    return _mean(functional.mse_loss(found[name], wanted[name]) / size for name, size in scale.items())


def style_loss(found: Features, wanted: Features) -> Tensor:
    """Mean squared difference of Gram matrices, divided by the mean square of the wanted one, mean over the layers of
    `wanted`; a scalar (Johnson et al. 2016, equation 4, made relative).

    Args:
        found: layer -> features (N, C, H, W).
        wanted: layer -> Gram matrix (1, C, C) of the style picture.
    """
    return _mean((gram(found[name]) - aim).square().mean() / aim.square().mean() for name, aim in wanted.items())


def statistics_loss(found: Features, wanted: Features, scale: Mapping[str, float]) -> Tensor:
    """AdaIN's style loss (Huang, Belongie 2017, equation 13), made relative: squared differences of the channels' means
    and deviations, divided by the layer's scale, mean over the layers of `scale`; a scalar.

    Args:
        found, wanted: layer -> features (N, C, H, W) and (N, C, h, w).
        scale: layer -> `FeatureExtractor.scale`.
    """
    terms = []
    for name, size in scale.items():
        pairs = zip(channel_statistics(found[name]), channel_statistics(wanted[name]), strict=True)
        terms.append(torch.stack([functional.mse_loss(here, there) for here, there in pairs]).sum() / size)
    return _mean(terms)


def total_variation(pictures: Tensor) -> Tensor:
    """Mean squared difference of vertical plus horizontal neighbours in (N, C, H, W); a scalar."""
    down, across = pictures.diff(dim=2), pictures.diff(dim=3)
    return down.square().mean() + across.square().mean()


def _mean(terms: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(terms)).mean()
