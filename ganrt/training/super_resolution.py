"""Task of super-resolution: reconstruct a photograph from a downsampled copy; with a discriminator, SRGAN (Ledig et
al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network", CVPR 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ganrt.errors import CheckpointError, RequestError
from ganrt.models import espcn, vdsr
from ganrt.models.family import check_bounds, flatten_logits
from ganrt.models.unpickle import read_state
from ganrt.training.image_tasks import Example, check_weights
from ganrt.training.perceptual import content_loss, load_feature_extractor

_LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)
_LUMA_OF_BLACK = 16 / 255
"""Y of YCbCr in studio range from RGB in [0, 1] (ITU-R BT.601), in which PSNR is reported."""
_DEPTHS = ((1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (8, 1), (8, 2))
"""(channels in multiples of the width, stride) of the discriminator's convolutions after the first."""
_GRID = 6
"""Side that the discriminator's features are averaged to: 96 pixels after four strides of 2."""


@dataclass(frozen=True)
class SuperResolutionRecipe:
    """Settings for training super-resolution families."""

    crop: int = 96
    """Side of the high-resolution crops in pixels, 16 to 1024, a multiple of the scale."""
    pixel: str = "l1"
    """Pixel loss: `l1`, or `l2` as in papers up to 2017."""
    pixel_weight: float = 1.0
    """Weight of the pixel loss, at least 0."""
    perceptual_weight: float = 0.0
    """Weight of the perceptual loss, at least 0."""
    vgg: str = ""
    """Path of a torchvision checkpoint of VGG-16 or VGG-19 for the perceptual loss; without one, the `FilterBank`."""
    adversarial_weight: float = 0.0
    """Weight of the run's adversarial loss, at least 0. Above 0, SRGAN's discriminator is trained, too."""
    discriminator_width: int = 64
    """Channels of the discriminator's first layer, 1 to 512."""
    start: str = ""
    """Path of initial weights, such as generator.safetensors of a run without a discriminator."""

    def __post_init__(self) -> None:
        check_bounds(crop=(self.crop, 16, 1024), discriminator_width=(self.discriminator_width, 1, 512))
        check_weights(self, "pixel_weight", "perceptual_weight", "adversarial_weight")
        if self.pixel not in ("l1", "l2"):
            raise RequestError(f"pixel is {self.pixel!r}; it must be l1 or l2")


class SuperResolutionObjective(nn.Module):
    """Reconstruct photographs from their downsampled copies."""

    numbers = 0

    def __init__(self, recipe: SuperResolutionRecipe, config: Any) -> None:
        super().__init__()
        self.recipe, self.scale = recipe, int(config.scale)
        if self.scale == 1:
            raise RequestError("scale is 1, so there is nothing to learn; choose a larger one: --config scale=2")
        if recipe.crop % self.scale:
            raise RequestError(f"crop is {recipe.crop}; it must be a multiple of the scale, {self.scale}")
        self.luma = isinstance(config, espcn.Config | vdsr.Config)
        """Whether the network takes luma only."""
        if self.luma and (recipe.perceptual_weight or recipe.adversarial_weight):
            raise RequestError(
                "this network generates luma only; perceptual and adversarial losses need RGB: set their weights to 0"
            )
        self.features = load_feature_extractor(recipe.vgg) if recipe.perceptual_weight else None
        self.terms: tuple[str, ...] = ("pixel",) if self.features is None else ("pixel", "perceptual")

    def prepare_generator(self, generator: nn.Module) -> None:
        """Load the initial weights of the recipe. Raises CheckpointError when they are of another network."""
        if not self.recipe.start:
            return
        try:
            generator.load_state_dict(read_state(Path(self.recipe.start)))
        except RuntimeError as error:
            raise CheckpointError(
                f"{self.recipe.start} has the weights of another network: give both runs one --config"
            ) from error

    def build_discriminator(self) -> nn.Module | None:
        """SRGAN's discriminator, if the recipe has an adversarial weight."""
        return Discriminator(self.recipe.discriminator_width) if self.recipe.adversarial_weight else None

    def make_examples(self, crops: Tensor, drawn: Tensor) -> Example:
        """The downsampled crops and the crops, both as luma for networks that take luma only."""
        target = luma(crops) if self.luma else crops
        return Example([downsample(target, self.scale)], target, torch.ones(1, 1, 1, 1, device=crops.device))

    def compute_losses(self, example: Example, made: Tensor) -> dict[str, Tensor]:
        """`pixel`, and `perceptual` if it has a weight, weighted."""
        difference = functional.l1_loss if self.recipe.pixel == "l1" else functional.mse_loss
        found = {"pixel": self.recipe.pixel_weight * difference(made, example.target)}
        if self.features is not None:
            with torch.no_grad():
                wanted = self.features(example.target)
            scale = {name: self.features.scale[name] for name in self.features.content}
            found["perceptual"] = self.recipe.perceptual_weight * content_loss(self.features(made), wanted, scale)
        return found


def downsample(pictures: Tensor, factor: int) -> Tensor:
    """Downsample (N, C, H, W) in [0, 1] by an integer factor, rounded to 8 bits as in a file: antialiased bicubic with
    a = -0.5, as in MATLAB and Pillow."""
    small = functional.interpolate(pictures, scale_factor=1 / factor, mode="bicubic", antialias=True)
    return (small.clamp(0, 1) * 255).round() / 255


def luma(pictures: Tensor) -> Tensor:
    """Y of YCbCr (ITU-R BT.601) of RGB (N, 3, H, W) in [0, 1]: (N, 1, H, W), 16 / 255 for black, 235 / 255 for
    white."""
    weights = torch.tensor(_LUMA, dtype=pictures.dtype, device=pictures.device)
    return (pictures * weights[:, None, None]).sum(1, keepdim=True) + _LUMA_OF_BLACK


class Discriminator(nn.Module):
    """RGB (N, 3, H, W) in [0, 1] -> logits (N,) (Ledig et al. 2017, figure 4).

    The paper's needs crops of 96 pixels, whose features are 6 x 6; features of other sizes are averaged to 6 x 6.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.LeakyReLU(0.2)]
        before = width
        for depth, stride in _DEPTHS:
            after = depth * width
            layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]
            before = after
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(_GRID))
        self.hidden = nn.Linear(before * _GRID**2, 16 * width)
        self.linear = nn.Linear(16 * width, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Score images (N, 3, H, W) in [0, 1]: logits (N,)."""
        found = self.features(2 * pictures - 1).flatten(1)
        return flatten_logits(self.linear(functional.leaky_relu(self.hidden(found), 0.2)))
