"""The report as one HTML file that needs nothing else: table, plot, pictures, doubts, machine, and the raw JSON."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from ganrt import atomic, images
from ganrt.bundle import Bundle

from . import texts
from .cases import METHOD
from .plot import svg
from .results import Report
from .worker import sheet_of

_TEMPLATE = "page.html"


def write_page(report: Report, bundle_path: str | Path, path: str | Path) -> None:
    """Write the page, in one step. `bundle_path`: the bundle that was measured, for the original's pictures.

    Raises BundleError for a bundle that cannot be read, MachineError when the page cannot be written.
    """
    atomic.write_file(Path(path), render(report, Bundle.read(bundle_path)).encode())


def render(report: Report, bundle: Bundle) -> str:
    """The HTML text."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    source = resources.files(__package__).joinpath(_TEMPLATE).read_text(encoding="utf-8")
    return environment.from_string(source).render(
        report=report,
        rows=list(_rows(report)),
        plot=svg(report) if report.measurements else "",
        sheets=list(_sheets(report, bundle)),
        machine=_machine(report),
        method=METHOD,
        texts=texts,
        # inside <script> only "<" could end the element; JSON may write it as an escape
        raw=report.to_json().replace("<", "\\u003c"),
    )


def _rows(report: Report) -> Iterator[dict[str, Any]]:
    batches = [batch for _, batch in report.cases]
    for k, (backend, batch) in enumerate(report.cases):
        yield {
            "backend": backend,
            "batch": batch,
            "first": k == 0 or batches[k - 1] != batch,
            "whole": report.find(backend, batch, report.whole),
            "session": report.find(backend, batch, "session"),
            "speedup": report.speedup(backend, batch),
            "overhead": report.overhead(backend, batch),
            "facts": report.facts(backend),
        }


def _sheets(report: Report, bundle: Bundle) -> Iterator[tuple[str, str]]:
    """(name, PNG as base64): the original's pictures, then those of each backend."""
    golden = bundle.golden()
    if golden is not None:
        shown = sheet_of(golden).images
        sheet = images.grid(images.to_uint8(shown, bundle.spec.output.range), columns=len(shown))
        yield "PyTorch original", base64.b64encode(images.encode_png(sheet)).decode()
    yield from ((b.name, b.facts.sheet) for b in report.backends if b.facts is not None)


def _machine(report: Report) -> dict[str, str]:
    e = report.environment
    return {
        "processor": e.processor,
        "cores": f"{e.cores}, governor {e.governor or 'not told'}",
        "memory": f"{e.memory_gib} GiB",
        "GPU": "; ".join(e.gpus) or "none",
        "system": f"{e.system}, Python {e.python}",
        "libraries": ", ".join(f"{name} {version}" for name, version in e.libraries.items()),
        "load average": f"{e.load_before} before, {e.load_after} after",
        "used by others meanwhile": f"{e.foreign_share:.0%} of the processor",
    }
