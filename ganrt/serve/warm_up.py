"""Run a model at every batch size before it serves, and find the batch size beyond which batching gains nothing."""

from __future__ import annotations

from collections.abc import Mapping

from ganrt import feeds
from ganrt.errors import BackendError, GanrtError
from ganrt.generator import Generator
from ganrt.golden import proof_picture_size
from ganrt.sample_request import check_request
from ganrt.serve.clock import now

_GAIN = 1.05
"""A larger batch must raise the images per second by this factor, or it is not counted as faster."""
_NEAR = 0.9
"""The smallest batch that reaches this part of the most images per second is used; larger ones only take longer."""


def warm_up(name: str, generator: Generator, largest_batch: int) -> dict[int, float]:
    """Run a batch of every size, twice.

    A session that takes any size gets powers of two, until two in a row were not faster per image than smaller ones;
    one that has certain sizes gets all of them.

    Args:
        name: of the model, for messages.
        generator: the model.
        largest_batch: most rows.

    Returns batch size -> seconds of the second run. Raises BackendError if a batch fails, with its size.
    """
    spec, fixed = generator.spec, generator.session.batch_sizes
    sizes = [size for size in fixed if size <= largest_batch] or fixed[:1]
    if not fixed:
        sizes = [*(2**k for k in range(largest_batch.bit_length()) if 2**k < largest_batch), largest_batch]
    picture = proof_picture_size(spec) if spec.images else None
    seconds: dict[int, float] = {}
    best, slower = 0.0, 0
    for rows in sizes:
        inputs = feeds.draw_rows(spec, check_request(spec, rows).take_rows(0, rows), picture)
        try:
            generator(**inputs)
            started = now()
            generator(**inputs)
            seconds[rows] = now() - started
        except GanrtError as error:
            raise BackendError(f"{name} failed on a batch of {rows} while it was warmed up: {error}") from error
        rate = rows / max(seconds[rows], 1e-9)
        slower = 0 if rate > best * _GAIN else slower + 1
        best = max(best, rate)
        if slower == 2 and not fixed:
            break
    return seconds


def choose_largest_batch(seconds: Mapping[int, float]) -> int:
    """Return the smallest batch size that makes nearly as many images per second as the best one.

    Args:
        seconds: batch size -> seconds of a batch, at least one.
    """
    rates = {size: size / max(time, 1e-9) for size, time in seconds.items()}
    return min(size for size, rate in rates.items() if rate >= _NEAR * max(rates.values()))
