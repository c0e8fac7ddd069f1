"""What super-resolution learns: to make a photograph from its small version; with a discriminator, SRGAN (Ledig et al.,
"Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network", CVPR 2017)."""

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
"""Y of YCbCr in studio range from RGB in [0, 1] (ITU-R BT.601), which super-resolution is judged by."""
_DEPTHS = ((1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (8, 1), (8, 2))
"""(channels in multiples of the width, stride) of the discriminator's convolutions after the first."""
_GRID = 6
"""Side that the discriminator's features are averaged to: what four halvings leave of 96 pixels."""


@dataclass(frozen=True)
class SuperResolutionRecipe:
    """Settings of the training of all super-resolution families."""

    crop: int = 96
    """Of the large picture."""
    pixel: str = "l1"
    """Which difference of pixels counts: `l1`, or `l2` as in the articles up to 2017."""
    pixel_weight: float = 1.0
    perceptual_weight: float = 0.0
    vgg: str = ""
    """For the perceptual term: as in training `transformer_net`."""
    adversarial_weight: float = 0.0
    """Above 0, SRGAN's discriminator is trained with the run's loss, whose generator term counts this much."""
    discriminator_width: int = 64
    start: str = ""
    """Weights to begin with, such as generator.safetensors of a run without a discriminator."""

    def __post_init__(self) -> None:
        check_bounds(crop=(self.crop, 16, 1024), discriminator_width=(self.discriminator_width, 1, 512))
        check_weights(self, "pixel_weight", "perceptual_weight", "adversarial_weight")
        if self.pixel not in ("l1", "l2"):
            raise RequestError(f"pixel is {self.pixel!r}; it must be l1 or l2")


class SuperResolutionObjective(nn.Module):
    """A photograph made small is to give the photograph."""

    numbers = 0

    def __init__(self, recipe: SuperResolutionRecipe, config: Any) -> None:
        super().__init__()
        self.recipe, self.scale = recipe, int(config.scale)
        if self.scale == 1:
            raise RequestError("scale is 1, so there is nothing to learn; choose what to enlarge by: --config scale=2")
        if recipe.crop % self.scale:
            raise RequestError(f"crop is {recipe.crop}; it must be a multiple of the scale, {self.scale}")
        self.luma = isinstance(config, espcn.Config | vdsr.Config)
        """Whether the network sees the brightness alone."""
        if self.luma and (recipe.perceptual_weight or recipe.adversarial_weight):
            raise RequestError("this network makes brightness alone; perceptual and adversarial terms need colour")
        self.features = load_feature_extractor(recipe.vgg) if recipe.perceptual_weight else None
        self.terms: tuple[str, ...] = ("pixel",) if self.features is None else ("pixel", "perceptual")

    def prepare_generator(self, generator: nn.Module) -> None:
        """Load the weights that the recipe starts from. Raises CheckpointError when they are of another network."""
        if not self.recipe.start:
            return
        try:
            generator.load_state_dict(read_state(Path(self.recipe.start)))
        except RuntimeError as error:
            raise CheckpointError(
                f"{self.recipe.start} has the weights of another network: give both runs one --config"
            ) from error

    def build_discriminator(self) -> nn.Module | None:
        """SRGAN's, where the recipe asks for one."""
        return Discriminator(self.recipe.discriminator_width) if self.recipe.adversarial_weight else None

    def make_examples(self, crops: Tensor, drawn: Tensor) -> Example:
        """The crops made small, and the crops; both as brightness for networks that see nothing else."""
        target = luma(crops) if self.luma else crops
        return Example([downsample(target, self.scale)], target, torch.ones(1, 1, 1, 1, device=crops.device))

    def compute_losses(self, example: Example, made: Tensor) -> dict[str, Tensor]:
        """`pixel`, and `perceptual` where it counts, each times its weight."""
        difference = functional.l1_loss if self.recipe.pixel == "l1" else functional.mse_loss
        found = {"pixel": self.recipe.pixel_weight * difference(made, example.target)}
        if self.features is not None:
            with torch.no_grad():
                wanted = self.features(example.target)
            scale = {name: self.features.scale[name] for name in self.features.content}
            found["perceptual"] = self.recipe.perceptual_weight * content_loss(self.features(made), wanted, scale)
        return found


def downsample(pictures: Tensor, factor: int) -> Tensor:
    """Make (N, C, H, W) in [0, 1] smaller, in the 256 steps that a file has: bicubic with a = -0.5, widened against
    aliasing, as MATLAB and Pillow have it (torch takes -0.75 where it is not widened)."""
    small = functional.interpolate(pictures, scale_factor=1 / factor, mode="bicubic", antialias=True)
    return (small.clamp(0, 1) * 255).round() / 255


def luma(pictures: Tensor) -> Tensor:
    """RGB (N, 3, H, W) in [0, 1] -> Y (N, 1, H, W), 16 / 255 for black to 235 / 255 for white."""
    weights = torch.tensor(_LUMA, dtype=pictures.dtype, device=pictures.device)
    return (pictures * weights[:, None, None]).sum(1, keepdim=True) + _LUMA_OF_BLACK


class Discriminator(nn.Module):
    """RGB (N, 3, H, W) in [0, 1] -> logits (N,) (Ledig et al. 2017, figure 4).

    The article's is tied to crops of 96 pixels, whose features are 6 x 6; those of other sizes are averaged to that.
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
        found = self.features(2 * pictures - 1).flatten(1)
        return flatten_logits(self.linear(functional.leaky_relu(self.hidden(found), 0.2)))
