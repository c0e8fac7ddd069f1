"""Find out whether a session's memory grows with every new picture size, for the conformance test."""

from __future__ import annotations

import os
from itertools import islice, product
from pathlib import Path

import numpy as np

from ganrt.backend import Session
from ganrt.feeds import Array, Feeds
from ganrt.spec import Spec

_SIDES = 12
"""There are as many heights and widths."""
_ALLOWED = 2**17
"""Bytes a size may cost: kernels of PyTorch, of which it keeps 1024, cost less in small networks."""


def describe_growth(session: Session, spec: Spec, inputs: Feeds) -> str | None:
    """Run one picture of each of 144 sizes, and say how memory grew if it did so to the end.

    Args:
        session: an open session; of a model without images, or with images of one size, nothing is run.
        spec: inputs and output of the model.
        inputs: sample inputs, at least one row; those that are no images of free size are taken from them.

    Returns None if the last quarters grew by 128 KiB a size at most, or the system does not tell. One of them may have
    grown more, by something that happened once.
    """
    free = [item for item in spec.images if item.size is None]
    if not free or not _STATM.exists():
        return None
    rule = int(np.lcm.reduce([item.multiple_of for item in free]))
    sides = [rule * k for k in range(-(-16 // rule) + _SIDES, -(-16 // rule), -1)]
    quarter, grown = _SIDES**2 // 4, []
    sizes = product(sides, sides)  # the largest first, which decides how much memory is used at all
    while part := list(islice(sizes, quarter)):
        before = read_resident_bytes()
        for size in part:
            session.submit({name: _resize(spec, name, array[:1], size) for name, array in inputs.items()}).wait()
        grown.append((read_resident_bytes() - before) / quarter)
    least = min(grown[-2:])
    return None if least <= _ALLOWED else f"it grew by {least / 2**20:.2f} MiB for each new picture size"


_STATM = Path("/proc/self/statm")


def read_resident_bytes() -> int:
    """Return the memory of this process that is in RAM; Linux only."""
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _resize(spec: Spec, name: str, row: Array, size: tuple[int, int]) -> Array:
    """Return an input for a picture of a size."""
    free = any(item.name == name and item.size is None for item in spec.images)
    return np.full((*row.shape[:2], *size), row.flat[0], row.dtype) if free else np.ascontiguousarray(row)
