"""Random masks for training inpainting."""

from __future__ import annotations

import torch
from torch import Tensor

_STROKES = 4
NUMBERS = 5 + 5 * _STROKES
"""Random numbers per mask."""


def draw_masks(height: int, width: int, random: Tensor) -> Tensor:
    """Draw masks, float32 (N, 1, height, width), 1 in the holes.

    Half of them are a rectangle with sides of a quarter to a half of the image's. The others are four straight strokes
    with round ends, each an eighth to a fifth of the shorter side thick.

    Args:
        random: float32 (N, NUMBERS) in (0, 1).
    """
    # Coordinates of pixel centres, in shares of the picture.
    down = (torch.arange(height, device=random.device) + 0.5) / height
    across = (torch.arange(width, device=random.device) + 0.5) / width
    kind, numbers = random[:, :1, None], random[:, 1:, None, None]
    strokes = numbers[:, 4:].reshape(len(random), _STROKES, 5, 1, 1)
    mask = torch.where(kind < 0.5, _draw_rectangles(down, across, numbers[:, :4]), _draw_strokes(down, across, strokes))
    return mask[:, None].float()


def centre_mask(height: int, width: int) -> Tensor:
    """A rectangle in the middle with half the height and width, float32 (1, 1, height, width)."""
    mask = torch.zeros(1, 1, height, width)
    mask[..., height // 4 : height - height // 4, width // 4 : width - width // 4] = 1
    return mask


def _draw_rectangles(down: Tensor, across: Tensor, random: Tensor) -> Tensor:
    """Bool (N, height, width) from four numbers (N, 4, 1, 1): height, width, and position."""
    tall, wide = 0.25 + 0.25 * random[:, 0], 0.25 + 0.25 * random[:, 1]
    top, left = (1 - tall) * random[:, 2], (1 - wide) * random[:, 3]
    rows = (down[:, None] >= top) & (down[:, None] < top + tall)
    return rows & (across >= left) & (across < left + wide)


def _draw_strokes(down: Tensor, across: Tensor, random: Tensor) -> Tensor:
    """Bool (N, height, width) from (N, strokes, 5, 1, 1): both ends and the thickness. A pixel belongs to a stroke when
    its distance from the line between the ends is at most half the thickness."""
    scale = min(len(down), len(across))
    rows, columns = down[:, None] * len(down) / scale, across * len(across) / scale
    first, last = random[:, :, 0] * rows.max(), random[:, :, 2] * rows.max()
    left, right = random[:, :, 1] * columns.max(), random[:, :, 3] * columns.max()
    tall, wide = last - first, right - left
    along = ((rows - first) * tall + (columns - left) * wide) / (tall.square() + wide.square() + 1e-8)
    along = along.clamp(0, 1)
    distance = (rows - first - along * tall).square() + (columns - left - along * wide).square()
    radius = (0.125 + 0.075 * random[:, :, 4]) / 2
    return (distance <= radius.square()).any(1)
