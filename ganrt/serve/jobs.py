"""`Job`: a request on its way through a batcher, and `Answer`, what becomes of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

from ganrt.picture_inputs import Values
from ganrt.sample_request import Draw
from ganrt.serve.rows import Rows


class Answer(NamedTuple):
    """The pictures of a request, and how they were made."""

    pictures: Values
    """(n, H, W, C), owned by the caller: uint8, or uint16 for pictures that are made of such."""
    draw: Draw | None
    """What samples were drawn from; None for other requests."""
    queue_s: float
    """Seconds from the request until the first of its batches was started."""
    compute_s: float
    """Seconds in which batches with rows of the request were computed."""
    batch_rows: int
    """Rows in the last of these batches."""
    batch_requests: int
    """Requests that these rows belong to."""


@dataclass(eq=False)
class Job:
    """A request on its way."""

    rows: Rows
    """What is asked for."""
    draw: Draw | None
    """What samples were drawn from."""
    since: float
    """When it was made, by the clock of the batcher."""
    deadline: float = math.inf
    """When it is worth nothing any more."""
    future: Future[Answer] = field(default_factory=Future)
    """Gets the answer. It stays pending until then, so that it can be cancelled all the time."""
    taken: int = 0
    """Rows that are computed already, or in flight."""
    turn_left: int = 0
    """Rows that it may still have computed in the turn that it is in; 0 between turns."""
    made: int = 0
    """Rows that are computed already."""
    is_settled: bool = False
    """Whether the answer or an error is on its way to the future."""
    queue_s: float = 0.0
    """As in `Answer`; the next one likewise."""
    compute_s: float = 0.0

    @property
    def waiting(self) -> int:
        """Rows that wait."""
        return self.rows.count - self.taken


class Part(NamedTuple):
    """Rows of a request in a batch."""

    job: Job
    """The request."""
    first: int
    """Index of the first row in the request."""
    rows: int
    """Number of rows."""


def halve_batch(parts: Sequence[Part]) -> tuple[list[Part], list[Part]]:
    """Split a batch of at least two rows; a request may have rows in both halves."""
    left = sum(part.rows for part in parts) // 2
    first: list[Part] = []
    second: list[Part] = []
    for job, start, rows in parts:
        share = min(rows, left)
        left -= share
        if share:
            first.append(Part(job, start, share))
        if rows > share:
            second.append(Part(job, start + share, rows - share))
    return first, second
