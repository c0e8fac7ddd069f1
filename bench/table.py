"""The report on a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from . import texts
from .cases import METHOD
from .results import Report


def print_table(report: Report, console: Console) -> None:
    """Print a row per backend and batch size, what the times include, and every warning."""
    if report.measurements:
        console.print(_make_speed_table(report))
        console.print(_make_overhead_table(report))
        time = f"Time: from {report.scopes[report.end_to_end]}. Session: {report.scopes['session']}."
        notes = (time, *texts.describe_pictures(report), texts.LEGEND, METHOD)
        for note in notes:
            console.print(note, style="dim", highlight=False)
    for backend in report.backends:
        if backend.status != "measured":
            console.print(f"[bold]{escape(backend.name)}[/] {backend.status}: {escape(backend.reason)}")
    for warning in report.warnings:
        console.print(f"[yellow]warning[/] {escape(warning)}")


def _make_speed_table(report: Report) -> Table:
    columns = ("backend", "batch", "median\nms", "95 %\nms", "p90\nms", "p99\nms", "images\n/s", "speed", "PSNR\ndB")
    table = _make_table(
        f"{report.bundle}: {report.family}, {report.image}, {report.precision}, on {report.environment.processor}",
        *columns,
    )
    before = 0
    for backend, batch in report.cases:
        m = report.find(backend, batch, report.end_to_end)
        assert m is not None
        if before not in (0, batch):
            table.add_section()
        before = batch
        table.add_row(
            escape(backend),
            str(batch),
            texts.format_number(m.latency.value),
            texts.format_interval(m.latency),
            texts.format_tail(m.tail(0.9)),
            texts.format_tail(m.tail(0.99)),
            texts.format_number(m.images_per_second.value),
            texts.format_ratio(report.speedup(backend, batch)),
            texts.format_psnr(report.facts(backend).worst_psnr),
        )
    return table


def _make_overhead_table(report: Report) -> Table:
    scope = report.end_to_end
    table = _make_table(
        f"What Generator.{scope} adds to the bare session, in paired calls on the same inputs",
        *("backend", "batch", "session\nms", "95 %\nms", f"{scope}\nms", f"{scope}\nadds"),
    )
    for backend, batch in report.cases:
        session, end_to_end = report.find(backend, batch, "session"), report.find(backend, batch, scope)
        if session is None or end_to_end is None:
            continue
        table.add_row(
            escape(backend),
            str(batch),
            texts.format_number(session.latency.value),
            texts.format_interval(session.latency),
            texts.format_number(end_to_end.latency.value),
            texts.format_overhead(report.overhead(backend, batch)),
        )
    return table


def _make_table(title: str, *columns: str) -> Table:
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, justify="left" if column == "backend" else "right", no_wrap=True)
    return table
