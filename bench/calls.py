"""The two calls that are timed in turn on the same inputs: the bare session, and `Generator` end to end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ganrt import feeds, images
from ganrt.backend import Session
from ganrt.batching import Batch, take_batch
from ganrt.errors import BackendError
from ganrt.feeds import Array, Feeds
from ganrt.generator import Generator
from ganrt.images import Pictures
from ganrt.levels import find_levels
from ganrt.spec import Spec

from . import clock
from .cases import Size

SEED = 0
"""All inputs are samples of this seed."""


@dataclass(frozen=True)
class Inputs:
    """The same `batch` inputs for both calls: samples first, first + 1, ... of SEED."""

    first: int
    """Index of the first sample."""
    batch: int
    """Number of samples."""
    feeds: Feeds
    """Inputs of the session."""
    pictures: dict[str, Any] | None
    """Inputs of `Generator.transform`, with images as uint8 NHWC; None for a model that is sampled from a seed."""


def draw_inputs(spec: Spec, first: int, batch: int, size: Size | None) -> Inputs:
    """Draw inputs for one pair of calls.

    Args:
        size: height and width in pixels of the synthetic input pictures, for models that take pictures. They have as
            many channels as the network takes, so a luma network gets grey ones.
    """
    drawn = feeds.draw_feeds(spec, SEED, first, batch, size=size)
    if not spec.images:
        return Inputs(first, batch, drawn, None)
    pictures: dict[str, Array] = {
        item.name: images.to_uint8(drawn[item.name], find_levels(item)) for item in spec.images
    }
    rounded = {item.name: images.from_uint8(pictures[item.name], find_levels(item)) for item in spec.images}
    return Inputs(first, batch, drawn | rounded, drawn | pictures)


def time_pair(generator: Generator, inputs: Inputs, session_first: bool) -> tuple[int, int]:
    """Time the bare session and the end-to-end call, in either order. Returns the nanoseconds of each.

    Raises BackendError when the two made different pictures.
    """
    if session_first:
        session_ns, raw = time_session(generator.session, inputs.feeds)
        end_to_end_ns, pictures = _time_end_to_end(generator, inputs)
    else:
        end_to_end_ns, pictures = _time_end_to_end(generator, inputs)
        session_ns, raw = time_session(generator.session, inputs.feeds)
    same = images.to_uint8(raw[generator.spec.output.name], find_levels(generator.spec.output))
    if same.shape != pictures.shape or int(np.abs(same.astype(np.int16) - pictures).max()) > 1:
        call = "Generator.sample" if inputs.pictures is None else "Generator.transform"
        raise BackendError(f"the session and {call} made different pictures from the same inputs while timed")
    return session_ns, end_to_end_ns


def time_session(session: Session, inputs: Feeds) -> tuple[int, dict[str, Array]]:
    """Time one batch on the bare session. Returns the nanoseconds and the outputs.

    The batch is padded to a size that the session has, before the clock starts.
    """
    count = len(next(iter(inputs.values())))
    size = next((size for size in session.batch_sizes if size >= count), count)
    padded = take_batch(inputs, Batch(0, count, size))
    started = clock.now_ns()
    outputs = session.submit(padded).wait()
    return clock.now_ns() - started, {name: array[:count] for name, array in outputs.items()}


def _time_end_to_end(generator: Generator, inputs: Inputs) -> tuple[int, Pictures]:
    started = clock.now_ns()
    if inputs.pictures is None:
        pictures = generator.sample(inputs.batch, SEED, inputs.first)
    else:
        pictures = generator.transform(tile=0, **inputs.pictures)
    return clock.now_ns() - started, pictures
