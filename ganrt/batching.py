"""How n rows are cut into the batch sizes that a session has, and run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from ganrt.backend import Pending, Session
from ganrt.errors import BackendError
from ganrt.feeds import Array, Feeds
from ganrt.spec import Output


class Batch(NamedTuple):
    """Rows first ... first + rows - 1, computed as a batch of `size` (the difference is padding, thrown away)."""

    first: int
    rows: int
    size: int


def plan(count: int, sizes: tuple[int, ...], limit: int) -> Iterator[Batch]:
    """Cut `count` rows into batches.

    Args:
        sizes: the batch sizes a session has, or () when it takes any.
        limit: the largest batch wanted; a session whose smallest size is larger is padded all the same.

    The largest size that the remaining rows fill is taken first; the rest is padded up to the smallest size. The cut
    never changes a picture: every row depends on its own inputs alone.
    """
    usable = sorted(s for s in sizes if s <= limit) or sorted(sizes)[:1]
    first = 0
    while first < count:
        left = count - first
        size = max((s for s in usable if s <= left), default=usable[0]) if sizes else min(left, limit)
        yield Batch(first, min(left, size), size)
        first += size


def run(
    session: Session, output: Output, count: int, feeds_of: Callable[[Batch], Feeds], limit: int
) -> Iterator[tuple[Batch, Array]]:
    """Compute `count` rows; batch k + 1 is under way while batch k is handed out.

    Args:
        feeds_of: makes the inputs of one batch, `batch.size` rows of each.

    Yields each batch with its images, float32 (batch.rows, C, H, W), owned by the receiver. Raises BackendError when
    the session returns anything else than its contract says.
    """
    running: tuple[Batch, Pending] | None = None
    for batch in plan(count, session.batch_sizes, limit):
        following = (batch, session.submit(feeds_of(batch)))
        if running is not None:
            yield running[0], _images(session, output, *running)
        running = following
    if running is not None:
        yield running[0], _images(session, output, *running)


def run_all(session: Session, output: Output, feeds: Feeds, limit: int) -> Array:
    """Images of all rows of `feeds` in one float32 NCHW array; there must be one row at least."""
    count = len(next(iter(feeds.values())))
    batches = run(session, output, count, lambda b: rows(feeds, b), limit)
    return np.concatenate([images for _, images in batches])


def rows(feeds: Feeds, batch: Batch) -> Feeds:
    """The rows of one batch, padded to its size by repeating the last one; `feeds` itself when that is all of them."""
    first, count, size = batch
    if first == 0 and size == count == len(next(iter(feeds.values()))):
        return feeds
    index = np.minimum(np.arange(first, first + size), first + count - 1)
    return {name: array[index] for name, array in feeds.items()}


def _images(session: Session, output: Output, batch: Batch, pending: Pending) -> Array:
    outputs = pending.wait()
    if output.name not in outputs:
        raise BackendError(f"{session.backend} returned the outputs {sorted(outputs)}; {output.name!r} is missing")
    images = outputs[output.name]
    wanted = (batch.size, output.channels, *(output.size or images.shape[2:]))
    if images.dtype != np.float32 or images.ndim != 4 or images.shape != wanted:
        raise BackendError(
            f"{session.backend} returned {images.dtype} of shape {images.shape}; a batch of {batch.size} of this model "
            f"is float32 of shape {wanted}"
        )
    return images[: batch.rows]
