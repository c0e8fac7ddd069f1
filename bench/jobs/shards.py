"""Bulk sampling that is killed, and how fast it is.

    python -m ganrt.bench.jobs.shards BUNDLE [--rows 20000] [--kills 3]

`ganrt sample` writes webdataset shards once without interruption, and once more with SIGKILL at random moments, each
followed by the same command. All bytes are compared, and every row is looked for once. Then every format is timed
beside `Generator.stream`, which makes the same pictures and keeps none. Prints a page in Markdown.
"""

from __future__ import annotations

import io
import json
import statistics
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import PIL.Image

import ganrt
from ganrt import shards
from ganrt.errors import VerificationError
from ganrt.sample_request import check_request

from .. import clock
from ..environment import MachineMonitor
from .kill import hash_folder, run_and_kill, run_command

_SEED = 7
_SHARD = 1000
_ROUNDS = 3
"""Rounds in which every format takes a turn, so that a noisy machine slows all alike."""


@click.command()
@click.argument("bundle", type=click.Path(exists=True, path_type=Path))
@click.option("--rows", default=20_000, show_default=True, help="Pictures.")
@click.option("--kills", default=3, show_default=True, help="SIGKILLs.")
@click.option("--moments", default=1, show_default=True, help="Seed of the moments at which they come.")
def main(bundle: Path, rows: int, kills: int, moments: int) -> None:
    """Kill bulk sampling from BUNDLE, compare the bytes, and time the formats."""
    monitor = MachineMonitor()
    with tempfile.TemporaryDirectory() as name:
        whole, broken = Path(name) / "whole", Path(name) / "broken"
        run_command(sample(bundle, rows, whole))
        total = -(-rows // _SHARD)
        found = run_and_kill(sample(bundle, rows, broken), lambda: len(list_shards(broken)), total, kills, moments)
        click.echo(f"- killed when {', '.join(map(str, found))} of {total} shards were complete")
        files = hash_folder(whole)
        if hash_folder(broken) != files:
            raise VerificationError("the folders differ")
        click.echo(f"- all {len(files)} files have the bytes of the run without interruption")
        with ganrt.load(bundle) as generator:
            check_rows(generator, broken, rows)
            click.echo(f"- each of the {rows} rows is there once, with the picture that `Generator.stream` makes")
            click.echo(f"\n{format_table(time_formats(generator, rows, Path(name)))}\n")
            click.echo(f"`{generator.info.config}`, shards of {_SHARD}, medians of {_ROUNDS} rounds in turn.\n")
    click.echo("```json\n" + json.dumps(monitor.finish().__dict__, indent=1, default=str) + "\n```")


def sample(bundle: Path, rows: int, out: Path) -> list[str]:
    """The command that writes the shards."""
    words = ["sample", bundle, "-n", rows, "--seed", _SEED, "--format", "webdataset", "--shard", _SHARD, "--out", out]
    return list(map(str, words))


def list_shards(folder: Path) -> list[Path]:
    """The shards that are complete."""
    return sorted(folder.glob("shard-*"))


def check_rows(generator: ganrt.Generator, folder: Path, rows: int) -> None:
    """Raises VerificationError unless each row is in a shard once, with the picture of its sample."""
    seen: Counter[int] = Counter()
    wanted = (picture for batch in generator.stream(rows, seed=_SEED) for picture in batch)
    for shard in list_shards(folder):
        with tarfile.open(shard) as tar:
            files = {member.name: content.read() for member in tar if (content := tar.extractfile(member))}
        for name in [name for name in files if name.endswith(".png")]:
            about = json.loads(files[name.replace(".png", ".json")])
            seen[about["index"]] += about["seed"] == _SEED
            made = np.asarray(PIL.Image.open(io.BytesIO(files[name])))
            steps = np.abs(made.astype(int) - next(wanted).reshape(made.shape))
            if steps.max() > 1:  # other batches round otherwise
                raise VerificationError(f"{name} in {shard.name} is another picture")
    if seen != Counter(range(rows)):
        raise VerificationError(f"{len(seen)} rows are there, and {rows} were asked for")


def time_formats(generator: ganrt.Generator, rows: int, folder: Path) -> dict[str, list[float]]:
    """Return pictures a second of `Generator.stream` alone, and of each format, in each round."""

    def stream() -> None:
        for _ in generator.stream(rows, seed=_SEED):
            pass

    def write(name: str) -> None:
        request = check_request(generator.spec, rows, _SEED)
        form = shards.FLAT if name == "folder" else shards.open_format(name)
        size = generator.max_batch if form.is_flat else _SHARD
        job = shards.ShardJob(request, size, form)
        with tempfile.TemporaryDirectory(dir=folder) as out:
            shards.write_shards(generator, job, job.list_shards(), Path(out))

    calls: dict[str, Callable[[], None]] = {"stream": stream}
    calls |= {name: lambda name=name: write(name) for name in (*shards.FORMATS, "folder")}  # type: ignore[misc]
    rates: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(_ROUNDS):
        for name, call in calls.items():
            started = clock.now_ns()
            call()
            rates[name].append(rows / (clock.now_ns() - started) * 1e9)
    return rates


def format_table(rates: dict[str, list[float]]) -> str:
    """Return the table: medians, and the share of `stream`."""
    best = statistics.median(rates["stream"])
    lines = ["| | pictures/s | of `stream` |", "| --- | --- | --- |"]
    for name, found in rates.items():
        lines.append(f"| {name} | {statistics.median(found):.0f} | {statistics.median(found) / best:.0%} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
