"""Measuring: how fast each backend makes a bundle's pictures, and how sure that is.

    from ganrt.bench import measure, print_table, write_page

    report = measure("digits.ganrt", None, [1, 8], seconds=45)

Each name is imported when it is first used: a worker process must not carry the plotting library that it never needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ganrt.lazy import lazy_exports

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

_MODULES = {
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

__getattr__ = lazy_exports(__name__, _MODULES, "bench", "the benchmark")
