"""The report as one self-contained HTML file: table, plots, pictures, warnings, machine, and the raw JSON."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from ganrt import atomic, images
from ganrt.bundle import Bundle
from ganrt.levels import find_levels

from . import texts
from .cases import METHOD, open_bundle
from .plot import render_svg
from .results import Report
from .worker import select_sheet

_TEMPLATE = "page.html"


def write_page(report: Report, bundle: str | Path | Bundle, path: str | Path) -> None:
    """Write the page atomically.

    Args:
        bundle: the bundle that was measured, or its folder; the page shows the original's pictures from it.
        path: the HTML file.

    Raises BundleError for a bundle that cannot be read, and MachineError when the page cannot be written.
    """
    atomic.write_file(Path(path), render_page(report, open_bundle(bundle)).encode())


def render_page(report: Report, bundle: Bundle) -> str:
    """Return the HTML text."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    source = resources.files(__package__).joinpath(_TEMPLATE).read_text(encoding="utf-8")
    return environment.from_string(source).render(
        report=report,
        rows=list(_make_rows(report)),
        plot=render_svg(report) if report.measurements else "",
        sheets=list(_list_sheets(report, bundle)),
        machine=_describe_machine(report),
        method=METHOD,
        texts=texts,
        # inside <script> only "<" could end the element; JSON may write it as an escape
        raw=report.to_json().replace("<", "\\u003c"),
    )


def _make_rows(report: Report) -> Iterator[dict[str, Any]]:
    batches = [batch for _, batch in report.cases]
    for k, (backend, batch) in enumerate(report.cases):
        yield {
            "backend": backend,
            "batch": batch,
            "first": k == 0 or batches[k - 1] != batch,
            "end_to_end": report.find(backend, batch, report.end_to_end),
            "session": report.find(backend, batch, "session"),
            "speedup": report.speedup(backend, batch),
            "overhead": report.overhead(backend, batch),
            "facts": report.facts(backend),
        }


def _list_sheets(report: Report, bundle: Bundle) -> Iterator[tuple[str, str]]:
    """(name, PNG in base64): the original's pictures, then those of each backend."""
    golden = bundle.read_golden()
    if golden is not None:
        shown = select_sheet(golden.groups[0].images, len(golden.groups[0].seeds))
        sheet = images.make_grid(images.to_uint8(shown, find_levels(bundle.spec.output)), columns=len(shown))
        yield "PyTorch original", base64.b64encode(images.encode_png(sheet)).decode()
    yield from ((b.name, b.facts.sheet) for b in report.backends if b.facts is not None)


def _describe_machine(report: Report) -> dict[str, str]:
    e = report.environment
    return {
        "processor": e.processor,
        "cores": f"{e.cores}, governor {e.governor or 'unknown'}",
        "memory": f"{e.memory_gib} GiB",
        "GPU": "; ".join(e.gpus) or "none",
        "system": f"{e.system}, Python {e.python}",
        "libraries": ", ".join(f"{name} {version}" for name, version in e.libraries.items()),
        "load average": f"{e.load_before} before, {e.load_after} after",
        "other programs": f"{e.foreign_share:.0%} of the CPU",
    }
