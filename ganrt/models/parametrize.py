"""Parametrizations for training, and folding them into plain weights.

A generator is trained with parametrizations (torch.nn.utils.parametrize) on plain layers. `fold` evaluates them once
more and leaves plain layers, so a family has one set of keys and exported graphs contain plain weights only.
"""

from __future__ import annotations

import copy
import math

from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

_LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


class EqualizedScale(nn.Module):
    """Equalised learning rate: weights are stored at unit variance and scaled by gain / sqrt(fan_in) when used (Karras
    et al., "Progressive Growing of GANs", ICLR 2018, section 4.1). Biases are not scaled."""

    def __init__(self, weight: Tensor, gain: float) -> None:
        super().__init__()
        self.scale = gain / math.sqrt(weight[0].numel())

    def forward(self, weight: Tensor) -> Tensor:
        """The weight that the layer uses."""
        return weight * self.scale


def equalize(layer: nn.Linear | nn.Conv2d, gain: float = math.sqrt(2.0)) -> None:
    """Give one layer an equalised learning rate: its weights become N(0, 1) times gain / sqrt(fan_in), its bias 0."""
    nn.init.normal_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    parametrize.register_parametrization(layer, "weight", EqualizedScale(layer.weight, gain))


class Scaled(nn.Module):
    """Stores values divided by `unit`, which makes the optimizer's steps `unit` times larger."""

    def __init__(self, unit: float) -> None:
        super().__init__()
        self.unit = unit

    def forward(self, value: Tensor) -> Tensor:
        """The value that the layer uses."""
        return value * self.unit

    def right_inverse(self, value: Tensor) -> Tensor:
        """The value that is stored."""
        return value / self.unit


def scale_parameters(layer: nn.Module, unit: float) -> None:
    """Train weight and bias of a layer in units of `unit`. Their values do not change."""
    for name in ("weight", "bias"):
        parametrize.register_parametrization(layer, name, Scaled(unit))


def apply_spectral_norm(module: nn.Module, eps: float = 1e-6) -> nn.Module:
    """Apply spectral norm to every linear and convolution layer, in place (Miyato et al., "Spectral Normalization for
    Generative Adversarial Networks", ICLR 2018): one power iteration per training step, none in eval mode.

    Returns the module.
    """
    for part in module.modules():
        if isinstance(part, _LAYERS):
            parametrizations.spectral_norm(part, eps=eps)
    return module


def fold(module: nn.Module) -> nn.Module:
    """A copy in eval mode that computes the same function with plain weights instead of parametrizations.

    Submodules that the module lists in its tuple ONLY_TRAINED are removed.
    """
    plain = copy.deepcopy(module).eval()
    for name in getattr(plain, "ONLY_TRAINED", ()):
        delattr(plain, name)
    for part in plain.modules():
        fold_layer(part)
    return plain


def fold_layer(layer: nn.Module) -> None:
    """Replace the parametrizations of one layer, in eval mode, by plain weights, in place."""
    if not parametrize.is_parametrized(layer):
        return
    # Parametrizing gives a layer a class of its own, which its copies share; removing changes that class.
    shared = type(layer)
    layer.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))
    for name in list(layer.parametrizations):  # type: ignore[arg-type]
        parametrize.remove_parametrizations(layer, name, leave_parametrized=True)
        value = getattr(layer, name)
        if not isinstance(value, nn.Parameter):  # torch leaves a mere attribute of what was made of frozen parts
            delattr(layer, name)
            layer.register_parameter(name, nn.Parameter(value, requires_grad=False))
