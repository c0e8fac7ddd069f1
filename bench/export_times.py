"""Measure how long exports take, stage by stage, with one version of ganrt or several in turn.

    python -m ganrt.bench.export_times FILE.json [NAME ...] [--python LABEL=PATH ...]

Each run is `ganrt export` of a generator of `generators` in a process of its own. The versions take turns, so that a
busy machine is busy for all of them. FILE.json gets the raw runs, which later runs are added to; FILE.md the table. It
has CPU time beside the time on the clock, which is worth little where other programs run.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

import click

from ganrt.atomic import write_file
from ganrt.bundle import Bundle
from ganrt.errors import ArtifactError, GanrtError, MachineError, RequestError
from ganrt.json_reader import decode, read_json

from . import clock
from .generators import GENERATORS, write_checkpoint

_log = partial(click.echo, err=True)
_MAX_BYTES = 2**24
_STAGES = {
    "loading ": "load",
    "tracing ": "trace",
    "making golden ": "golden samples",
    "made ": "write the traced graph",
    "optimizing ": "optimize",
    "converting to int8 for NVIDIA": "int8 for NVIDIA GPUs",
    "converting to int8": "int8",
    "converting to fp16": "fp16",
    "verifying ": "verify",
    "compiling ": "try NVIDIA's compiler",
}
"""How a line of progress begins -> the stage that it announces. The first that fits counts."""
_INTRO = """\
# Export times

    python -m ganrt.bench.export_times export_times.json NAME ... --python before=PATH --python after=PATH

Seconds of `ganrt export` in a process of its own, median of the runs; the versions took turns. CPU time is that of all
its threads and processes. The ratio is that of the last version to the first. Below the times: the worst PSNR of each
variant in int8 on any backend, and how many of its layers are in 8 bits."""
_START = "start"
"""The stage before the first line: the interpreter and its imports."""


@dataclass(frozen=True)
class ExportRun:
    """One export."""

    name: str
    """Generator, a key of GENERATORS."""
    label: str
    """Which version of ganrt."""
    precisions: str
    """As `--precision` takes them."""
    stages: dict[str, float]
    """Stage -> seconds, in the order in which they began."""
    cpu_seconds: float
    """CPU time of the export and the processes that it started."""
    int8: dict[str, str]
    """Variant in int8 -> its worst PSNR and the number of its layers in 8 bits."""

    @property
    def seconds(self) -> float:
        """Seconds from start to end."""
        return sum(self.stages.values())


def find_stage(line: str) -> str | None:
    """Return the stage that a line of progress announces; None for any other line."""
    return next((stage for start, stage in _STAGES.items() if line.startswith(start)), None)


def export_once(name: str, label: str, python: str, precisions: str, work: Path) -> ExportRun:
    """Export a generator and time its stages. Raises MachineError when the export fails."""
    checkpoint, folder = work / f"{name}.safetensors", work / f"{name}-{label}.ganrt"
    arguments = ["export", str(checkpoint), "--out", str(folder), "--precision", precisions, "--overwrite"]
    stages, stage, last = {_START: 0.0}, _START, ""
    cpu, since = clock.children_cpu_time_ns(), clock.now_ns()
    with subprocess.Popen(
        [python, "-m", "ganrt", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            last = line.strip() or last
            begun = find_stage(line.strip())
            if begun is not None:
                now = clock.now_ns()
                stages[stage] += (now - since) / 1e9
                since, stage = now, begun
                stages.setdefault(stage, 0.0)
    stages[stage] += (clock.now_ns() - since) / 1e9
    if process.returncode:
        raise MachineError(f"{name} could not be exported with {label} (exit code {process.returncode}): {last}")
    cpu_seconds = (clock.children_cpu_time_ns() - cpu) / 1e9
    return ExportRun(name, label, precisions, stages, cpu_seconds, dict(describe_int8(Bundle.read(folder))))


def describe_int8(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """Yield each variant in int8 with its worst PSNR on any backend and the number of its layers in 8 bits."""
    for name, variant in bundle.variants.items():
        if variant.precision == "int8":
            worst = min((proof.worst_psnr for proof in variant.proofs), default=0.0)
            yield name, f"{worst:.1f} dB, {variant.notes['layers in int8']} layers"


def read_runs(path: Path) -> list[ExportRun]:
    """Return the runs of a file; none if there is no file. Raises ArtifactError when it is damaged."""
    if not path.exists():
        return []
    raw = read_json(path, _MAX_BYTES, ArtifactError)
    if not isinstance(raw, list):
        raise ArtifactError(f"{path} holds no list of runs; remove it")
    return [decode(ExportRun, item, "run", ArtifactError) for item in raw]


def format_tables(runs: Sequence[ExportRun]) -> str:
    """Write a table for each generator: seconds of every stage, median of the runs, for each version, and the ratio of
    the last version to the first."""
    tables = [_format_table(name, runs) for name in dict.fromkeys(run.name for run in runs)]
    return "\n\n".join([_INTRO, *tables]) + "\n"


def _format_table(name: str, runs: Sequence[ExportRun]) -> str:
    versions: dict[str, list[ExportRun]] = {}
    for run in runs:
        if run.name == name:
            versions.setdefault(run.label, []).append(run)
    every = [run for group in versions.values() for run in group]
    title = f"**{name}**, `{every[0].precisions}`, runs: {', '.join(f'{k} {len(v)}' for k, v in versions.items())}"
    lines = [title, "", f"| stage | {' | '.join(f'{label}, s' for label in versions)} | ratio |"]
    lines.append("| --- " * (len(versions) + 2) + "|")
    for stage in dict.fromkeys(stage for run in every for stage in run.stages):
        lines.append(_format_row(stage, [[run.stages.get(stage, 0.0) for run in group] for group in versions.values()]))
    lines.append(_format_row("**total**", [[run.seconds for run in group] for group in versions.values()]))
    lines.append(_format_row("CPU time", [[run.cpu_seconds for run in group] for group in versions.values()]))
    for variant in dict.fromkeys(variant for run in every for variant in run.int8):
        found = [" or ".join(dict.fromkeys(run.int8.get(variant, "-") for run in group)) for group in versions.values()]
        lines.append(f"| {variant} | {' | '.join(found)} | |")
    return "\n".join(lines)


def _format_row(what: str, seconds: Sequence[Sequence[float]]) -> str:
    medians = [statistics.median(values) for values in seconds]
    ratio = f"{medians[-1] / medians[0]:.2f}" if len(medians) > 1 and medians[0] else ""
    return f"| {what} | {' | '.join(f'{median:.1f}' for median in medians)} | {ratio} |"


def _parse_versions(texts: Sequence[str]) -> dict[str, str]:
    """LABEL=PATH, by default this interpreter."""
    versions = dict(text.partition("=")[::2] for text in texts) or {"now": sys.executable}
    wrong = [label for label, path in versions.items() if not label or not Path(path).is_file()]
    if wrong:
        raise RequestError(f"--python {wrong[0]}={versions[wrong[0]]} is not LABEL=PATH of a Python interpreter")
    return versions


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("names", nargs=-1, type=click.Choice(list(GENERATORS)))
@click.option("--python", "pythons", multiple=True, metavar="LABEL=PATH", help="A version of ganrt; may be repeated.")
@click.option("--precision", "precisions", default="fp32,int8", show_default=True, help="As for `ganrt export`.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1), help="Exports of each version.")
@click.option("--work", default="out/suite", show_default=True, type=click.Path(path_type=Path), help="For bundles.")
def main(
    file: Path, names: tuple[str, ...], pythons: tuple[str, ...], precisions: str, rounds: int, work: Path
) -> None:
    """Time the export of the generators NAMES, by default all."""
    try:
        versions, runs = _parse_versions(pythons), read_runs(file)
        for name in (name for _ in range(rounds) for name in names or GENERATORS):
            if not (work / f"{name}.safetensors").exists():
                write_checkpoint(name, work)
            for label, python in versions.items():
                runs.append(export_once(name, label, python, precisions, work))
                _log(f"{name}, {label}: {runs[-1].seconds:.1f} s, CPU time {runs[-1].cpu_seconds:.1f} s")
                write_file(file, json.dumps([asdict(run) for run in runs], indent=1).encode())
                write_file(file.with_suffix(".md"), format_tables(runs).encode())
    except GanrtError as error:
        _exit(str(error), error.exit_code)
    click.echo(file.with_suffix(".md"))


def _exit(message: str, code: int) -> NoReturn:
    _log(f"error: {message}")
    sys.exit(code)


if __name__ == "__main__":
    main()
