"""The evidence of what exporting gains: every generator of `generators`, made, exported, measured and summed up.

    python -m ganrt.bench.suite FOLDER [NAME ...]

FOLDER gets a report NAME.json for each, and `summary.md`, which is made of the reports alone: a generator may be
measured anew, or on another day, and the others stay. What is there already is kept as long as it was made by the
recipe of today.
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
from .arithmetic import multiplications
from .cases import Size, check_size
from .context import Context
from .generators import GENERATORS, Recipe, write
from .harness import measure
from .results import Report
from .summary import summary

_say = partial(click.echo, err=True)
SUMMARY = "summary.md"
_PRECISIONS = ("fp32,bf16,int8", "fp32,bf16", "fp32,int8", "fp32")
"""What is asked for in turn, until all of it can be proven."""


@dataclass(frozen=True)
class Plan:
    """How every generator is measured."""

    work: Path
    """Folder for checkpoints and bundles."""
    batches: Sequence[int]
    seconds: float
    size: Size | None = None
    """Of the pictures that image-to-image generators are given; None for that of their recipe."""


def run(name: str, plan: Plan) -> Report:
    """Make, export and measure one generator. Raises a GanrtError when it cannot be exported or measured at all; a
    backend that fails is in the report."""
    recipe = GENERATORS[name]
    _say(f"{name}: making the checkpoint")
    checkpoint = write(name, plan.work)
    folder = plan.work / f"{name}.ganrt"
    seconds, refused = export(checkpoint, folder)
    bundle = Bundle.read(folder)
    size = _picture(recipe, plan)
    counts = {
        variant: multiplications(bundle.onnx(variant), bundle.spec, check_size(bundle.spec, size))
        for variant in bundle.variants
    }
    before = roofline.matrix_products()
    compared = {
        "onnxruntime": [FAITHFUL],
        "pytorch": [FAITHFUL],
        "openvino": [v for v in bundle.variants if v != FAITHFUL],
    }
    report = measure(folder, compared, plan.batches, plan.seconds, progress=_say, size=size)
    products = roofline.joined(before, roofline.matrix_products())
    return replace(report, context=Context(_text(recipe), seconds, refused, counts, products))


def export(checkpoint: Path, out: Path) -> tuple[float, str]:
    """Run `ganrt export` in as many precisions as can be proven.

    Returns the seconds of the run that succeeded, and why a precision is missing. Raises VerificationError when not
    even float32 can be proven, MachineError when the command fails for another reason.
    """
    refused = ""
    for precisions in _PRECISIONS:
        started = clock.now_ns()
        code, reason = _command("export", str(checkpoint), "--out", str(out), "--precision", precisions, "--overwrite")
        seconds = (clock.now_ns() - started) / 1e9
        if code == 0:
            return seconds, refused
        reason = reason.removeprefix("error: ").replace(f"{checkpoint.parent}/", "")  # a report is shown to others
        if code != VerificationError.exit_code:
            raise MachineError(f"{checkpoint.name} could not be exported (exit code {code}): {reason}")
        if f": {reason}." not in refused:  # with fewer precisions, it may be the same one that fails
            refused = " ".join(filter(None, (refused, f"{precisions}: {reason}.")))
    raise VerificationError(f"{checkpoint.name} could not be exported in any precision. {refused}")


def _command(*arguments: str) -> tuple[int, str]:
    """Run `ganrt` in a process of its own, its lines passed on. Returns the exit code and the last line."""
    last = ""
    command = [sys.executable, "-m", "ganrt.cli", *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            last = line.strip() or last
            _say(line.rstrip())
    return process.returncode, last


def is_current(path: Path, recipe: Recipe, plan: Plan) -> bool:
    """Whether a report is there that was made by this recipe, with pictures of this size. Raises ArtifactError when it
    is no report."""
    if not path.exists():
        return False
    report = Report.load(path)
    size = _picture(recipe, plan)
    return report.context is not None and (report.context.recipe, report.picture) == (_text(recipe), size)


def write_summary(folder: Path) -> None:
    """Make the summary of the reports that are in the folder. Raises ArtifactError for a file that is no report."""
    found = {name: folder / f"{name}.json" for name in GENERATORS}
    reports = {name: Report.load(path) for name, path in found.items() if path.exists()}
    write_file(folder / SUMMARY, summary(reports).encode())


def _picture(recipe: Recipe, plan: Plan) -> Size | None:
    return None if recipe.picture is None else plan.size or (recipe.picture, recipe.picture)


def _text(recipe: Recipe) -> str:
    """All that decides what is made."""
    return json.dumps(recipe._asdict(), sort_keys=True)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("names", nargs=-1, type=click.Choice(list(GENERATORS)))
@click.option("--seconds", default=240.0, show_default=True, help="Time for the measurement of each generator.")
@click.option("--batch", "batches", multiple=True, type=int, default=(1, 8), show_default=True, help="May be repeated.")
@click.option("--size", metavar="H[xW]", help="Of the pictures that are given, in place of each recipe's own.")
@click.option("--work", default="out/suite", show_default=True, type=click.Path(path_type=Path), help="For bundles.")
@click.option("--anew", is_flag=True, help="Measure again what FOLDER has already.")
@click.option("--summary-only", is_flag=True, help="Measure nothing; make the summary of what FOLDER has.")
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
    """Measure the generators NAMES, by default all; those that fail do not stop the others."""
    failed = []
    try:
        plan = Plan(work, batches, seconds, parse_size(size) if size else None)
        for name in () if summary_only else names or GENERATORS:
            path = folder / f"{name}.json"
            if not anew and is_current(path, GENERATORS[name], plan):
                _say(f"{name}: kept as it is")
                continue
            try:
                run(name, plan).save(path)
                write_summary(folder)
            except GanrtError as error:
                _say(f"{name} failed: {error}")
                failed.append(name)
        write_summary(folder)
    except GanrtError as error:
        _end(str(error), error.exit_code)
    if failed:
        _end(f"{', '.join(failed)} could not be measured, for the reasons above", MachineError.exit_code)
    click.echo(f"{folder / SUMMARY}")


def _end(message: str, code: int) -> NoReturn:
    """One sentence on standard error, and an exit code."""
    _say(f"error: {message}")
    sys.exit(code)


if __name__ == "__main__":
    main()
