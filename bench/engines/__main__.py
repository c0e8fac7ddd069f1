"""The command."""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

import click

from ganrt.bundle import Bundle
from ganrt.errors import GanrtError
from ganrt.images import parse_size

from .. import clock
from ..cases import check_size, open_bundle
from ..environment import MachineMonitor
from .adapters import ENGINES
from .comparison import OWN, list_jobs, run_engines, start_process
from .results import EngineReport
from .table import format_report

_log = partial(click.echo, err=True)


def compare_engines(bundle: Bundle, names: tuple[str, ...], batch: int, size: str | None, rounds: int) -> EngineReport:
    """Measure engines on a bundle. Raises RequestError for a wrong argument. An engine that fails is in the report."""
    picture = check_size(bundle.spec, None if size is None else parse_size(size))
    monitor = MachineMonitor()
    with tempfile.TemporaryDirectory(prefix="ganrt-engines-") as folder:
        jobs = list_jobs(bundle, names, Path(folder), batch, picture)
        results, orders = run_engines(jobs, rounds, start_process, _log)
    name = Path(bundle.path).name
    return EngineReport(name, batch, picture, clock.now_utc(), tuple(orders), tuple(results), monitor.finish())


@click.command()
@click.argument("bundle")
@click.option("--batch", default=1, show_default=True, type=click.IntRange(1, 1024), help="Images per call.")
@click.option("--size", metavar="HxW", help="Height and width of the pictures that the model is given.")
@click.option("--rounds", default=9, show_default=True, type=click.IntRange(7), help="Rounds of each engine.")
@click.option(
    "--engine", "names", multiple=True, metavar="NAME", help=f"{', '.join(ENGINES)}, or {OWN}; may be repeated."
)
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the report.")
def main(bundle: str, batch: int, size: str | None, rounds: int, names: tuple[str, ...], out: Path) -> None:
    """Compare the engines, by default all, on BUNDLE; print a table in Markdown, and write every raw time as JSON."""
    try:
        report = compare_engines(open_bundle(bundle), names, batch, size, rounds)
        report.save(out / f"{Path(report.bundle).stem}.json")
    except GanrtError as error:
        _log(f"error: {error}")
        sys.exit(error.exit_code)
    click.echo(format_report(report), nl=False)


if __name__ == "__main__":
    main()
