"""Measuring: how fast each backend makes a bundle's pictures, and how sure that is.

    from ganrt.bench import measure, print_table, write_page

    report = measure("digits.ganrt", None, [1, 8], seconds=45)

Each name is imported when it is first used: a worker process must not carry the plotting library that it never needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ganrt.errors import MissingLibraryError

if TYPE_CHECKING:
    from .harness import measure
    from .page import write_page
    from .results import Backend, Measurement, Report
    from .table import print_table
    from .tune_table import print_tuned
    from .tuning import Outcome, tune

__all__ = [
    "Backend",
    "Measurement",
    "Outcome",
    "Report",
    "measure",
    "print_table",
    "print_tuned",
    "tune",
    "write_page",
]

_HOMES = {
    "Backend": "results",
    "Measurement": "results",
    "Outcome": "tuning",
    "Report": "results",
    "measure": "harness",
    "print_table": "table",
    "print_tuned": "tune_table",
    "tune": "tuning",
    "write_page": "page",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"{__name__} has no {name!r}")
    try:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    except ImportError as error:
        library = (error.name or "a library").partition(".")[0]
        if library == "ganrt":
            raise
        raise MissingLibraryError(library, "bench", "the benchmark") from error
