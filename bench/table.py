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
    """One row per backend and batch size, what the times include, and every warning."""
    if report.measurements:
        console.print(_speed(report))
        console.print(_overhead(report))
        time = f"Time: from {report.scopes[report.whole]}. Session: {report.scopes['session']}."
        notes = (time, *texts.given(report), texts.LEGEND, METHOD)
        for note in notes:
            console.print(note, style="dim", highlight=False)
    for backend in report.backends:
        if backend.status != "measured":
            console.print(f"[bold]{escape(backend.name)}[/] {backend.status}: {escape(backend.reason)}")
    for warning in report.warnings:
        console.print(f"[yellow]warning[/] {escape(warning)}")


def _speed(report: Report) -> Table:
    table = _table(
        f"{report.bundle}: {report.family}, {report.image}, {report.precision}, on {report.environment.processor}",
        *(
            "backend",
            "batch",
            "median\nms",
            "95 %\nms",
            "p90\nms",
            "p99\nms",
            "images\n/s",
            "speed",
            "PSNR\ndB",
        ),
    )
    before = 0
    for backend, batch in report.cases:
        m = report.find(backend, batch, report.whole)
        assert m is not None
        if before not in (0, batch):
            table.add_section()
        before = batch
        table.add_row(
            escape(backend),
            str(batch),
            texts.number(m.latency.value),
            texts.interval(m.latency),
            texts.tail(m.tail(0.9)),
            texts.tail(m.tail(0.99)),
            texts.number(m.images_per_second.value),
            texts.ratio(report.speedup(backend, batch)),
            texts.psnr(report.facts(backend).worst_psnr),
        )
    return table


def _overhead(report: Report) -> Table:
    table = _table(
        f"What Generator.{report.whole} adds to the bare session, on the same inputs in turn",
        *("backend", "batch", "session\nms", "95 %\nms", f"{report.whole}\nms", f"{report.whole}\nadds"),
    )
    for backend, batch in report.cases:
        session, whole = report.find(backend, batch, "session"), report.find(backend, batch, report.whole)
        if session is None or whole is None:
            continue
        table.add_row(
            escape(backend),
            str(batch),
            texts.number(session.latency.value),
            texts.interval(session.latency),
            texts.number(whole.latency.value),
            texts.overhead(report.overhead(backend, batch)),
        )
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, justify="left" if column == "backend" else "right", no_wrap=True)
    return table
