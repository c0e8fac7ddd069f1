"""The two calls that are timed in turn: the bare session, and the whole way that users go, on the same inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ganrt import feeds, images
from ganrt.backend import Session
from ganrt.batching import Batch, rows
from ganrt.errors import BackendError
from ganrt.feeds import Array, Feeds
from ganrt.generator import Generator
from ganrt.images import Pictures
from ganrt.spec import Spec

from . import clock
from .cases import Size

SEED = 0


@dataclass(frozen=True)
class Inputs:
    """Samples first, first + 1, ... of SEED."""

    first: int
    batch: int
    feeds: Feeds
    """What the session gets."""
    pictures: dict[str, Array] | None
    """What `Generator.transform` gets: the same, with pictures as uint8 NHWC; None for a model that is sampled."""


def draw(spec: Spec, first: int, batch: int, size: Size | None) -> Inputs:
    """Inputs for one call of each kind. `size`: of made-up pictures, for models that take some; they have as many
    channels as the network takes, so a luma network gets grey ones."""
    drawn = feeds.draw(spec, SEED, first, batch, size=size)
    if not spec.images:
        return Inputs(first, batch, drawn, None)
    pictures: dict[str, Array] = {item.name: images.to_uint8(drawn[item.name], item.range) for item in spec.images}
    rounded = {item.name: images.from_uint8(pictures[item.name], item.range) for item in spec.images}
    return Inputs(first, batch, drawn | rounded, drawn | pictures)


def time_pair(generator: Generator, inputs: Inputs, whole_first: bool) -> tuple[int, int]:
    """Nanoseconds of the bare session and of the whole way, called in either order. Raises BackendError when they did
    not make the same pictures."""
    if whole_first:
        whole_ns, pictures = _timed_whole(generator, inputs)
        session_ns, raw = time_session(generator.session, inputs.feeds)
    else:
        session_ns, raw = time_session(generator.session, inputs.feeds)
        whole_ns, pictures = _timed_whole(generator, inputs)
    same = images.to_uint8(raw[generator.spec.output.name], generator.spec.output.range)
    if same.shape != pictures.shape or int(np.abs(same.astype(np.int16) - pictures).max()) > 1:
        way = "Generator.sample" if inputs.pictures is None else "Generator.transform"
        raise BackendError(f"the session and {way} made different pictures of the same inputs while timed")
    return session_ns, whole_ns


def time_session(session: Session, given: Feeds) -> tuple[int, dict[str, Array]]:
    """Nanoseconds of one batch through the bare session, and what it made. Padded beforehand to a size that the session
    has."""
    count = len(next(iter(given.values())))
    size = next((size for size in session.batch_sizes if size >= count), count)
    padded = rows(given, Batch(0, count, size))
    started = clock.now_ns()
    outputs = session.submit(padded).wait()
    return clock.now_ns() - started, {name: array[:count] for name, array in outputs.items()}


def _timed_whole(generator: Generator, inputs: Inputs) -> tuple[int, Pictures]:
    started = clock.now_ns()
    if inputs.pictures is None:
        made = generator.sample(inputs.batch, SEED, inputs.first)
    else:
        made = generator.transform(tile=0, **inputs.pictures)
    return clock.now_ns() - started, made
