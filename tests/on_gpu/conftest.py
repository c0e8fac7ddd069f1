"""Tests that need a GPU: `make test-gpu`. The record of the last run has its date, machine and versions."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from ganrt.machine import has_nvidia_gpu

RECORD = Path(__file__).parents[2] / "bench" / "results" / "gpu" / "tests.json"
_outcomes: dict[str, str] = {}


def pytest_runtest_setup(item: pytest.Item) -> None:
    if not has_nvidia_gpu():
        pytest.fail("this machine has no NVIDIA GPU, so nothing was tested", pytrace=False)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if "tests/on_gpu/" in report.nodeid and (report.when == "call" or report.outcome != "passed"):
        reason = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else ""
        _outcomes[report.nodeid.rpartition("/")[2]] = f"{report.outcome} {reason}".strip()


def pytest_sessionfinish() -> None:
    if not _outcomes or not has_nvidia_gpu():
        return
    from ganrt.bench.clock import now_utc
    from ganrt.bench.environment import MachineMonitor

    RECORD.parent.mkdir(parents=True, exist_ok=True)
    environment = dataclasses.asdict(MachineMonitor().finish())
    body = {"date": now_utc(), "environment": environment, "outcomes": _outcomes}
    RECORD.write_text(json.dumps(body, indent=1) + "\n")
