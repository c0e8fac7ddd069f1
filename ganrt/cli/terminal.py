"""What the commands read from their options and how they print."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from ganrt.errors import RequestError

if TYPE_CHECKING:
    from rich.console import Console

    from ganrt.proof import Proof


_WIDTH = 140


def settings(pairs: tuple[str, ...], option: str = "--config") -> dict[str, str]:
    """The values of an option that is given as name=value. Raises RequestError."""
    read = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise RequestError(f"{option} {pair} is not of the form name=value")
        read[name] = value
    return read


def numbers(pairs: tuple[str, ...], option: str) -> dict[str, int | float]:
    """The same for numbers; whole ones stay whole, because labels must be. Raises RequestError."""
    return {name: _number(name, text, option) for name, text in settings(pairs, option).items()}


def _number(name: str, text: str, option: str) -> int | float:
    try:
        return float(text) if set(text) & set(".eEnN") else int(text)
    except ValueError as error:
        raise RequestError(f"{option} {name}={text}: {text!r} is not a number") from error


def labels_of(text: str | None) -> int | list[int] | None:
    """A class, or several separated by commas. Raises RequestError."""
    if text is None:
        return None
    try:
        classes = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise RequestError(f"--labels {text} is not a class number, or several separated by commas") from error
    return classes[0] if len(classes) == 1 else classes


def decibels_of(text: str) -> float:
    """`40dB`, `40 dB` or `40`. Raises RequestError."""
    number = text.strip()
    if number.lower().endswith("db"):
        number = number[:-2].rstrip()
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,9})?", number):
        raise RequestError(f"--quality {text} is not a number of decibels, such as 40dB")
    return float(number)


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[float, str], None]]:
    """Gives what shows progress, called with the share that is done and what is being done: a bar on a terminal, in a
    log a plain line for each new thing; both on standard error."""
    if not sys.stderr.isatty():
        said = ""

        def tell(share: float, text: str) -> None:
            nonlocal said
            if text != said:
                said = text
                say(f"{share:4.0%} {text}")

        yield tell
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as progress:
        task = progress.add_task(escape(title), total=1.0)
        yield lambda share, text: progress.update(task, completed=share, description=escape(text))


def print_proofs(title: str, proofs: Iterable[Proof]) -> None:
    """A table on standard output."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("backend", "device", "precision", "samples", "worst", "median", "verdict", title=escape(title))
    for p in proofs:
        verdict = "passed" if p.passed else f"[bold red]failed[/]: {escape(p.failures[0])}"
        row = (
            p.backend,
            p.device,
            p.precision,
            str(p.samples),
            f"{p.worst_psnr:.1f} dB",
            f"{p.median_psnr:.1f} dB",
            verdict,
        )
        table.add_row(*row)
    console().print(table)


def say(line: str) -> None:
    """Progress: one plain line on standard error."""
    click.echo(line, err=True)


def console() -> Console:
    """Standard output as it is now: tests and callers may have replaced it. A file or a pipe gets lines that are wide
    enough for every table."""
    from rich.console import Console

    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDTH)
