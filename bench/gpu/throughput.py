"""Throughput of the generators on a GPU with everything included, beside the bare engine and PyTorch.

    python -m ganrt.bench.gpu FOLDER [NAME ...]        also as `make bench-gpu`

FOLDER gets NAME.json for each generator: its fp16 engine through `Generator.sample` (seeds, latents, uint8, host
memory), the engine alone (graph replay only), PyTorch eager in float32 and compiled in fp16 with CUDA graphs, and the
roofline peaks of the GPU. It keeps the raw rates of every round, with the machine and the versions.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click

import ganrt
from ganrt import feeds
from ganrt.atomic import write_file
from ganrt.bundle import Bundle
from ganrt.errors import MachineError
from ganrt.machine import has_nvidia_gpu

from .. import clock
from ..arithmetic import count_macs, count_traffic
from ..environment import MachineMonitor
from ..generators import GENERATORS, write_checkpoint
from .rates import Rates, make_replay, make_sampler, measure_rates

_log = partial(click.echo, err=True)
NAMES = ("dcgan-64", "biggan-128", "biggan-deep-128", "srresnet-x4")
BATCHES = (1, 8, 32)
_ROUNDS = (7, 2.0)
"""Number of rounds, and seconds of each."""
_STREAM_S, _MEMORY_PERIOD_S = 600.0, 10.0
_FP16_BYTES = 2


def record_memory(generator: ganrt.Generator, seconds: float, period: float) -> dict[str, list[int]]:
    """Stream samples and return the bytes of host and device memory in use, read every `period` seconds."""
    import psutil
    import pynvml

    pynvml.nvmlInit()
    handle, process = pynvml.nvmlDeviceGetHandleByIndex(0), psutil.Process()
    used: dict[str, list[int]] = {"host": [], "device": []}
    started = clock.now_ns()
    for _ in generator.stream(2**50):
        passed = (clock.now_ns() - started) / 1e9
        if passed >= period * len(used["host"]):
            used["host"].append(process.memory_info().rss)
            used["device"].append(int(pynvml.nvmlDeviceGetMemoryInfo(handle).used))
        if passed > seconds:
            break
    pynvml.nvmlShutdown()
    return used


def measure(name: str, work: Path) -> dict[str, Any]:
    """Make, export, build and measure one generator. `work` gets its files."""
    from . import torch_baseline

    folder, monitor = work / f"{name}.ganrt", MachineMonitor()
    _run_command("export", str(write_checkpoint(name, work)), "--out", str(folder), "--precision", "fp32,fp16")
    bundle = Bundle.read(folder)
    side = GENERATORS[name].picture
    size = (side, side) if side else None
    sides = ["--size", f"{size[0]}x{size[1]}"] if size else []
    batches = [part for batch in BATCHES for part in ("--batch", str(batch))]
    _run_command("build", str(folder), "--precision", "fp16", *batches, *sides)
    variant = bundle.in_precision("fp16", gpu=True)[0]
    module = torch_baseline.load_original(bundle)
    found: dict[str, dict[str, Rates]] = {}
    for batch in BATCHES:
        _log(f"{name}: batches of {batch}")
        with ganrt.load(folder, "tensorrt", device="cuda", variant=variant, batches=(batch,)) as generator:
            given = feeds.draw_feeds(bundle.spec, 0, 0, batch, size=size)
            found[str(batch)] = {
                "ganrt, everything included": measure_rates(make_sampler(generator, batch, size), *_ROUNDS),
                "engine alone": measure_rates(make_replay(bundle, "tensorrt", variant, given), *_ROUNDS),
                "torch eager fp32": measure_rates(torch_baseline.make_eager(module, given), *_ROUNDS),
                "torch compiled fp16": measure_rates(torch_baseline.make_compiled(module, given), *_ROUNDS),
            }
            details = dict(generator.session.details)
    card = torch_baseline.measure_peaks()
    medians = {batch: {what: statistics.median(r) for what, r in of.items()} for batch, of in found.items()}
    graph = (bundle.onnx(variant), bundle.spec, size)
    cost = ImageCost(2 * count_macs(*graph), *(_FP16_BYTES * values for values in count_traffic(*graph)))
    return {
        "generator": name,
        "date": clock.now_utc(),
        "environment": dataclasses.asdict(monitor.finish()),
        "details": details,
        "card": card,
        "images per second": found,
        "summary": {batch: _summarize(of, int(batch), cost, card) for batch, of in medians.items()},
    }


class ImageCost(NamedTuple):
    """What an image costs the GPU."""

    operations: int
    """Two for each MAC."""
    tensor_bytes: int
    """Read and written."""
    weight_bytes: int
    """Read once for a whole batch."""


def _summarize(median: dict[str, float], batch: int, cost: ImageCost, card: dict[str, float]) -> dict[str, float]:
    """Return the medians and their ratios to the baselines and to the roofline peaks of the GPU."""
    ours = median["ganrt, everything included"]
    moved = ours * (cost.tensor_bytes + cost.weight_bytes / batch)
    return {
        **{what: round(value, 1) for what, value in median.items()},
        "share of the engine alone": round(ours / median["engine alone"], 3),
        "times torch eager fp32": round(ours / median["torch eager fp32"], 2),
        "times torch compiled fp16": round(ours / median["torch compiled fp16"], 2),
        "share of the card's matrix rate": round(ours * cost.operations / card["matrix operations per second"], 4),
        "share of the card's memory rate": round(moved / card["bytes moved per second"], 4),
    }


def _run_command(*arguments: str) -> None:
    """Run a command in a process of its own, so that all its device memory is freed. Raises MachineError."""
    done = subprocess.run([sys.executable, "-m", "ganrt", *arguments], check=False)
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
                _log(f"{name}: streaming for {stream_seconds:g} s")
                with ganrt.load(Path(work) / f"{name}.ganrt", "tensorrt", device="cuda", precision="fp16") as generator:
                    body["memory in use"] = record_memory(generator, stream_seconds, _MEMORY_PERIOD_S)
            write_file(folder / f"{name}.json", json.dumps(body, indent=1).encode() + b"\n")
            _log(json.dumps(body["summary"], indent=1))


if __name__ == "__main__":
    main()
