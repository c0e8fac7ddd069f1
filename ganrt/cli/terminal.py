"""What the commands print: progress, tables, lines."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

    from ganrt.proof import Proof

_WIDTH = 140
"""Columns of a file or a pipe: enough for every table."""


@contextmanager
def show_progress(title: str, every: float = 0.0) -> Iterator[Callable[[float, str], None]]:
    """Show progress on standard error: a bar on a terminal, a line for each new step in a log.

    Args:
        every: in a log, skip steps until this share of the work has been done since the last line.

    Yields a function that takes the share that is done, 0 to 1, and what is being done.
    """
    if not sys.stderr.isatty():
        last, due = "", 0.0

        def report(share: float, text: str) -> None:
            nonlocal last, due
            if text != last and share >= due:
                last, due = text, share + every
                log(f"{share:4.0%} {text}")

        yield report
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as progress:
        task = progress.add_task(escape(title), total=1.0)
        yield lambda share, text: progress.update(task, completed=share, description=escape(text))


@contextmanager
def show_item_progress(unit: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """Show how many of many items are done, their rate and the time left, on standard error: a bar on a terminal, some
    twenty lines in a log.

    Yields a function that takes the number that are done, and the name of the last one.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

    terminal = sys.stderr.isatty()
    rates = TextColumn(f"{{task.fields[rate]}} {unit}/s")
    columns: tuple[ProgressColumn, ...] = (BarColumn(20), MofNCompleteColumn(), rates, TimeRemainingColumn())
    console = Console(file=sys.stderr)
    with Progress(*columns, TextColumn("{task.description}"), console=console, disable=not terminal) as progress:
        number = progress.add_task("", total=total, rate="-")
        shown = 0

        def report(done: int, name: str) -> None:
            nonlocal shown
            task = progress.tasks[0]
            progress.update(number, completed=done, description=escape(name))
            rate = "-" if task.speed is None else f"{task.speed:.3g}" if task.speed < 100 else f"{task.speed:.0f}"
            progress.update(number, rate=rate)
            if not terminal and total > 1 and (done == total or done * 20 // total > shown):
                shown = done * 20 // total
                speed = "" if task.speed is None else f", {rate} {unit}/s"
                known = task.speed is not None and task.time_remaining is not None and done < total
                left = f", {task.time_remaining:.0f} s left" if known else ""
                log(f"{done} of {total} {unit}{speed}{left}: {name}")

        yield report


def print_proofs(title: str, proofs: Iterable[Proof]) -> None:
    """Print a table of proofs on standard output."""
    from rich.markup import escape
    from rich.table import Table

    from ganrt.proof import format_psnr

    table = Table("backend", "device", "precision", "samples", "worst", "median", "verdict", title=escape(title))
    for p in proofs:
        verdict = "passed" if p.passed else f"[bold red]refused[/]: {escape(p.failures[0])}"
        psnr = map(format_psnr, (p.worst_psnr, p.median_psnr))
        table.add_row(p.backend, p.device, p.precision, str(p.samples), *psnr, verdict)
    open_console().print(table)


def log(line: str) -> None:
    """Print one line of progress on standard error."""
    click.echo(line, err=True)


def open_console() -> Console:
    """A console on standard output as it is now: tests and callers may have replaced it."""
    from rich.console import Console

    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDTH)
