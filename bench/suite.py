"""Measure what exporting gains: build, export and measure every generator of `generators`, and summarize the reports.

    python -m ganrt.bench.suite FOLDER [NAME ...]

FOLDER gets a report NAME.json for each generator, and `summary.md`. The summary depends on the reports alone, so one
generator can be measured again, or on another day, while the reports of the others stay. A report is kept as long as
its generator has the same recipe.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import click

from ganrt.atomic import write_file
from ganrt.bundle import FAITHFUL, Bundle
from ganrt.errors import GanrtError, MachineError, VerificationError
from ganrt.images import parse_size

from . import clock, roofline
from .arithmetic import count_macs
from .cases import Size, check_size
from .context import Context
from .generators import Recipe, all_recipes, write_checkpoint
from .harness import measure
from .results import Report
from .summary import format_summary

_log = partial(click.echo, err=True)
SUMMARY = "summary.md"
"""File name of the summary."""
_PRECISIONS = ("fp32,bf16,int8", "fp32,bf16", "fp32,int8", "fp32")
"""Sets of precisions to try in turn, until all of a set can be proven."""

_FEWER_MULTIPLICATIONS = ("ncnn", "mnn")
"""Backends with Winograd's algorithm, for which the graph as traced may be the best form too."""


@dataclass(frozen=True)
class Plan:
    """Options of a run, the same for every generator."""

    work: Path
    """Folder for checkpoints and bundles."""
    batches: Sequence[int]
    """Batch sizes."""
    seconds: float
    """Time for the measurement of each generator."""
    size: Size | None = None
    """Height and width of the pictures that image-to-image generators are given; None: as in their recipe."""


def measure_generator(name: str, plan: Plan) -> Report:
    """Build, export and measure one generator of `all_recipes`. Those with trained weights are exported with made-up
    pictures too, because no photographs are installed with ganrt.

    Raises a GanrtError when it cannot be exported or measured at all. A backend that fails is in the report.
    """
    recipe = all_recipes()[name]
    _log(f"{name}: making the checkpoint")
    checkpoint = write_checkpoint(name, plan.work)
    folder = plan.work / f"{name}.ganrt"
    seconds, missing_precisions = export_checkpoint(checkpoint, folder)
    bundle = Bundle.read(folder)
    size = _picture_size(recipe, plan)
    macs = {
        variant: count_macs(bundle.onnx(variant), bundle.spec, check_size(bundle.spec, size))
        for variant in bundle.variants
    }
    before = roofline.measure_matrix_products()
    backends = {
        "onnxruntime": [FAITHFUL],
        "pytorch": [FAITHFUL],
        "openvino": [name for name in bundle.variants if name != FAITHFUL],
        **{
            backend: [name for name, variant in bundle.variants.items() if variant.precision == "fp32"]
            for backend in _FEWER_MULTIPLICATIONS
        },
    }
    report = measure(bundle, backends=backends, batches=plan.batches, seconds=plan.seconds, size=size, progress=_log)
    products = roofline.merge_products(before, roofline.measure_matrix_products())
    return replace(report, context=Context(_to_json(recipe), seconds, missing_precisions, macs, products))


def export_checkpoint(checkpoint: Path, out: Path) -> tuple[float, str]:
    """Run `ganrt export` in as many precisions as can be proven.

    Returns the seconds of the run that succeeded, and why a precision is missing (empty when none is).

    Raises VerificationError when not even float32 can be proven, and MachineError when the command fails for another
    reason.
    """
    missing = ""
    for precisions in _PRECISIONS:
        arguments = ("export", str(checkpoint), "--out", str(out), "--precision", precisions, "--overwrite")
        started = clock.now_ns()
        code, reason = _run_ganrt(*arguments)
        seconds = (clock.now_ns() - started) / 1e9
        if code == 0:
            return seconds, missing
        reason = reason.removeprefix("error: ").replace(f"{checkpoint.parent}/", "")  # reports are published
        if code != VerificationError.exit_code:
            raise MachineError(f"{checkpoint.name} could not be exported (exit code {code}): {reason}")
        if f": {reason}." not in missing:  # the same precision may fail again in a smaller set
            missing = " ".join(filter(None, (missing, f"{precisions}: {reason}.")))
    raise VerificationError(f"{checkpoint.name} could not be exported in any precision. {missing}")


def _run_ganrt(*arguments: str) -> tuple[int, str]:
    """Run `ganrt` in a process of its own and pass its lines on. Returns the exit code and the last line."""
    last = ""
    command = [sys.executable, "-m", "ganrt", *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            last = line.strip() or last
            _log(line.rstrip())
    return process.returncode, last


def is_current(path: Path, recipe: Recipe, plan: Plan) -> bool:
    """Return whether the file is a report of this recipe, with input pictures of this size.

    Raises ArtifactError when there is a file that is not a report.
    """
    if not path.exists():
        return False
    report = Report.load(path)
    size = _picture_size(recipe, plan)
    return report.context is not None and (report.context.recipe, report.picture) == (_to_json(recipe), size)


def write_summary(folder: Path) -> None:
    """Write the summary of the reports in a folder. Raises ArtifactError for a file that is not a report."""
    paths = {name: folder / f"{name}.json" for name in all_recipes()}
    reports = {name: Report.load(path) for name, path in paths.items() if path.exists()}
    write_file(folder / SUMMARY, format_summary(reports).encode())


def _picture_size(recipe: Recipe, plan: Plan) -> Size | None:
    return None if recipe.picture is None else plan.size or (recipe.picture, recipe.picture)


def _to_json(recipe: Recipe) -> str:
    return json.dumps(recipe._asdict(), sort_keys=True)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("names", nargs=-1, type=click.Choice(list(all_recipes())))
@click.option("--seconds", default=240.0, show_default=True, help="Time for the measurement of each generator.")
@click.option("--batch", "batches", multiple=True, type=int, default=(1, 8), show_default=True, help="May be repeated.")
@click.option("--size", metavar="H[xW]", help="Size of the input pictures, instead of each recipe's own.")
@click.option("--work", default="out/suite", show_default=True, type=click.Path(path_type=Path), help="For bundles.")
@click.option("--anew", is_flag=True, help="Measure again what FOLDER already has.")
@click.option("--summary-only", is_flag=True, help="Measure nothing; only write the summary of what FOLDER has.")
def main(
    folder: Path,
    names: tuple[str, ...],
    seconds: float,
    batches: tuple[int, ...],
    size: str | None,
    work: Path,
    anew: bool,
    summary_only: bool,
) -> None:
    """Measure the generators NAMES, by default all. If one fails, the others are still measured."""
    failed, recipes = [], all_recipes()
    try:
        plan = Plan(work, batches, seconds, parse_size(size) if size else None)
        for name in () if summary_only else names or recipes:
            path = folder / f"{name}.json"
            if not anew and is_current(path, recipes[name], plan):
                _log(f"{name}: its report is up to date")
                continue
            try:
                measure_generator(name, plan).save(path)
                write_summary(folder)
            except GanrtError as error:
                _log(f"{name} failed: {error}")
                failed.append(name)
        write_summary(folder)
    except GanrtError as error:
        _exit(str(error), error.exit_code)
    if failed:
        _exit(f"{', '.join(failed)} could not be measured; see the reasons above", MachineError.exit_code)
    click.echo(f"{folder / SUMMARY}")


def _exit(message: str, code: int) -> NoReturn:
    _log(f"error: {message}")
    sys.exit(code)


if __name__ == "__main__":
    main()
