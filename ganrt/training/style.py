"""Tasks of style transfer: `transformer_net` learns one style, `adain` any style."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ganrt import images
from ganrt.errors import CheckpointError
from ganrt.models import adain, transformer_net
from ganrt.models.family import check_bounds
from ganrt.models.unpickle import read_state
from ganrt.training.image_tasks import Example, check_weights
from ganrt.training.perceptual import (
    FeatureExtractor,
    content_loss,
    gram,
    load_feature_extractor,
    statistics_loss,
    style_loss,
    total_variation,
)
from ganrt.training.style_pictures import load_style_picture


@dataclass(frozen=True)
class StyleRecipe:
    """Settings for training `transformer_net`. The losses are relative, so the weights suit any features."""

    crop: int = 96
    """Side of the crops in pixels, 32 to 1024."""
    style: str = "immunohistochemistry"
    """A bundled picture (ganrt.training.style_pictures) or the path of a file."""
    style_size: int = 256
    """Side in pixels that the style picture is resized to, 32 to 4096. A larger one gives broader strokes."""
    vgg: str = ""
    """Path of a torchvision checkpoint of VGG-16 or VGG-19; without one, the `FilterBank` is used."""
    content_weight: float = 3.0
    """Weight of the content loss, at least 0."""
    style_weight: float = 10.0
    """Weight of the style loss, at least 0."""
    variation_weight: float = 1.0
    """Weight of the total variation, at least 0."""

    def __post_init__(self) -> None:
        check_bounds(crop=(self.crop, 32, 1024), style_size=(self.style_size, 32, 4096))
        check_weights(self, "content_weight", "style_weight", "variation_weight")


class StyleObjective(nn.Module):
    """Keep the features of a crop and match the Gram matrices of the style picture (Johnson et al. 2016, section 3.2,
    with the relative losses of ganrt.training.perceptual)."""

    terms: tuple[str, ...] = ("content", "style", "variation")
    numbers = 0

    def __init__(self, recipe: StyleRecipe, config: transformer_net.Config) -> None:
        super().__init__()
        self.recipe, self.features = recipe, load_feature_extractor(recipe.vgg)
        picture = load_style_picture(recipe.style, recipe.style_size)
        with torch.no_grad():
            found = self.features(torch.from_numpy(images.from_uint8(picture[None], (0.0, 1.0))))
        for name in self.features.style:
            self.register_buffer(f"gram_{name}", gram(found[name]))
        self.scale = {name: self.features.scale[name] for name in self.features.content}

    @property
    def target_grams(self) -> dict[str, Tensor]:
        """Layer -> Gram matrix of the style picture, (1, C, C)."""
        return {name: self.get_buffer(f"gram_{name}") for name in self.features.style}

    def prepare_generator(self, generator: nn.Module) -> None:
        """Does nothing."""

    def build_discriminator(self) -> nn.Module | None:
        """None: there is no adversarial loss."""
        return None

    def make_examples(self, crops: Tensor, drawn: Tensor) -> Example:
        """The crops in the network's range as input, and as the content to keep."""
        return Example([crops * transformer_net.RANGE[1]], crops, torch.ones(1, 1, 1, 1))

    def compute_losses(self, example: Example, made: Tensor) -> dict[str, Tensor]:
        """`content`, `style` and `variation`, weighted."""
        pictures = made / transformer_net.RANGE[1]
        found = self.features(pictures)
        with torch.no_grad():
            layout = self.features(example.target)
        return {
            "content": self.recipe.content_weight * content_loss(found, layout, self.scale),
            "style": self.recipe.style_weight * style_loss(found, self.target_grams),
            "variation": self.recipe.variation_weight * total_variation(pictures),
        }


@dataclass(frozen=True)
class AdainRecipe:
    """Settings for training `adain`."""

    crop: int = 96
    """Side of the crops of content and style in pixels, 32 to 1024."""
    styles: str = "immunohistochemistry,retina,hubble_deep_field,brick,grass"
    """Style pictures, bundled names or paths of files, with commas between."""
    style_size: int = 256
    """Side in pixels that style pictures are resized to, 32 to 4096."""
    encoder: str = ""
    """Path of pytorch-AdaIN's vgg_normalised.pth, for width 64; without it the encoder has random weights."""
    content_weight: float = 1.0
    """Weight of the content loss, at least 0."""
    style_weight: float = 10.0
    """Weight of the style loss, at least 0; 10 in the paper."""

    def __post_init__(self) -> None:
        check_bounds(crop=(self.crop, 32, 1024), style_size=(self.style_size, 32, 4096))
        check_weights(self, "content_weight", "style_weight")


class AdainObjective(nn.Module):
    """Train the decoder to reproduce the features it is given, with the statistics of the style (Huang, Belongie 2017,
    equations 11 to 13, with relative losses). The encoder is frozen.

    Features of a random encoder describe content and style poorly. Without a checkpoint, images are therefore compared
    in the features of the `FilterBank`, and the content to keep is that of the crop.
    """

    terms: tuple[str, ...] = ("content", "style")
    numbers = 4
    styles: Tensor

    def __init__(self, recipe: AdainRecipe, config: adain.Config) -> None:
        super().__init__()
        self.recipe, side = recipe, recipe.style_size
        pictures = np.stack([load_style_picture(name, side) for name in recipe.styles.split(",")])
        self.register_buffer("styles", torch.from_numpy(images.from_uint8(pictures, (0.0, 1.0))))
        self.encoder = adain.build_random_encoder(config)
        if recipe.encoder:
            _load_encoder(self.encoder, Path(recipe.encoder))
            levels = tuple(adain.LEVEL_ENDS)
            self.features = FeatureExtractor(_Levels(self.encoder), levels[-1:], levels)
        else:
            self.features = load_feature_extractor()
        self.scale = self.features.scale

    def prepare_generator(self, generator: nn.Module) -> None:
        """Copy the encoder into the generator and freeze it there."""
        encoder = generator.get_submodule("vgg")
        encoder.load_state_dict(self.encoder.state_dict())
        encoder.requires_grad_(False)

    def build_discriminator(self) -> nn.Module | None:
        """None: there is no adversarial loss."""
        return None

    def make_examples(self, crops: Tensor, drawn: Tensor) -> Example:
        """Each crop as content, with a crop of the same size of one of the styles, at full strength."""
        styles = torch.stack([self._draw_style(crops.shape[2], numbers) for numbers in drawn.tolist()])
        strength = torch.ones(len(crops), device=crops.device)
        return Example([crops, styles, strength], crops, torch.ones(1, 1, 1, 1))

    def _draw_style(self, side: int, numbers: list[float]) -> Tensor:
        which, down, across, mirror = numbers
        picture = self.styles[int(which * len(self.styles))]
        room = max(0, self.styles.shape[2] - side) + 1
        top, left = int(down * room), int(across * room)
        crop = picture[:, top : top + side, left : left + side]
        return crop.flip(2) if mirror < 0.5 else crop

    def compute_losses(self, example: Example, made: Tensor) -> dict[str, Tensor]:
        """`content` and `style`, weighted."""
        content, style, _ = example.inputs
        found = self.features(made)
        with torch.no_grad():
            shown = self.features(style)
            layout = self._content_features(content, style)
        scale = {name: self.scale[name] for name in self.features.style}
        return {
            "content": self.recipe.content_weight
            * content_loss(found, layout, {name: self.scale[name] for name in self.features.content}),
            "style": self.recipe.style_weight * statistics_loss(found, shown, scale),
        }

    def _content_features(self, content: Tensor, style: Tensor) -> dict[str, Tensor]:
        """Features to keep: the decoder's input for a trained encoder, else those of the crop."""
        if not self.recipe.encoder:
            return self.features(content)  # type: ignore[no-any-return]
        return {self.features.content[0]: adain.adain(self.encoder(content), self.encoder(style))}


class _Levels(nn.Module):
    """The encoder of `adain` with the interface of a feature extractor."""

    def __init__(self, encoder: nn.Sequential) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """RGB in [0, 1] -> layer -> features."""
        names = {adain.LEVEL_ENDS[name]: name for name in layers}
        found = {}
        for place, layer in enumerate(self.encoder, 1):
            x = layer(x)
            if place in names:
                found[names[place]] = x
        return found


def _load_encoder(encoder: nn.Sequential, file: Path) -> None:
    state = read_state(file)
    wanted = encoder.state_dict()
    shapes = {key: value.shape for key, value in state.items()}
    if any(shapes.get(key) != value.shape for key, value in wanted.items()):
        width = wanted["2.weight"].shape[0]
        raise CheckpointError(
            f"{file} is not the encoder of AdaIN in width {width}: pytorch-AdaIN's vgg_normalised.pth is, in width 64"
        )
    encoder.load_state_dict({key: state[key] for key in wanted})
