"""Measure how fast each backend runs a bundle, with confidence intervals, and find the fastest setup of a machine.

    from ganrt.bench import measure, print_table, write_page

    report = measure("digits.ganrt", batches=[1, 8], seconds=45)

Names are imported on first use, because worker processes must not load the plotting library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ganrt.lazy import lazy_exports

if TYPE_CHECKING:
    from .context import Context, MatrixProduct
    from .environment import Environment
    from .harness import measure
    from .page import write_page
    from .results import BackendResult, Measurement, Report
    from .statistics import Estimate
    from .table import print_table
    from .tune_table import print_tuning
    from .tuning import TuningResult, Verdict, tune
    from .worker import Facts

__all__ = [
    "BackendResult",
    "Context",
    "Environment",
    "Estimate",
    "Facts",
    "MatrixProduct",
    "Measurement",
    "Report",
    "TuningResult",
    "Verdict",
    "measure",
    "print_table",
    "print_tuning",
    "tune",
    "write_page",
]

_MODULES = {
    "BackendResult": "results",
    "Context": "context",
    "Environment": "environment",
    "Estimate": "statistics",
    "Facts": "worker",
    "MatrixProduct": "context",
    "Measurement": "results",
    "Report": "results",
    "TuningResult": "tuning",
    "Verdict": "tuning",
    "measure": "harness",
    "print_table": "table",
    "print_tuning": "tune_table",
    "tune": "tuning",
    "write_page": "page",
}

__getattr__ = lazy_exports(__name__, _MODULES, "bench", "the benchmark")
