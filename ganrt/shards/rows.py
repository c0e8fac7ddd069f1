"""`Rows`: consecutive pictures of a job, and what each was drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ganrt.feeds import draw_classes
from ganrt.generator import Generator
from ganrt.images import Pictures
from ganrt.sample_request import Draw, SampleRequest

_SINGULAR = {"seeds": "seed", "indices": "index", "labels": "label", "truncation": "truncation"}
"""Field of a draw -> what one entry is called."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Consecutive rows of a job, without their pictures."""

    numbers: NDArray[np.uint64]
    """Number of each picture, (n,), by which it is named."""
    draw: Draw
    """What the pictures are drawn from; drawn classes are in it."""
    digest: str
    """Of the bundle."""

    @classmethod
    def join(cls, parts: Sequence[Rows]) -> Rows:
        """Return the rows of several parts of a job, at least one."""
        numbers = np.concatenate([part.numbers for part in parts])
        return cls(numbers, Draw.join([part.draw for part in parts]), parts[0].digest)

    def describe(self, row: int) -> dict[str, int | float]:
        """Return the seed, index, label and truncation of a picture: those that it has. There is no truncation where it
        is the model's own."""
        found = {_SINGULAR[name]: column[row].item() for name, column in self.draw.list_columns().items()}
        return {name: value for name, value in found.items() if value == value}


def is_in_order(request: SampleRequest) -> bool:
    """Return whether the pictures of a request are consecutive samples of one seed. They are numbered by sample then,
    so that jobs that continue each other have different numbers, else from 0."""
    if isinstance(request.seed, int) and isinstance(request.start, int):
        return True
    draw = request.take_rows(0, request.rows)
    counted = np.arange(draw.rows, dtype=np.uint64)
    return bool((draw.seeds == draw.seeds[:1]).all() and (draw.indices - draw.indices[:1] == counted).all())


def make_rows(
    generator: Generator, request: SampleRequest, first: int, count: int, in_order: bool
) -> tuple[Rows, Pictures]:
    """Make the pictures of some rows of a request.

    Args:
        generator: makes them.
        request: checked.
        first, count: the rows.
        in_order: what `is_in_order` returned for the request.

    Returns the rows, and uint8 (count, H, W, C), owned by the caller. Raises what `Generator.make` raises.
    """
    draw = request.take_rows(first, count)
    draw = replace(draw, labels=draw_classes(generator.spec, draw))
    numbers = draw.indices if in_order else np.arange(first, first + count, dtype=np.uint64)
    return Rows(numbers, draw, generator.info.digest or ""), generator.make(draw)
