"""What a recipe makes of a family's discriminator, before it is trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ganrt.errors import RequestError
from ganrt.models.parametrize import apply_spectral_norm
from ganrt.models.progan import append_deviation
from ganrt.training.losses import LOSSES
from ganrt.training.options import TrainingOptions


def prepare_discriminator(discriminator: nn.Module, options: TrainingOptions) -> nn.Module:
    """Change a fresh discriminator in place as the loss, packing and the recipe ask; returns it. Raises RequestError
    where they do not suit it."""
    normed = bool(options.recipe.get("spectral"))
    if options.packing > 1:
        _pack(discriminator, options.packing)
    if options.recipe.get("deviation"):
        _tell_deviation(discriminator)
    if LOSSES[options.loss].penalty or normed:
        _without_batch_norm(discriminator)
    if normed:
        if any(parametrize.is_parametrized(part) for part in discriminator.modules()):
            raise RequestError(
                f"the discriminator of {options.family} normalises its weights already; leave out spectral"
            )
        apply_spectral_norm(discriminator)
    return discriminator


class _Affine(nn.Module):
    """A gain and a bias per channel, as a batch norm has them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None, None] + self.bias[:, None, None]


def _without_batch_norm(module: nn.Module) -> None:
    """Leave gain and bias alone of every batch norm, so that an image's logit depends on that image alone, and draw the
    weights that relied on the norms from He's distribution, as WGAN-GP's code does (Gulrajani et al. 2017).

    Layer norm, the article's other choice, makes a critic without biases blind to the contrast of its images.
    """
    if not any(isinstance(part, nn.BatchNorm2d) for part in module.modules()):
        return
    for parent in list(module.modules()):
        for name, part in parent.named_children():
            if isinstance(part, nn.BatchNorm2d):
                setattr(parent, name, _Affine(part.num_features))
            elif isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, 0.2)


def _pack(module: nn.Module, packing: int) -> None:
    """Let the first convolution take `packing` images in its channels (Lin et al., "PacGAN", NeurIPS 2018). Its new
    weights have the spread of the old ones."""
    first = next((part for part in module.modules() if isinstance(part, nn.Conv2d)), None)
    if first is None or parametrize.is_parametrized(first):
        raise RequestError("packing needs a discriminator that begins with a plain convolution; leave it out")
    shape = (first.weight.shape[0], packing * first.weight.shape[1], *first.weight.shape[2:])
    first.weight = nn.Parameter(torch.randn(shape) * first.weight.detach().std())
    first.in_channels *= packing


class _Deviation(nn.Module):
    """(N, C, ...) -> (N, C + 1, ...): `with_deviation`."""

    def forward(self, x: Tensor) -> Tensor:
        maps = x if x.ndim == 4 else x[:, :, None, None]
        return append_deviation(maps).reshape(len(x), -1, *x.shape[2:])


def _tell_deviation(module: nn.Module) -> None:
    """Give the last layer one more input, which tells how much the images of a group differ. Its new weights have the
    spread of the old ones."""
    layers = [(name, part) for name, part in module.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    if not layers or any(parametrize.is_parametrized(part) for _, part in layers):
        raise RequestError("deviation needs a discriminator that ends in a plain layer; leave it out")
    name, last = layers[-1]
    weight = last.weight.detach()
    more = torch.randn(len(weight), 1, *weight.shape[2:]) * weight.std()
    last.weight = nn.Parameter(torch.cat([weight, more], 1))
    if isinstance(last, nn.Conv2d):
        last.in_channels += 1
    else:
        last.in_features += 1
    module.set_submodule(name, nn.Sequential(_Deviation(), last))
