"""What a GPU makes of the generators, with everything included, beside the bare engine and PyTorch.

    python -m ganrt.bench.gpu FOLDER [NAME ...]        also as `make bench-gpu`

FOLDER gets NAME.json for each generator: its fp16 engine through `Generator.sample` (seeds, latents, uint8, host
memory), the engine alone (execute only, graph replay), PyTorch eager in float32 and compiled in fp16 with CUDA graphs,
and what the card multiplies and copies at best. Raw rates of every round are kept, with the machine and the versions.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

import ganrt
from ganrt import feeds
from ganrt.atomic import write_file
from ganrt.bundle import Bundle
from ganrt.errors import MachineError
from ganrt.images import to_uint8
from ganrt.machine import has_nvidia_gpu

from . import clock
from .arithmetic import count_macs, count_traffic
from .environment import MachineMonitor
from .generators import GENERATORS, write_checkpoint

_say = partial(click.echo, err=True)
NAMES = ("dcgan-64", "biggan-128", "biggan-deep-128", "srresnet-x4")
BATCHES = (1, 8, 32)
_ROUNDS, _ROUND_S = 7, 2.0
_BATCHES_PER_CALL = 16
_STREAM_S, _LOOK_S = 600.0, 10.0
_FP16_BYTES = 2

Rates = list[float]
"""Images a second, of each round."""


def rates(act: Callable[[], int], rounds: int = _ROUNDS, seconds: float = _ROUND_S) -> Rates:
    """How many images `act` makes in a second, round by round; the first call is not counted."""
    act()
    found = []
    for _ in range(rounds):
        started, made = clock.now_ns(), 0
        while clock.now_ns() - started < seconds * 1e9:
            made += act()
        found.append(made * 1e9 / (clock.now_ns() - started))
    return found


def using(generator: ganrt.Generator, batch: int, size: tuple[int, int] | None) -> Callable[[], int]:
    """Makes samples that were not made before, or transforms pictures of a size, many batches at a time."""
    spec, count = generator.spec, batch * _BATCHES_PER_CALL
    if size is not None:
        given = feeds.draw(spec, 0, 0, count, size=size)
        pictures = [to_uint8(given[item.name], item.range) for item in spec.images]
        return lambda: len(generator.transform(*pictures, tile=0))
    place = itertools.count(0, count)
    return lambda: len(generator.sample(count, start=next(place)))


def bare(bundle: Bundle, variant: str, given: feeds.Feeds) -> Callable[[], int]:
    """Replays the engine alone, on inputs that stay on the device."""
    from ganrt.gpu import Gpu, TrtPrograms, describe_machine, engine_cache, load_engine

    gpu = Gpu(0)
    engine = engine_cache.find(bundle.digest(variant), describe_machine(gpu.name, gpu.capability))
    loaded, stream = load_engine(engine_cache.read(engine), False), gpu.stream()
    batch = len(next(iter(given.values())))
    program = TrtPrograms(gpu, loaded, stream, lambda _: None).of(
        batch, {name: array.shape for name, array in given.items()}
    )
    for name, array in given.items():
        pinned = gpu.pinned(array.shape, program.dtypes[name])
        np.copyto(pinned.array, array, casting="same_kind")
        program.inputs[name].copy_from(pinned.buffer, stream=stream)
        stream.sync()

    def act() -> int:
        for _ in range(_BATCHES_PER_CALL):
            program.enqueue(stream)
        stream.sync()
        return batch * _BATCHES_PER_CALL

    return act


def long_stream(generator: ganrt.Generator, seconds: float, look: float) -> dict[str, list[int]]:
    """Bytes of host and device memory in use, looked at every `look` seconds while samples stream."""
    import psutil
    import pynvml

    pynvml.nvmlInit()
    handle, process = pynvml.nvmlDeviceGetHandleByIndex(0), psutil.Process()
    seen: dict[str, list[int]] = {"host": [], "device": []}
    started = clock.now_ns()
    for _ in generator.stream(2**50):
        passed = (clock.now_ns() - started) / 1e9
        if passed >= look * len(seen["host"]):
            seen["host"].append(process.memory_info().rss)
            seen["device"].append(int(pynvml.nvmlDeviceGetMemoryInfo(handle).used))
        if passed > seconds:
            break
    pynvml.nvmlShutdown()
    return seen


def measure(name: str, work: Path) -> dict[str, Any]:
    """Make, export, build and measure one generator."""
    from . import gpu_torch

    folder, monitor = work / f"{name}.ganrt", MachineMonitor()
    _ganrt("export", str(write_checkpoint(name, work)), "--out", str(folder), "--precision", "fp32,fp16")
    bundle = Bundle.read(folder)
    side = GENERATORS[name].picture
    size = (side, side) if side else None
    sides = ["--size", f"{size[0]}x{size[1]}"] if size else []
    batches = [part for batch in BATCHES for part in ("--batch", str(batch))]
    _ganrt("build", str(folder), "--precision", "fp16", *batches, *sides)
    variant = bundle.in_precision("fp16")[0]
    module = gpu_torch.original(bundle)
    found: dict[str, dict[str, Rates]] = {}
    for batch in BATCHES:
        _say(f"{name}: batches of {batch}")
        with ganrt.load(folder, "tensorrt", device="cuda", variant=variant, batches=(batch,)) as generator:
            given = feeds.draw(bundle.spec, 0, 0, batch, size=size)
            found[str(batch)] = {
                "ganrt, everything included": rates(using(generator, batch, size)),
                "engine alone": rates(bare(bundle, variant, given)),
                "torch eager fp32": rates(gpu_torch.eager(module, given)),
                "torch compiled fp16": rates(gpu_torch.compiled(module, given)),
            }
            details = dict(generator.session.details)
    card = gpu_torch.card()
    medians = {batch: {what: statistics.median(r) for what, r in of.items()} for batch, of in found.items()}
    graph = (bundle.onnx(variant), bundle.spec, size)
    cost = Work(2 * count_macs(*graph), *(_FP16_BYTES * values for values in count_traffic(*graph)))
    return {
        "generator": name,
        "date": clock.now_utc(),
        "environment": dataclasses.asdict(monitor.finish()),
        "details": details,
        "card": card,
        "images per second": found,
        "summary": {batch: _judged(of, int(batch), cost, card) for batch, of in medians.items()},
    }


class Work(NamedTuple):
    """What an image takes of a card."""

    operations: int
    tensor_bytes: int
    weight_bytes: int
    """For a whole batch."""


def _judged(median: dict[str, float], batch: int, work: Work, card: dict[str, float]) -> dict[str, float]:
    """The figures that matter, as ratios; of what the card does at best, its fp16 products and its copies."""
    ours = median["ganrt, everything included"]
    moved = ours * (work.tensor_bytes + work.weight_bytes / batch)
    return {
        **{what: round(value, 1) for what, value in median.items()},
        "share of the engine alone": round(ours / median["engine alone"], 3),
        "times torch eager fp32": round(ours / median["torch eager fp32"], 2),
        "times torch compiled fp16": round(ours / median["torch compiled fp16"], 2),
        "share of the card's matrix rate": round(ours * work.operations / card["matrix operations per second"], 4),
        "share of the card's memory rate": round(moved / card["bytes moved per second"], 4),
    }


def _ganrt(*arguments: str) -> None:
    """Run a command in a process of its own, which gives all device memory back. Raises MachineError."""
    done = subprocess.run([sys.executable, "-m", "ganrt.cli", *arguments], check=False)
    if done.returncode:
        raise MachineError(f"ganrt {arguments[0]} failed with exit code {done.returncode}, for the reason above")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("names", nargs=-1, type=click.Choice(list(GENERATORS)))
@click.option("--stream-seconds", default=_STREAM_S, show_default=True, help="How long samples stream; 0: not at all.")
def main(folder: Path, names: tuple[str, ...], stream_seconds: float) -> None:
    """Measure generators on this machine's GPU, and write NAME.json for each into FOLDER."""
    if not has_nvidia_gpu():
        raise click.ClickException("this machine has no NVIDIA GPU, so there is nothing to measure")
    with tempfile.TemporaryDirectory() as work:
        for name in names or NAMES:
            body = measure(name, Path(work))
            if stream_seconds and not GENERATORS[name].picture:
                _say(f"{name}: streaming for {stream_seconds:g} s")
                with ganrt.load(Path(work) / f"{name}.ganrt", "tensorrt", device="cuda", precision="fp16") as generator:
                    body["memory in use"] = long_stream(generator, stream_seconds, _LOOK_S)
            write_file(folder / f"{name}.json", json.dumps(body, indent=1).encode() + b"\n")
            _say(json.dumps(body["summary"], indent=1))


if __name__ == "__main__":
    main()
