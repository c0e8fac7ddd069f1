"""How n rows are cut into the batch sizes that a session has, at the least cost, and run."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ganrt.backend import Pending, PictureSession, Session
from ganrt.errors import BackendError
from ganrt.feeds import Array, Draw, Feeds
from ganrt.images import Pictures
from ganrt.spec import Output

_MAX_BATCH = 32
_MAX_VALUES = 2**24
"""A batch is at most _MAX_BATCH images and this many output values: 64 MiB of float32."""


def largest_batch(output: Output) -> int:
    """Most images of a model to compute at a time."""
    height, width = output.size or (1024, 1024)
    return max(1, min(_MAX_BATCH, _MAX_VALUES // (output.channels * height * width)))


class Batch(NamedTuple):
    """Rows first ... first + rows - 1, computed as a batch of `size` (the difference is padding, thrown away)."""

    first: int
    rows: int
    size: int


def plan_batches(
    count: int, sizes: tuple[int, ...], limit: int, seconds: Mapping[int, float] | None = None
) -> Iterator[Batch]:
    """Cut `count` rows into batches.

    Args:
        sizes: the batch sizes a session has, or () when it takes any.
        limit: the largest batch wanted; a session whose smallest size is larger is padded all the same.
        seconds: what a batch of some sizes was measured to take, above 0. Only sizes that the session has count.

    With measured times the sum of them is the least possible, padding allowed; among equals fewer batches, then less
    padding. Of a session that takes any size, the measured sizes and `limit` are used, and any other one at most once,
    for what is left over. What was not measured is taken to cost what a straight line between its measured neighbours
    says, below them as much as the smallest, above them as much per row as the largest. Without measured times the
    largest size that the remaining rows fill is taken first, and the rest is padded up to the smallest size.

    The cut never changes a picture: every row depends on its own inputs alone.
    """
    usable = sorted(s for s in sizes if s <= limit) or sorted(sizes)[:1] or list(range(1, limit + 1))
    measured = {s: t for s, t in (seconds or {}).items() if s in sizes or not sizes}
    if measured:
        times = _estimate_times(usable, measured)
        regular = {s: t for s, t in times.items() if sizes or s in measured or s == limit}
        chosen = _plan_cheapest(count, tuple(regular.items()), {} if sizes else times)
    else:
        chosen = _plan_largest_first(count, usable)
    first = 0
    for size in chosen:
        yield Batch(first, min(count - first, size), size)
        first += size


def _plan_largest_first(count: int, sizes: Sequence[int]) -> Iterator[int]:
    while count > 0:
        size = sizes[max(bisect_right(sizes, count) - 1, 0)]
        yield size
        count -= size


def _estimate_times(sizes: Sequence[int], measured: Mapping[int, float]) -> dict[int, int]:
    """Nanoseconds of a batch of each size, by the rule that `plan` states. Whole numbers, so that equal is equal in
    whatever order they are added."""
    known = sorted(measured)
    last = known[-1]
    inside = np.interp(sizes, known, [measured[s] for s in known])
    seconds = {s: float(t) if s <= last else measured[last] * s / last for s, t in zip(sizes, inside, strict=True)}
    return {s: max(1, round(t * 1e9)) for s, t in seconds.items()}


class _Cost(NamedTuple):
    """Of a cut; the lesser is better."""

    ns: int
    batches: int
    rows: int
    """With the padding."""

    def plus(self, size: int, ns: int) -> _Cost:
        """With one more batch."""
        return _Cost(self.ns + ns, self.batches + 1, self.rows + size)


def _plan_cheapest(count: int, times: tuple[tuple[int, int], ...], once: Mapping[int, int]) -> Iterator[int]:
    """Sizes that together hold `count` rows at the least cost.

    Args:
        times: each size with its nanoseconds.
        once: the same for sizes of which one may be used, once.

    Let b be the size of `times` with the least cost per row. Of any b other batches, some have a total that b divides
    (two of the sums of the first k are equal modulo b), and batches of b rows in their place cost no more. So there is
    a best cut with fewer than b other batches, which hold at most (b - 1) * (largest size) rows: whatever is beyond
    that, and beyond the one of `once`, is cut into batches of b, and the table stays small however many rows there are.
    """
    best = min(times, key=lambda entry: (entry[1] / entry[0], -entry[0]))[0]
    bound = (best - 1) * max(size for size, _ in times) + max(once, default=0)
    bulk = max(0, -(-(count - bound) // best))
    yield from itertools.repeat(best, bulk)
    left, table, tail = count - bulk * best, _build_cost_table(bound, times), []
    trials = {s: table[left - s][0].plus(s, ns) for s, ns in once.items() if s <= left}
    odd = min(trials, key=trials.__getitem__, default=0)
    if odd and trials[odd] < table[left][0]:
        tail.append(odd)
        left -= odd
    while left > 0:
        tail.append(table[left][1])
        left -= tail[-1]
    yield from sorted(tail, reverse=True)


@lru_cache(maxsize=32)
def _build_cost_table(bound: int, times: tuple[tuple[int, int], ...]) -> tuple[tuple[_Cost, int], ...]:
    """Entry n: the cost of a best cut of n rows, and one of its sizes; n = 0 ... bound."""
    entries = [(_Cost(0, 0, 0), 0)]
    for n in range(1, bound + 1):
        entries.append(min((entries[max(0, n - s)][0].plus(s, ns), s) for s, ns in times))
    return tuple(entries)


def run_batches(
    session: Session,
    output: Output,
    count: int,
    feeds_of: Callable[[Batch], Feeds],
    limit: int,
    seconds: Mapping[int, float] | None = None,
) -> Iterator[tuple[Batch, Array]]:
    """Compute `count` rows; batch k + 1 is under way while batch k is handed out.

    Args:
        feeds_of: makes the inputs of one batch, `batch.size` rows of each.
        limit, seconds: how to cut (`plan`).

    Yields each batch with its images, float32 (batch.rows, C, H, W), owned by the receiver. Raises BackendError when
    the session returns anything else than its contract says.
    """
    batches = plan_batches(count, session.batch_sizes, limit, seconds)
    for batch, pending in _submit_ahead(batches, lambda batch: session.submit(feeds_of(batch))):
        yield batch, _wait_for_images(session, output, batch, pending)


def run_pictures(
    session: PictureSession, output: Output, draw: Draw, limit: int, seconds: Mapping[int, float] | None = None
) -> Iterator[tuple[Batch, Pictures]]:
    """The same for samples that a session draws, and makes pictures of, itself: uint8 (batch.rows, H, W, C)."""
    batches = plan_batches(draw.rows, session.batch_sizes, limit, seconds)
    for batch, pending in _submit_ahead(batches, lambda b: session.submit_draw(draw.part(b.first, b.rows))):
        made = pending.wait()[output.name]
        if made.dtype != np.uint8 or made.ndim != 4 or made.shape[::3] != (batch.rows, output.channels):
            raise BackendError(
                f"{session.backend} returned {made.dtype} of shape {made.shape} where {batch.rows} pictures were drawn"
            )
        yield batch, made


def _submit_ahead(batches: Iterable[Batch], submit: Callable[[Batch], Pending]) -> Iterator[tuple[Batch, Pending]]:
    """Each batch with its results under way; the next one is submitted before they are handed out."""
    running: tuple[Batch, Pending] | None = None
    for batch in batches:
        following = (batch, submit(batch))
        if running is not None:
            yield running
        running = following
    if running is not None:
        yield running


def run_all(
    session: Session, output: Output, feeds: Feeds, limit: int, seconds: Mapping[int, float] | None = None
) -> Array:
    """Images of all rows of `feeds` in one float32 NCHW array; there must be one row at least."""
    count = len(next(iter(feeds.values())))
    batches = run_batches(session, output, count, lambda b: take_batch(feeds, b), limit, seconds)
    return np.concatenate([images for _, images in batches])


def take_batch(feeds: Feeds, batch: Batch) -> Feeds:
    """The rows of one batch, padded to its size by repeating the last one; `feeds` itself when that is all of them."""
    first, count, size = batch
    if first == 0 and size == count == len(next(iter(feeds.values()))):
        return feeds
    index = np.minimum(np.arange(first, first + size), first + count - 1)
    return {name: array[index] for name, array in feeds.items()}


def _wait_for_images(session: Session, output: Output, batch: Batch, pending: Pending) -> Array:
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
