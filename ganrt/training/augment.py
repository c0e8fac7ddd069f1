"""DiffAugment: what a discriminator sees of few pictures (Zhao et al., "Differentiable Augmentation for Data-Efficient
GAN Training", NeurIPS 2020).

Real and generated images are changed alike, whenever the discriminator looks, and gradients flow through the changes;
so it never learns the few pictures by heart, and the generator does not learn the changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

NUMBERS = 10
"""Random numbers per image."""


def augment(images: Tensor, kinds: Sequence[str], random: Tensor, chance: float = 1.0) -> Tensor:
    """Change images (N, C, H, W) in [-1, 1] by every kind of KINDS that is named; the result may leave the range.

    Args:
        random: float32 (N, NUMBERS) in (0, 1); each kind has columns of its own, so that one is not changed by another.
        chance: probability of each kind, for each image by itself.
    """
    for kind in kinds:
        changed = KINDS[kind](images, random)
        if chance < 1:
            hit = random[:, _FIRST_GATE + list(KINDS).index(kind)] < chance
            changed = torch.where(hit[:, None, None, None], changed, images)
        images = changed
    return images


def _change_color(images: Tensor, random: Tensor) -> Tensor:
    """Brightness + U(-0.5, 0.5), saturation U(0, 2) about the pixel's mean, contrast U(0.5, 1.5) about the image's."""
    brightness, saturation, contrast = random[:, :3, None, None, None].unbind(1)
    images = images + (brightness - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = grey + (images - grey) * (2 * saturation)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (images - mean) * (0.5 + contrast)


def _translate(images: Tensor, random: Tensor) -> Tensor:
    """A shift by up to an eighth of the side each way, in whole pixels; zeros come in. Written as products with shifted
    unit matrices, whose gradients are the same in every run."""
    down, right = (_shift_matrices(images.shape[2 + axis], random[:, 3 + axis]) for axis in (0, 1))
    return down @ images @ right.mT


def _shift_matrices(side: int, random: Tensor) -> Tensor:
    """(N, 1, side, side): one where row = column + shift."""
    most = int(side / 8 + 0.5)
    shift = _to_whole(random, 2 * most + 1) - most
    place = torch.arange(side, device=random.device)
    moved = place[:, None] == place[None, :] + shift[:, None, None]
    return moved[:, None].to(random.dtype)


def _cut_out(images: Tensor, random: Tensor) -> Tensor:
    """A zero square of half the side, its centre anywhere."""
    outside = [_outside_square(images.shape[2 + axis], random[:, 5 + axis]) for axis in (0, 1)]
    keep = outside[0][:, None, :, None] | outside[1][:, None, None, :]
    return images * keep


def _outside_square(side: int, random: Tensor) -> Tensor:
    """(N, side): whether a row is outside the square."""
    cut = int(side / 2 + 0.5)
    first = _to_whole(random, side + 1 - cut % 2) - cut // 2
    place = torch.arange(side, device=random.device)[None, :] - first[:, None]
    return (place < 0) | (place >= cut)


def _to_whole(random: Tensor, count: int) -> Tensor:
    """u in (0, 1) -> one of 0 .. count - 1, int64."""
    return (random * count).long().clamp(max=count - 1)


KINDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "color": _change_color,
    "translation": _translate,
    "cutout": _cut_out,
}
"""Name, as `--augment` takes it, -> change of (images, random numbers)."""

_FIRST_GATE = NUMBERS - len(KINDS)
"""Column of the number that decides whether the first of KINDS is applied; those of the others follow."""
