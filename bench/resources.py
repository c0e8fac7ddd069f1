"""What a loaded model costs the process that embeds it: memory over many picture sizes, a long stream and repeated
loads, and processor time while it waits and while it answers ten requests a second.

    python -m ganrt.bench.resources BUNDLE BACKEND [threads=N] [spin=0|1]
"""

from __future__ import annotations

import gc
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

import ganrt
from ganrt.testing.memory_growth import read_resident_bytes

from . import clock

_SIZES, _SIDES, _SAMPLES, _LOADS, _REQUESTS, _PERIOD = 300, (16, 200), 20_000, 20, 30, 0.1
"""The last is seconds from one request to the next; _SIDES are the smallest height and width, and more than the
largest."""


def main(arguments: list[str]) -> None:
    """Print one line per measurement."""
    bundle, backend, *settings = arguments
    options = parse_options(settings)

    def load() -> ganrt.Generator:
        return ganrt.load(bundle, backend, device="cpu", **options)

    with load() as generator:
        click.echo(f"{Path(bundle).name} on {generator.info.config}")
        for line in (*measure_processor(generator), *measure_memory(generator)):
            click.echo(line)
    for line in measure_loads(load):
        click.echo(line)


def parse_options(settings: Sequence[str]) -> dict[str, Any]:
    """Parse options of a backend, such as `threads=2` or `spin=1`."""
    options: dict[str, Any] = {}
    for name, _, value in (setting.partition("=") for setting in settings):
        options[name] = bool(int(value)) if name == "spin" else int(value)
    return options


def make_one(generator: ganrt.Generator, size: tuple[int, int] = (64, 64)) -> None:
    """Make one picture; from pictures of a size, if the model takes pictures."""
    images = generator.spec.images
    if images:
        pictures: dict[str, Any] = {
            item.name: np.zeros((*(item.size or size), item.channels), np.uint8) for item in images
        }
        generator.transform(**pictures)
    else:
        generator.sample(1)


def measure_processor(generator: ganrt.Generator) -> Iterator[str]:
    """CPU time of the process while it waits, and at ten requests a second; latency of these."""
    make_one(generator)
    clock.wait(0.5)
    used = clock.cpu_time_ns()
    clock.wait(2.0)
    yield f"waiting: {(clock.cpu_time_ns() - used) / 2e9:.1%} of a core"
    latencies, used = [], clock.cpu_time_ns()
    for _ in range(_REQUESTS):
        started = clock.now_ns()
        make_one(generator)
        latencies.append((clock.now_ns() - started) / 1e9)
        clock.wait(max(0.0, _PERIOD - latencies[-1]))
    cpu = (clock.cpu_time_ns() - used) / 1e6 / _REQUESTS
    yield f"ten requests a second: {cpu:.1f} ms of CPU time each, latency {statistics.median(latencies) * 1e3:.2f} ms"


def measure_memory(generator: ganrt.Generator) -> Iterator[str]:
    """Growth of resident memory over ever new picture sizes, or over a long stream of samples."""
    start = read_resident_bytes()
    if any(item.size is None for item in generator.spec.images):
        generate = np.random.default_rng(0)
        for count in range(1, _SIZES + 1):
            make_one(generator, tuple(generate.integers(*_SIDES, 2).tolist()))
            if count % (_SIZES // 3) == 0:
                yield f"{count} picture sizes: {_format_growth(start)}"
    elif not generator.spec.images:
        for done in range(0, _SAMPLES, _SAMPLES // 4):
            for _ in generator.stream(_SAMPLES // 4, start=done):
                pass
            yield f"{done + _SAMPLES // 4} samples: {_format_growth(start)}"


def measure_loads(load: Callable[[], ganrt.Generator]) -> Iterator[str]:
    """Memory, threads and open files that are left of loading, using and closing or forgetting a generator."""
    start = read_resident_bytes()
    for _ in range(_LOADS):
        with load() as generator:
            make_one(generator)
    yield f"{_LOADS} times load and close: {_format_growth(start)}, {_count_handles()}"
    for _ in range(_LOADS):
        make_one(load())
    gc.collect()
    yield f"{_LOADS} times load and forget: {_format_growth(start)}, {_count_handles()}"


def _format_growth(start: int) -> str:
    return f"{(read_resident_bytes() - start) / 2**20:+.1f} MiB"


def _count_handles() -> str:
    threads, files = (len(list((Path("/proc/self") / name).iterdir())) for name in ("task", "fd"))
    return f"{threads} threads, {files} files"


if __name__ == "__main__":
    main(sys.argv[1:])
