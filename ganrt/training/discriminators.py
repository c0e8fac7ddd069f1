"""Changes to a family's discriminator that loss, packing and recipe ask for."""

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
    """Modify a fresh discriminator in place for the loss, packing and recipe of the options, and return it.

    Raises RequestError when they do not suit the discriminator.
    """
    normed = bool(options.recipe.get("spectral"))
    if options.packing > 1:
        _pack(discriminator, options.packing)
    if options.recipe.get("deviation"):
        _add_deviation(discriminator)
    if LOSSES[options.loss].penalty or normed:
        _remove_batch_norm(discriminator)
    if normed:
        if any(parametrize.is_parametrized(part) for part in discriminator.modules()):
            raise RequestError(
                f"the discriminator of {options.family} normalises its weights already; leave out spectral"
            )
        apply_spectral_norm(discriminator)
    return discriminator


class _Affine(nn.Module):
    """The affine part of a batch norm: a gain and a bias per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None, None] + self.bias[:, None, None]


def _remove_batch_norm(module: nn.Module) -> None:
    """Replace every batch norm by its affine part, so that a logit depends on its own image only, and draw the weights
    from He's distribution, as WGAN-GP's code does (Gulrajani et al. 2017).

    Layer norm, which the paper suggests, would make a critic without biases insensitive to the contrast of its images.
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
    """Widen the first convolution to `packing` images in its channels (Lin et al., "PacGAN", NeurIPS 2018). The new
    weights have the standard deviation of the old ones."""
    first = next((part for part in module.modules() if isinstance(part, nn.Conv2d)), None)
    if first is None or parametrize.is_parametrized(first):
        raise RequestError("packing needs a discriminator that begins with a plain convolution; leave it out")
    shape = (first.weight.shape[0], packing * first.weight.shape[1], *first.weight.shape[2:])
    first.weight = nn.Parameter(torch.randn(shape) * first.weight.detach().std())
    first.in_channels *= packing


class _Deviation(nn.Module):
    """`append_deviation`: (N, C, ...) -> (N, C + 1, ...)."""

    def forward(self, x: Tensor) -> Tensor:
        maps = x if x.ndim == 4 else x[:, :, None, None]
        return append_deviation(maps).reshape(len(x), -1, *x.shape[2:])


def _add_deviation(module: nn.Module) -> None:
    """Add the minibatch standard deviation as an input of the last layer. The new weights have the standard deviation
    of the old ones."""
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
