"""Images per second on a GPU: of `Generator`, with everything included, and of an engine alone. Needs no torch."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

import ganrt
from ganrt import feeds
from ganrt.bundle import Bundle
from ganrt.images import to_uint8
from ganrt.levels import find_levels

from .. import clock

BATCHES_PER_CALL = 16

Rates = list[float]
"""Images per second, of each round."""


def measure_rates(act: Callable[[], int], rounds: int, seconds: float) -> Rates:
    """Return how many images `act` makes per second in each round. `act` returns how many it made; its first call is a
    warm-up."""
    act()
    found = []
    for _ in range(rounds):
        started, made = clock.now_ns(), 0
        while clock.now_ns() - started < seconds * 1e9:
            made += act()
        found.append(made * 1e9 / (clock.now_ns() - started))
    return found


def make_sampler(generator: ganrt.Generator, batch: int, size: feeds.Size | None) -> Callable[[], int]:
    """Return a function that makes new samples, or transforms pictures of a size, many batches at a time."""
    spec, count = generator.spec, batch * BATCHES_PER_CALL
    if size is not None:
        given = feeds.draw_feeds(spec, 0, 0, count, size=size)
        pictures = [to_uint8(given[item.name], find_levels(item)) for item in spec.images]
        return lambda: len(generator.transform(*pictures, tile=0))
    start = itertools.count(0, count)
    return lambda: len(generator.sample(count, start=next(start)))


def make_replay(bundle: Bundle, backend: str, variant: str, given: feeds.Feeds) -> Callable[[], int]:
    """Return a function that replays the engine alone, on inputs that stay on the device.

    Args:
        backend: `tensorrt` or `tensorrt-rtx`.
    """
    from ganrt.gpu import Gpu, TrtPrograms, load_cached_engine, load_tensorrt, load_tensorrt_rtx

    gpu, library = Gpu(0), load_tensorrt_rtx() if backend == "tensorrt-rtx" else load_tensorrt()
    loaded, stream = load_cached_engine(library, bundle, variant, gpu), gpu.new_stream()
    batch = len(next(iter(given.values())))
    program = TrtPrograms(gpu, loaded, stream, lambda _: None).get_program(
        batch, {name: array.shape for name, array in given.items()}
    )
    for name, array in given.items():
        pinned = gpu.allocate_pinned(array.shape, program.dtypes[name])
        np.copyto(pinned.array, array, casting="same_kind")
        program.inputs[name].copy_from(pinned.buffer, stream=stream)
        stream.sync()

    def act() -> int:
        for _ in range(BATCHES_PER_CALL):
            program.enqueue(stream)
        stream.sync()
        return batch * BATCHES_PER_CALL

    return act
