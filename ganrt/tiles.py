"""Cut a picture into overlapping windows, so that a model of limited receptive field computes it in little memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from ganrt.spec import Spec

MAX_OVERLAP = 64
"""Windows reach beyond their tiles by the receptive-field radius, at most by this many input pixels: the influence of
pixels farther away has never been visible."""
_INPUT_PIXELS = 512 * 512
_OUTPUT_PIXELS = 1024 * 1024
"""Pixels computed at a time. Networks that end at the output's size hold feature maps of it: with 64 channels in
float32, one of so many pixels is 256 MiB."""
_MARGINS = 6
"""A window is at least so many margins wide: two of them are computed for a neighbour too."""


class Tile(NamedTuple):
    """Part of a padded picture. It is computed inside a larger window, whose margin is dropped. All are (row, column)
    in input pixels."""

    corner: tuple[int, int]
    """First row and column of the tile."""
    end: tuple[int, int]
    """Row and column after the last."""
    start: tuple[int, int]
    """First row and column of the window."""


def count_pixels_at_once(spec: Spec) -> int:
    """Return the input pixels to compute at a time: 512 * 512, or fewer where the output has more than 1024 * 1024."""
    return min(_INPUT_PIXELS, _OUTPUT_PIXELS // spec.output.scale**2)


def compute_margin(spec: Spec) -> int:
    """Return by how many input pixels a window reaches beyond its tile: the receptive-field radius up to MAX_OVERLAP,
    rounded up to what the input is a multiple of."""
    return _round_up(min(spec.output.reach or 0, MAX_OVERLAP), spec.images[0].multiple_of)


def choose_window_side(spec: Spec) -> int:
    """Return the largest side of a window in input pixels: the square of `count_pixels_at_once`, or _MARGINS margins if
    that is more."""
    rule = spec.images[0].multiple_of
    return max(math.isqrt(count_pixels_at_once(spec)) // rule * rule, _MARGINS * compute_margin(spec), rule)


def choose_window_sides(spec: Spec, size: tuple[int, int]) -> tuple[int, int]:
    """Return the largest height and width of the windows of a picture: of those with no more pixels than a square of
    `choose_window_side`, the ones that compute least in all. Long windows overlap less than square ones.

    Args:
        size: height and width of the picture, multiples of what the input is a multiple of.
    """
    margin, rule = compute_margin(spec), spec.images[0].multiple_of
    most = choose_window_side(spec) ** 2
    found: list[tuple[int, int, int]] = []
    for rows in range(1, -(-size[0] // rule) + 1):
        height = _measure_window(size[0], rows, margin, rule)
        width = most // height // rule * rule
        if width > 2 * margin:
            columns = _count_windows(size[1], width, margin)
            width = _measure_window(size[1], columns, margin, rule)
            found.append((rows * columns * height * width, height, width))
        if height <= 2 * margin + rule:
            break
    return min(found)[1:]


def plan_tiles(
    size: tuple[int, int], sides: tuple[int, int], margin: int, multiple_of: int
) -> tuple[tuple[int, int], Iterator[Tile]]:
    """Cut a picture into as few tiles as possible.

    Args:
        size: height and width of the picture, multiples of `multiple_of`.
        sides: largest height and width of a window, above twice the margin; multiples of `multiple_of`.
        margin: by how much a window reaches beyond its tile, except at the border of the picture; a multiple likewise.
        multiple_of: what the sides and the first row and column of a window are a multiple of.

    Returns the height and width of all windows, which are the same, so that a backend sees only one shape, and as small
    as that number of tiles allows; and the tiles.
    """
    rows, columns = (_cut_axis(*lengths, margin, multiple_of) for lengths in zip(size, sides, strict=True))
    tiles = (Tile(*zip(row, column, strict=True)) for row, column in product(rows[1], columns[1]))
    return (rows[0], columns[0]), tiles


def _cut_axis(length: int, side: int, margin: int, multiple_of: int) -> tuple[int, list[tuple[int, int, int]]]:
    """Return the side of the windows along an axis; and of each tile first pixel, end and first pixel of its window."""
    count = _count_windows(length, side, margin)
    wide = _measure_window(length, count, margin, multiple_of)
    starts = [min(k * (wide - 2 * margin), length - wide) for k in range(count)]
    ends = [*(start + wide - margin for start in starts[:-1]), length]
    return wide, list(zip([0, *ends[:-1]], ends, starts, strict=True))


def _count_windows(length: int, side: int, margin: int) -> int:
    """How many windows of at most this side cover an axis."""
    return 1 if length <= side else -(-(length - 2 * margin) // (side - 2 * margin))


def _measure_window(length: int, count: int, margin: int, multiple_of: int) -> int:
    """The side of the windows when so many cover an axis."""
    return _round_up(-(-(length + 2 * margin * (count - 1)) // count), multiple_of)


def _round_up(value: int, multiple_of: int) -> int:
    return value + -value % multiple_of
