"""DiffAugment (Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training", NeurIPS 2020).

Real and generated images are augmented alike before the discriminator, and gradients flow through the augmentation. So
the discriminator cannot memorise a small data set, and the generator does not learn to generate augmented images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

NUMBERS = 10
"""Random numbers per image."""


def augment(images: Tensor, kinds: Sequence[str], random: Tensor, chance: float = 1.0) -> Tensor:
    """Augment images (N, C, H, W) in [-1, 1]. The result may leave the range.

    Args:
        kinds: keys of KINDS, applied in this order.
        random: float32 (N, NUMBERS) in (0, 1). Each kind has its own columns.
        chance: probability of each kind for each image, independently.
    """
    for kind in kinds:
        changed = KINDS[kind](images, random)
        if chance < 1:
            hit = random[:, _FIRST_GATE + list(KINDS).index(kind)] < chance
            changed = torch.where(hit[:, None, None, None], changed, images)
        images = changed
    return images


def _change_color(images: Tensor, random: Tensor) -> Tensor:
    """Brightness + U(-0.5, 0.5), saturation x U(0, 2) about each pixel's mean, contrast x U(0.5, 1.5) about the
    image's."""
    brightness, saturation, contrast = random[:, :3, None, None, None].unbind(1)
    images = images + (brightness - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = grey + (images - grey) * (2 * saturation)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (images - mean) * (0.5 + contrast)


def _translate(images: Tensor, random: Tensor) -> Tensor:
    """Shift by up to an eighth of the side, in whole pixels, filling with zeros. Written as products with shifted unit
    matrices, whose gradients are deterministic."""
    down, right = (_shift_matrices(images.shape[2 + axis], random[:, 3 + axis]) for axis in (0, 1))
    return down @ images @ right.mT


def _shift_matrices(side: int, random: Tensor) -> Tensor:
    """(N, 1, side, side): 1 where row = column + shift."""
    most = int(side / 8 + 0.5)
    shift = _to_whole(random, 2 * most + 1) - most
    place = torch.arange(side, device=random.device)
    moved = place[:, None] == place[None, :] + shift[:, None, None]
    return moved[:, None].to(random.dtype)


def _cut_out(images: Tensor, random: Tensor) -> Tensor:
    """Set a square of half the side, with its centre anywhere, to zero."""
    outside = [_outside_square(images.shape[2 + axis], random[:, 5 + axis]) for axis in (0, 1)]
    keep = outside[0][:, None, :, None] | outside[1][:, None, None, :]
    return images * keep


def _outside_square(side: int, random: Tensor) -> Tensor:
    """(N, side): whether a row lies outside the square."""
    cut = int(side / 2 + 0.5)
    first = _to_whole(random, side + 1 - cut % 2) - cut // 2
    place = torch.arange(side, device=random.device)[None, :] - first[:, None]
    return (place < 0) | (place >= cut)


def _to_whole(random: Tensor, count: int) -> Tensor:
    """Map uniform numbers in (0, 1) to 0 ... count - 1, int64."""
    return (random * count).long().clamp(max=count - 1)


KINDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "color": _change_color,
    "translation": _translate,
    "cutout": _cut_out,
}
"""Name, as `--augment` takes it, -> change of (images, random numbers)."""

_FIRST_GATE = NUMBERS - len(KINDS)
"""First of the columns that decide which of KINDS are applied."""
