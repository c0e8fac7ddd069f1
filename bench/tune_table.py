"""What `ganrt tune` found, on a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from . import texts
from .tuning import Outcome


def print_tuned(outcome: Outcome, console: Console) -> None:
    """The winner of each batch size with its time and how sure that is; what `load` takes; what was left out and why;
    and every reason to doubt the figures."""
    console.print(_winners(outcome))
    note = "Time: from inputs to uint8 pictures on the host, median of the rounds' medians with its 95 % interval."
    if outcome.untuned is not None:
        note += f" Speed: against {outcome.untuned}, which load picks without tuning."
    console.print(escape(note), style="dim", highlight=False)
    for name, reason in outcome.left_out.items():
        console.print(f"[bold]{escape(name)}[/] left out: {escape(reason)}", highlight=False)
    for warning in outcome.warnings:
        console.print(f"[yellow]warning[/] {escape(warning)}", highlight=False)
    picked = outcome.record.pick(None)
    if picked is not None:
        choice, reason = picked
        console.print(f"load picks [bold]{escape(str(choice))}[/] from now on ({escape(reason)})", highlight=False)


def _winners(outcome: Outcome) -> Table:
    title = f"{outcome.bundle} at {outcome.record.quality:g} dB or more, on {outcome.environment.processor}"
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for column in ("batch", "fastest", "median\nms", "95 %\nms", "images\n/s", "speed", "PSNR\ndB", "how sure"):
        side = "left" if column in ("fastest", "how sure") else "right"
        table.add_column(column, justify=side, no_wrap=column != "how sure")  # type: ignore[arg-type]
    for verdict in outcome.verdicts:
        ms = verdict.seconds.map(1e3)
        table.add_row(
            str(verdict.batch),
            escape(verdict.winner),
            texts.number(ms.value),
            texts.interval(ms),
            texts.number(verdict.batch / verdict.seconds.value),
            texts.ratio(verdict.speedup),
            texts.psnr(verdict.worst_psnr),
            escape(verdict.reason),
        )
    return table
