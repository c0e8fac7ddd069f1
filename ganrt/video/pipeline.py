"""Frames in batches, each computed in a thread while the next is decoded and the last is encoded."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np

from ganrt.errors import BackendError, RequestError
from ganrt.images import Pictures
from ganrt.sampling import compute_ahead
from ganrt.video.encoding import MadeFrame
from ganrt.video.reader import SourceFrame

Change: TypeAlias = Callable[[Pictures], Pictures]
"""Makes new frames of frames: RGB, uint8 (N, H, W, 3) -> uint8 (N, H', W', 1 or 3). `Generator.transform` is one."""
ItemT = TypeVar("ItemT")


class SourceBatch(NamedTuple):
    """Frames of a source, to be computed at a time."""

    frames: list[SourceFrame]
    is_last: bool
    """Whether a segment ends with it."""


class MadeBatch(NamedTuple):
    """The frames that were made of a batch."""

    timestamps: list[int]
    durations: list[int]
    pictures: Pictures
    """RGB, uint8 (N, H, W, 3)."""
    digest: str
    """Of the last frame of the source, if a segment ends with it; else empty."""

    @property
    def frames(self) -> Iterator[MadeFrame]:
        """The frames, one by one."""
        return map(MadeFrame, self.timestamps, self.durations, self.pictures)


def split_frames(frames: Iterator[SourceFrame], batch: int, segment: int) -> Iterator[SourceBatch]:
    """Split frames into batches, which end where segments end: the same frames are computed together, wherever a job
    was stopped."""
    group: list[SourceFrame] = []
    for count, frame in enumerate(frames):
        if group and (len(group) == batch or count % segment == 0):
            yield SourceBatch(group, count % segment == 0)
            group = []
        group.append(frame)
    if group:
        yield SourceBatch(group, True)


def run_ahead(items: Iterator[ItemT]) -> Generator[ItemT, None, None]:
    """Yield items; a thread makes the next one meanwhile."""
    ahead = compute_ahead(lambda _: [*itertools.islice(items, 1)], itertools.count())
    with closing(ahead) as made:
        for found in made:
            if not found:
                return
            yield found[0]


def compute_batches(
    frames: Iterator[SourceFrame], change: Change, batch: int, segment: int
) -> Generator[MadeBatch, None, None]:
    """Yield batches of new frames. Two threads decode and compute ahead, a batch each: memory is bounded by six.

    Args:
        batch: most frames in a batch.
        segment: frames in a segment.

    Raises what `change` raises; RequestError for pictures that are not RGB or grey, BackendError for another number.
    """

    def compute(taken: SourceBatch) -> MadeBatch:
        made = check_made(change(np.stack([frame.picture for frame in taken.frames])), len(taken.frames))
        return MadeBatch(
            [frame.pts for frame in taken.frames],
            [frame.duration for frame in taken.frames],
            made,
            taken.frames[-1].digest if taken.is_last else "",
        )

    # Closed here, not when Python collects them: that may happen in one of their threads, which would wait for itself.
    with (
        closing(run_ahead(split_frames(frames, batch, segment))) as taken,
        closing(run_ahead(map(compute, taken))) as made,
    ):
        yield from made


def check_made(made: Pictures, count: int) -> Pictures:
    """RGB of what was made for `count` frames. Raises RequestError, BackendError."""
    if made.dtype != np.uint8 or made.ndim != 4 or made.shape[3] not in (1, 3):
        raise RequestError(
            f"the frames became {made.dtype} of shape {made.shape}; videos are written of uint8 (N, H, W, 1 or 3), "
            "without opacity"
        )
    if len(made) != count:
        raise BackendError(f"{count} frames became {len(made)}; each must become one")
    return made if made.shape[3] == 3 else made.repeat(3, axis=3)
