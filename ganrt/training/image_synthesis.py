"""Task of `synthesis`: reconstruct a photograph from its features, and inpainting."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganrt.models import synthesis
from ganrt.models.family import check_bounds
from ganrt.training import masks
from ganrt.training.image_tasks import Example, check_weights
from ganrt.training.perceptual import content_loss, load_feature_extractor


@dataclass(frozen=True)
class SynthesisRecipe:
    """Settings for training `synthesis`."""

    crop: int = 64
    """Side of the crops in pixels, 32 to 1024."""
    l1_weight: float = 1.0
    """Weight of the L1 loss, at least 0."""
    hole_weight: float = 6.0
    """Weight of a pixel in a hole, where one outside has weight 1; at least 0. 6 is the ratio of Liu et al., "Image
    Inpainting for Irregular Holes Using Partial Convolutions", ECCV 2018."""
    perceptual_weight: float = 0.0
    """Weight of the perceptual loss, at least 0."""
    vgg: str = ""
    """Path of a torchvision checkpoint of VGG-16 or VGG-19 for the perceptual loss; without one, the `FilterBank`."""
    adversarial_weight: float = 0.0
    """Weight of the run's adversarial loss, at least 0. Above 0, a patch discriminator is trained, too."""
    discriminator_width: int = 32
    """Channels of the discriminator's first layer, 1 to 512."""

    def __post_init__(self) -> None:
        check_bounds(crop=(self.crop, 32, 1024), discriminator_width=(self.discriminator_width, 1, 512))
        check_weights(self, "l1_weight", "hole_weight", "perceptual_weight", "adversarial_weight")


class _Patches(nn.Module):
    """The patch discriminator, returning only its logits."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.main = synthesis.PatchDiscriminator(3, width)

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] -> (N, 1, H / 8 - 2, W / 8 - 2)."""
        return self.main(2 * pictures - 1)[-1]  # type: ignore[no-any-return]


class SynthesisObjective(nn.Module):
    """Reconstruct a crop from its features, with holes if the model takes a mask (Isola et al.,
    "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017, equation 4; Nazeri et al. 2019)."""

    def __init__(self, recipe: SynthesisRecipe, config: synthesis.Config) -> None:
        super().__init__()
        self.recipe, self.config = recipe, config
        self.masked = "mask" in config.names
        self.numbers = masks.NUMBERS if self.masked else 0
        self.extraction = synthesis.Extraction(config)
        self.features = load_feature_extractor(recipe.vgg) if recipe.perceptual_weight else None
        self.terms: tuple[str, ...] = ("l1",) if self.features is None else ("l1", "perceptual")

    def prepare_generator(self, generator: nn.Module) -> None:
        """Does nothing."""

    def build_discriminator(self) -> nn.Module | None:
        """A patch discriminator of the images, if the recipe has an adversarial weight."""
        return _Patches(self.recipe.discriminator_width) if self.recipe.adversarial_weight else None

    def make_examples(self, crops: Tensor, drawn: Tensor) -> Example:
        """The features of the crops, or the crops and masks for a model that extracts features itself."""
        mask = masks.draw_masks(crops.shape[2], crops.shape[3], drawn) if self.masked else None
        return self.make_example(crops, mask)

    def make_example(self, crops: Tensor, mask: Tensor | None) -> Example:
        """A batch for given masks (N, 1, H, W), 1 in the holes, or None."""
        given = [crops] if mask is None else [crops, mask]
        inputs = given if self.config.extract else self.extraction(*given)
        if mask is None:
            return Example(inputs, crops, torch.ones(1, 1, 1, 1, device=crops.device))
        return Example(inputs, crops, 1 + (self.recipe.hole_weight - 1) * mask)

    def compute_losses(self, example: Example, made: Tensor) -> dict[str, Tensor]:
        """`l1`, divided by the sum of the pixel weights, and `perceptual` if it has a weight, weighted."""
        off = ((made - example.target).abs().mean(1, keepdim=True) * example.weight).sum()
        count = example.weight.expand(len(made), 1, *made.shape[2:]).sum()
        terms = {"l1": self.recipe.l1_weight * off / count}
        if self.features is not None:
            with torch.no_grad():
                wanted = self.features(example.target)
            scale = {name: self.features.scale[name] for name in self.features.content}
            seen = content_loss(self.features(made), wanted, scale)
            terms["perceptual"] = self.recipe.perceptual_weight * seen
        return terms
