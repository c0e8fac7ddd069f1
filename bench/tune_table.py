"""The result of `ganrt tune` on a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ganrt.choosing import LoadRequest

from . import texts
from .tuning import TuningResult


def print_tuning(result: TuningResult, console: Console) -> None:
    """Print the winner of each batch size with its time and how certain it is, what `load` opens from now on, what was
    left out and why, and every warning."""
    console.print(_make_winner_table(result))
    note = "Time: from inputs to uint8 pictures on the host, median of the rounds' medians with its 95 % interval."
    if result.untuned is not None:
        note += f" Speed: relative to {result.untuned}, which load picks without tuning."
    console.print(escape(note), style="dim", highlight=False)
    for name, reason in result.left_out.items():
        console.print(f"[bold]{escape(name)}[/] left out: {escape(reason)}", highlight=False)
    for warning in result.warnings:
        console.print(f"[yellow]warning[/] {escape(warning)}", highlight=False)
    if result.in_use != result.record:
        line = f"This measurement is provisional; the decided one of {result.in_use.date[:10]} stays in use."
        console.print(f"[yellow]{escape(line)}[/]", highlight=False)
    picked = result.in_use.pick(None, LoadRequest().allows)
    if picked is not None:
        choice, reason = picked
        console.print(f"load picks [bold]{escape(str(choice))}[/] from now on ({escape(reason)})", highlight=False)


def _make_winner_table(result: TuningResult) -> Table:
    title = f"{result.bundle} at {result.record.quality:g} dB or more, on {result.environment.processor}"
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for column in ("batch", "fastest", "median\nms", "95 %\nms", "images\n/s", "speed", "PSNR\ndB", "certainty"):
        side = "left" if column in ("fastest", "certainty") else "right"
        table.add_column(column, justify=side, no_wrap=column != "certainty")  # type: ignore[arg-type]
    for verdict in result.verdicts:
        ms = verdict.seconds.scale(1e3)
        table.add_row(
            str(verdict.batch),
            escape(verdict.winner),
            texts.format_number(ms.value),
            texts.format_interval(ms),
            texts.format_number(verdict.batch / verdict.seconds.value),
            texts.format_ratio(verdict.speedup),
            texts.format_psnr(verdict.worst_psnr),
            escape(verdict.reason),
        )
    return table
