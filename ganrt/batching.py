"""Split n rows into batches of the sizes that a session has, at the least cost, and run them."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ganrt.backend import Pending, PictureSession, Session
from ganrt.errors import BackendError
from ganrt.fair_lock import FairLock
from ganrt.feeds import Feeds
from ganrt.images import Floats, Pictures
from ganrt.sample_request import Draw
from ganrt.spec import Output

_MAX_BATCH = 32
"""Most images in a batch."""
_MAX_VALUES = 2**24
"""Most output values in a batch: 64 MiB of float32."""


def largest_batch(output: Output) -> int:
    """Return the largest batch to compute at a time, from 1 to 32 images; a free size counts as 1024 x 1024 pixels."""
    height, width = output.size or (1024, 1024)
    return max(1, min(_MAX_BATCH, _MAX_VALUES // (output.channels * height * width)))


_PADDED = 3
"""At most one row of so many is padding in an untuned batch, unless no smaller batch could be used."""


class Batch(NamedTuple):
    """Rows first to first + rows - 1, computed as a batch of `size` rows; the rest is padding, which is dropped."""

    first: int
    """Index of the first row."""
    rows: int
    """Number of rows, at most `size`."""
    size: int
    """Batch size that the session runs."""


def plan_batches(
    count: int, sizes: tuple[int, ...], limit: int, seconds: Mapping[int, float] | None = None
) -> Iterator[Batch]:
    """Split `count` rows into batches.

    Args:
        count: number of rows.
        sizes: batch sizes of the session, or () if it takes any.
        limit: largest batch allowed. If all sizes are larger, the smallest one is used.
        seconds: batch size -> measured seconds, above 0; sizes that the session does not have are ignored.

    With measured times the total time is minimal, padding included; ties go to fewer batches, then to less padding. If
    the session takes any size, the batches have measured sizes or `limit`, and at most one batch has another size.
    Times that were not measured are interpolated linearly; below the smallest measured size its time is used, above the
    largest its time per row. Without measured times each batch is the largest that the remaining rows fill, until they
    fill at least two thirds of the next larger one, which is then padded; so is the smallest.

    The split never changes an image: each row depends only on its own inputs.
    """
    usable = _list_usable_sizes(sizes, limit)
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


@lru_cache(maxsize=32)
def _list_usable_sizes(sizes: tuple[int, ...], limit: int) -> tuple[int, ...]:
    return tuple(sorted(s for s in sizes if s <= limit) or sorted(sizes)[:1] or range(1, limit + 1))


def _plan_largest_first(count: int, sizes: Sequence[int]) -> Iterator[int]:
    """Batch sizes that hold `count` rows, by the rule of `plan_batches`; `sizes` ascend."""
    while count > 0:
        place = bisect_left(sizes, count)  # of the smallest size that holds all
        if place == len(sizes) or (place > 0 and (sizes[place] - count) * _PADDED > sizes[place]):
            place -= 1
        yield sizes[place]
        count -= sizes[place]


def _estimate_times(sizes: Sequence[int], measured: Mapping[int, float]) -> dict[int, int]:
    """Nanoseconds of a batch of each size, by the rule of `plan_batches`. They are integers, so that sums do not depend
    on the order of addition."""
    known = sorted(measured)
    last = known[-1]
    inside = np.interp(sizes, known, [measured[s] for s in known])
    seconds = {s: float(t) if s <= last else measured[last] * s / last for s, t in zip(sizes, inside, strict=True)}
    return {s: max(1, round(t * 1e9)) for s, t in seconds.items()}


class _Cost(NamedTuple):
    """Cost of a plan; compared as a tuple, lower is better."""

    ns: int
    """Total nanoseconds."""
    batches: int
    """Number of batches."""
    rows: int
    """Number of rows, padding included."""

    def plus(self, size: int, ns: int) -> _Cost:
        """The cost with one more batch."""
        return _Cost(self.ns + ns, self.batches + 1, self.rows + size)


def _plan_cheapest(count: int, times: tuple[tuple[int, int], ...], once: Mapping[int, int]) -> Iterator[int]:
    """Batch sizes that hold `count` rows at the least cost.

    Args:
        times: (size, nanoseconds) pairs.
        once: size -> nanoseconds, for sizes of which at most one batch may be used in total.

    Let b be the size in `times` with the least cost per row. Among any b batches of other sizes, some have a total that
    b divides (two of the b + 1 prefix sums are equal modulo b); replacing these by batches of b costs no more. So an
    optimal plan has fewer than b other batches, which hold at most (b - 1) * (largest size) rows. All rows beyond that,
    and beyond one batch of `once`, are split into batches of b, and the table stays small for any `count`.
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
    """Dynamic programme: entry n is the least cost of n rows and one size that a plan with it uses; n = 0 to bound."""
    entries = [(_Cost(0, 0, 0), 0)]
    for n in range(1, bound + 1):
        entries.append(min((entries[max(0, n - s)][0].plus(s, ns), s) for s, ns in times))
    return tuple(entries)


def take_turn(first: Batch, left: Iterator[Batch], lock: FairLock) -> Iterator[Batch]:
    """Yield the first batch, and those that are left until another thread waits for the lock."""
    yield first
    while not lock.has_waiters:
        batch = next(left, None)
        if batch is None:
            return
        yield batch


def run_batches(
    session: Session,
    output: Output,
    batches: Iterable[Batch],
    make_feeds: Callable[[Batch], Feeds],
    receive: Callable[[Batch, Floats], None],
) -> None:
    """Compute batches; batch k + 1 is in flight while batch k is received, and none when this returns or raises.

    Args:
        session: computes the batches.
        output: output of the model.
        batches: from `plan_batches`.
        make_feeds: returns the inputs of a batch, `batch.size` rows each.
        receive: gets each batch with its images, float32 (batch.rows, C, H, W), which it owns.

    Raises BackendError if the session returns an array of another name, dtype or shape.
    """

    def collect(batch: Batch, pending: Pending) -> None:
        receive(batch, _wait_for_images(session, output, batch, pending))

    _run_ahead(batches, lambda batch: session.submit(make_feeds(batch)), collect)


def run_pictures(
    session: PictureSession,
    output: Output,
    batches: Iterable[Batch],
    make_draw: Callable[[Batch], Draw],
    receive: Callable[[Batch, Pictures], None],
) -> None:
    """Like `run_batches`, for samples that the session draws and converts to pictures itself.

    Args:
        make_draw: returns the samples of a batch, `batch.rows` of them.
        receive: gets each batch with its pictures, uint8 (batch.rows, H, W, C), which it owns.
    """

    def collect(batch: Batch, pending: Pending) -> None:
        made = pending.wait()[output.name]
        if made.dtype != np.uint8 or made.ndim != 4 or made.shape[::3] != (batch.rows, output.channels):
            raise BackendError(
                f"{session.backend} returned {made.dtype} of shape {made.shape} where {batch.rows} pictures were drawn"
            )
        receive(batch, made)

    _run_ahead(batches, lambda batch: session.submit_draw(make_draw(batch)), collect)


def _run_ahead(
    batches: Iterable[Batch], submit: Callable[[Batch], Pending], collect: Callable[[Batch, Pending], None]
) -> None:
    """Collect each batch after the next one was submitted. Whatever fails, no batch stays in flight."""
    running: deque[tuple[Batch, Pending]] = deque()
    try:
        for batch in batches:
            running.append((batch, submit(batch)))
            if len(running) > 1:
                collect(*running.popleft())
        while running:
            collect(*running.popleft())
    finally:
        for _, pending in running:
            with suppress(Exception):  # the error that ended the run is raised, not those that follow from it
                pending.wait()


def run_all(
    session: Session, output: Output, feeds: Feeds, limit: int, seconds: Mapping[int, float] | None = None
) -> Floats:
    """Return the images of all rows of `feeds`, at least one: float32 NCHW, owned by the caller.

    `limit` and `seconds` are those of `plan_batches`; errors are those of `run_batches`.
    """
    count = len(next(iter(feeds.values())))
    batches = plan_batches(count, session.batch_sizes, limit, seconds)
    parts: list[Floats] = []
    run_batches(session, output, batches, lambda b: take_batch(feeds, b), lambda _, images: parts.append(images))
    return np.concatenate(parts)


def take_batch(feeds: Feeds, batch: Batch) -> Feeds:
    """Return the rows of one batch, padded to its size by repeating the last one. Returns `feeds` itself, without a
    copy, if the batch is all of it."""
    first, count, size = batch
    if first == 0 and size == count == len(next(iter(feeds.values()))):
        return feeds
    index = np.minimum(np.arange(first, first + size), first + count - 1)
    return {name: array[index] for name, array in feeds.items()}


def _wait_for_images(session: Session, output: Output, batch: Batch, pending: Pending) -> Floats:
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
