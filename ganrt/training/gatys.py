"""Style transfer by optimisation: the pixels of one picture are optimised, minutes where a network takes milliseconds.

Gatys, Ecker, Bethge, "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ganrt import images, latents
from ganrt.errors import MachineError, RequestError
from ganrt.images import Pictures
from ganrt.machine import parse_device
from ganrt.picture_inputs import Picture, split_pictures, to_pictures
from ganrt.spec import Image
from ganrt.training.perceptual import FeatureExtractor, content_loss, gram, load_feature_extractor, style_loss

_SHORTEST = 16
"""Pixels of a side, below which the deepest layers have no features."""
_STREAM = 2**16 + 7
"""Random stream of the noise that the optimisation may start from."""


def stylize(
    content: Picture,
    style: Picture,
    *,
    size: int = 512,
    steps: int = 200,
    style_weight: float = 100.0,
    weights: str | Path = "",
    seed: int | None = None,
    device: str = "auto",
    progress: Callable[[float, str], None] = lambda share, text: None,
) -> Pictures:
    """Paint one picture in the style of another: minimise equation 7 of Gatys et al. 2016 with L-BFGS.

    The losses are relative (`ganrt.training.perceptual`), so the same `style_weight` suits the features of any network.
    As in section 3 of the paper, the style picture is first resized to the size of the content; here it keeps its
    proportions.

    Args:
        content: the scene to keep: a PNG, JPEG or WebP file, a Pillow image, or uint8 (H, W, 3).
        style: the picture whose colours and textures to use, in the same forms and of any size.
        size: longer side of the result in pixels. A larger content is scaled down; a smaller one keeps its size.
        steps: evaluations of the loss; the last line search may take a few more.
        style_weight: weight of the style loss, where the content loss has weight 1.
        weights: a torchvision checkpoint of VGG-16 or VGG-19, which gives the paper's result. Without one, features
            come from the `FilterBank`: it needs no download and matches colours and textures, but has not learned to
            recognise objects.
        seed: start from uniform noise of this seed, as the paper does. By default, start from the content, which needs
            fewer steps.
        device: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`.
        progress: called after each evaluation with the share done, from 0 to 1, and a line of text.

    Returns the picture, uint8 (H, W, 3). Raises RequestError for pictures or settings that cannot be used and for a
    loss that is not finite, ArtifactError for a file that cannot be read, CheckpointError for weights of another
    network, MachineError for a device that this machine lacks.
    """
    if size < _SHORTEST or steps < 1 or not (math.isfinite(style_weight) and style_weight >= 0):
        raise RequestError(
            f"size is {size}, steps is {steps}, style_weight is {style_weight}; they must be at least {_SHORTEST}, 1 "
            "and 0"
        )
    place = _find_device(device)
    target = _read(content, "content")
    target = _resize(target, "content", min(size, max(target.shape[:2])))
    pattern = _resize(_read(style, "style"), "style", max(target.shape[:2]))
    start = target if seed is None else _draw_noise(target.shape, seed)
    painted = _minimize(
        load_feature_extractor(str(weights)).to(place),
        *(torch.from_numpy(images.from_uint8(each[None], (0.0, 1.0))).to(place) for each in (target, pattern, start)),
        steps=steps,
        style_weight=style_weight,
        progress=progress,
    )
    result: Pictures = images.to_uint8(painted.cpu().numpy(), (0.0, 1.0))[0]
    return result


def _minimize(
    features: FeatureExtractor,
    content: Tensor,
    style: Tensor,
    start: Tensor,
    *,
    steps: int,
    style_weight: float,
    progress: Callable[[float, str], None],
) -> Tensor:
    """RGB (1, 3, H, W) in [0, 1] each, and so is the result."""
    scale = {name: features.scale[name] for name in features.content}
    with torch.no_grad():
        content_features = features(content)
        found = features(style)
        grams = {name: gram(found[name]) for name in features.style}
    image = start.clone(memory_format=torch.contiguous_format).requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [image], max_iter=steps, max_eval=steps, tolerance_change=0.0, history_size=50, line_search_fn="strong_wolfe"
    )
    count = 0

    def closure() -> Tensor:
        nonlocal count
        optimizer.zero_grad()
        found = features(image)
        loss = content_loss(found, content_features, scale) + style_weight * style_loss(found, grams)
        if not bool(loss.isfinite()):
            raise RequestError(f"the loss is {loss.item()} after {count} steps; try a smaller style_weight")
        loss.backward()  # type: ignore[no-untyped-call]
        count += 1
        progress(min(1.0, count / steps), f"step {count}, loss {loss.item():.4g}")
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return image.detach()


def _find_device(name: str) -> torch.device:
    kind, number = parse_device(name)
    found = torch.cuda.device_count()
    if kind == "cpu" or (kind == "auto" and not found):
        return torch.device("cpu")
    if number >= found:
        raise MachineError(f"stylizing was to run on {name}; torch finds {found} CUDA devices. Choose another device")
    return torch.device("cuda", number)


def _read(given: Picture, role: str) -> Pictures:
    """uint8 (H, W, 3)."""
    pictures = to_pictures(Image(role, role, 3, (0.0, 1.0)), given)
    if pictures.dtype != np.uint8:
        raise RequestError(f"{role} is an array of {pictures.dtype}; give a uint8 array, a path or a Pillow image")
    if len(pictures) != 1:
        raise RequestError(f"{role} holds {len(pictures)} pictures; give one")
    picture: Pictures = split_pictures(pictures, 3)[0][0]
    return picture


def _resize(picture: Pictures, role: str, side: int) -> Pictures:
    """Make the longer side `side` pixels."""
    height, width = (max(1, round(length * side / max(picture.shape[:2]))) for length in picture.shape[:2])
    if min(height, width) < _SHORTEST:
        raise RequestError(f"{role} has {height} x {width} pixels at this size; each side needs at least {_SHORTEST}")
    return picture if (height, width) == picture.shape[:2] else images.resize(picture, (height, width))


def _draw_noise(shape: tuple[int, ...], seed: int) -> Pictures:
    """uint8 noise of a shape, a pure function of the seed."""
    seed, _, _ = latents.check_seed(seed)
    return latents.uniform(seed, 0, 1, _STREAM, math.prod(shape), 0.0, 256.0).astype(np.uint8).reshape(shape)
