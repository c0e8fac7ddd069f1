"""Style transfer by optimisation (Gatys, Ecker, Bethge, "Image Style Transfer Using Convolutional Neural Networks",
CVPR 2016): the reference result for one picture, minutes where a network takes milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from ganrt.errors import RequestError
from ganrt.models.vgg import VGG
from ganrt.training.perceptual import gram

CONTENT_LAYER = "relu4_2"
STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
STYLE_WEIGHT = 1000.0
"""Divided by the square of a layer's channels, as in the authors' PyTorch notebook; the content counts 1."""


def style_loss(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Tensor:
    """Scalar: mean squared differences of Gram matrices, over C^2, summed over the layers.

    Args:
        found: layer -> features (N, C, H, W).
        wanted: layer -> Gram matrices (N, C, C).
    """
    terms = [functional.mse_loss(gram(found[name]), aim) / aim.shape[-1] ** 2 for name, aim in wanted.items()]
    return torch.stack(terms).sum()


def stylize(
    content: Tensor,
    style: Tensor,
    vgg: VGG,
    steps: int = 500,
    style_weight: float = STYLE_WEIGHT,
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> Tensor:
    """Paint one picture in the style of another with L-BFGS, starting from the content.

    Args:
        content: RGB (1, 3, H, W) in [0, 1], on the device of `vgg`; 16 pixels or more a side.
        style: RGB (1, 3, h, w) in [0, 1], of any such size.
        vgg: VGG-19, pretrained for the authors' result. Not changed.
        steps: evaluations of the loss, at most.
        progress: told the number of each evaluation and its loss.

    Returns the picture, shape of `content`, in [0, 1]. Raises RequestError for other shapes and for a loss that is not
    finite.
    """
    for name, picture in {"content": content, "style": style}.items():
        if picture.ndim != 4 or picture.shape[:2] != (1, 3) or min(picture.shape[2:]) < 16:
            raise RequestError(f"{name} has shape {tuple(picture.shape)}; it must be (1, 3, H, W) from 16 pixels")
    with torch.no_grad():
        layout = vgg(content, [CONTENT_LAYER])[CONTENT_LAYER]
        wanted = {name: gram(features) for name, features in vgg(style, STYLE_LAYERS).items()}
    picture = content.detach().clone(memory_format=torch.contiguous_format).requires_grad_(True)
    optimizer = torch.optim.LBFGS([picture], max_iter=steps, max_eval=steps, tolerance_change=0.0, history_size=50)
    count = 0

    def closure() -> Tensor:
        nonlocal count
        optimizer.zero_grad()
        found = vgg(picture, (*STYLE_LAYERS, CONTENT_LAYER))
        content_loss = functional.mse_loss(found[CONTENT_LAYER], layout)
        loss = content_loss + style_weight * style_loss(found, wanted)
        if not bool(loss.isfinite()):
            raise RequestError(f"the loss is {loss.item()} after {count} steps; try a smaller style_weight")
        loss.backward()  # type: ignore[no-untyped-call]
        progress(count, loss.item())
        count += 1
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return picture.detach().clamp(0.0, 1.0)
