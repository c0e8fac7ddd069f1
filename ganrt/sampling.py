"""Make the pictures of a request for samples, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeAlias, TypeVar

import numpy as np

from ganrt import batching, forking
from ganrt.backend import PictureSession, Session
from ganrt.batching import Batch
from ganrt.draw_ahead import DrawAhead
from ganrt.errors import BackendError, RequestError
from ganrt.feeds import Feeds
from ganrt.images import Floats, Pictures, to_uint8
from ganrt.levels import find_levels
from ganrt.sample_request import Draw, SampleRequest
from ganrt.spec import Output, Spec
from ganrt.wording import count_things

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

RunBatches: TypeAlias = Callable[[Iterator[Batch]], None]
"""Computes batches."""


def make_pictures(
    session: Session,
    output: Output,
    request: SampleRequest,
    first: int,
    rows: int,
    draw_ahead: DrawAhead,
    run_in_turns: Callable[[int, RunBatches], None],
) -> Pictures:
    """Return the `rows` pictures of a request from the `first` one on, uint8 NHWC. They are made on the device if the
    session can, else on the host.

    Args:
        draw_ahead: draws the samples on the host.
        run_in_turns: gets the number of rows, and a function that computes some of their batches.

    Raises RequestError if there is too little memory, BackendError if an image has values that are not finite.
    """
    pictures = _allocate(rows, output)

    def make_draw(batch: Batch) -> Draw:
        return request.take_rows(first + batch.first, batch.rows)

    def make_feeds(batch: Batch) -> Feeds:
        drawn = draw_ahead.draw(request, first + batch.first, batch.rows)
        return batching.take_batch(drawn, Batch(0, batch.rows, batch.size))

    def receive_pictures(batch: Batch, made: Pictures) -> None:
        nonlocal pictures
        if batch.rows == rows:
            pictures = made
        else:
            pictures[batch.first : batch.first + batch.rows] = made

    def receive_images(batch: Batch, images: Floats) -> None:
        receive_pictures(batch, to_uint8(images, find_levels(output)))

    def run(batches: Iterator[Batch]) -> None:
        if isinstance(session, PictureSession):
            batching.run_pictures(session, output, batches, make_draw, receive_pictures)
        else:
            batching.run_batches(session, output, batches, make_feeds, receive_images)

    run_in_turns(rows, run)
    return pictures


def make_device_pictures(session: Session, spec: Spec, request: SampleRequest) -> Any:
    """Return the pictures of a request as one array on the session's device, which owns it. Raises RequestError if the
    session makes none there, or not as many at a time."""
    if not isinstance(session, PictureSession):
        raise RequestError(f"the {session.backend} backend cannot return pictures on {session.device}; use tensorrt")
    most = session.batch_sizes[-1]
    if not 1 <= request.rows <= most:
        asked = count_things(request.rows, "picture was", "pictures were")
        raise RequestError(f"{asked} asked for as one array on the GPU; ask for 1 to {most}")
    return session.submit_draw(request.take_rows(0, request.rows)).device_arrays()[spec.output.name]


def _allocate(rows: int, output: Output) -> Pictures:
    height, width = output.size or (0, 0)
    try:
        return np.empty((rows, height, width, output.channels), np.uint8)
    except (MemoryError, ValueError) as error:
        size = f"of {width} x {height}"
        asked = count_things(rows, f"picture {size} does", f"pictures {size} do")
        raise RequestError(f"{asked} not fit into memory; use stream()") from error


def compute_ahead(compute: Callable[[ItemT], ResultT], items: Iterable[ItemT]) -> Generator[ResultT, None, None]:
    """Yield `compute(item)` for every item; a thread computes the next one meanwhile. Raises BackendError in a forked
    child, where that thread does not exist."""
    generation = forking.generation()

    def wait(future: Future[ResultT]) -> ResultT:
        if forking.generation() != generation:
            raise BackendError("this stream was started before the process forked: start one in the child")
        return future.result()

    with ThreadPoolExecutor(1, "ganrt-stream") as worker:
        ahead: Future[ResultT] | None = None
        for item in items:
            current, ahead = ahead, worker.submit(compute, item)
            if current is not None:
                yield wait(current)
        if ahead is not None:
            yield wait(ahead)
