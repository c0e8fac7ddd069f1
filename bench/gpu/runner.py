"""Runs the checks of a step on a GPU machine. What was found is written after each check, so that a run that is cut off
leaves it.

Each check runs in a process of its own: a crash of a library, a GPU that does not answer and a lost CUDA context end
that check, and the next one runs.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Literal

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ganrt.atomic import write_file
from ganrt.backend import first_line
from ganrt.errors import GanrtError
from ganrt.machine import cpu_name, nvidia_details, usable_cores

from .. import clock
from ..libraries import read_versions

_log = partial(click.echo, err=True)
_QUERY = ("name", "driver_version", "compute_cap", "memory.total", "clocks.max.sm", "clocks.max.mem", "power.limit")
_EXIT_TIMEOUT_S = 5.0
_WIDTH = 150

State = Literal["passed", "failed", "needs a GPU"]


class GpuNeededError(Exception):
    """Ends a check in a rehearsal. The text is what was done without a GPU."""


@dataclass(frozen=True)
class Setting:
    """What a check works with."""

    bundles: Path
    """Folder of the bundles that `ganrt.bench.gpu.bundles` writes."""
    results: Path
    """Folder of the results; a check may add files."""
    rehearsal: bool
    """True on a machine without a GPU, where checks go as far as they can."""

    @property
    def device(self) -> str:
        """`cuda`; `cpu` in a rehearsal, for libraries that run on both."""
        return "cpu" if self.rehearsal else "cuda"

    def require_gpu(self, done: str) -> None:
        """End the check here in a rehearsal.

        Args:
            done: what was done so far, for the table.
        """
        if self.rehearsal:
            raise GpuNeededError(done)


@dataclass(frozen=True)
class Check:
    """A check of a step."""

    name: str
    act: Callable[[Setting], str]
    """Returns a line of figures. Any exception fails the check."""
    limit: float = 60.0
    """Seconds after which it is ended."""


@dataclass(frozen=True)
class Outcome:
    """What became of a check."""

    check: str
    state: State
    text: str
    """The figures; of a failed check, the type and the first line of the error."""
    seconds: float


def run_checks(title: str, checks: Sequence[Check], setting: Setting, file: Path) -> list[Outcome]:
    """Run checks in order, and write `file` after each. Raises MachineError if it cannot be written."""
    body = {"title": title, "date": clock.now_utc(), "rehearsal": setting.rehearsal, "machine": describe_machine()}
    outcomes: list[Outcome] = []
    for number, check in enumerate(checks, 1):
        _log(f"{number} of {len(checks)}: {check.name}")
        started = clock.now_ns()
        state, text = run_apart(check, setting)
        text = text.replace(f"{setting.bundles}/", "").replace(str(Path.home()), "~")  # the file may be published
        _log(f"  {state}: {text}")
        outcomes.append(Outcome(check.name, state, text, round((clock.now_ns() - started) / 1e9, 1)))
        body["outcomes"] = [asdict(outcome) for outcome in outcomes]
        write_file(file, json.dumps(body, indent=1).encode() + b"\n")
    return outcomes


def run_apart(check: Check, setting: Setting) -> tuple[State, str]:
    """Run a check in a process of its own, with the processes that it starts, and end them all after its limit."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(theirs, check.act, setting))
    process.start()
    theirs.close()
    try:
        if not ours.poll(check.limit):
            return "failed", f"it took longer than {check.limit:g} s"
        found: tuple[State, str] = ours.recv()
        return found
    except EOFError:
        process.join(_EXIT_TIMEOUT_S)
        code = process.exitcode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return "failed", f"its process {how}"
    finally:
        ours.close()
        _end_group(process)


def run_here(act: Callable[[Setting], str], setting: Setting) -> tuple[State, str]:
    """Run a check in this process."""
    try:
        return "passed", act(setting)
    except GpuNeededError as needed:
        return "needs a GPU", str(needed)
    except GanrtError as error:
        return "failed", f"{type(error).__name__}: {' '.join(str(error).split())}"
    except Exception as error:  # whatever a library raises
        return "failed", f"{type(error).__name__}: {first_line(error)}"


def _serve(connection: Connection, act: Callable[[Setting], str], setting: Setting) -> None:
    os.setpgid(0, 0)  # so that what it starts can be ended with it
    connection.send(run_here(act, setting))


def _end_group(process: SpawnProcess) -> None:
    """Kill a process, and those that it started and left."""
    with suppress(ProcessLookupError, PermissionError):  # its group has ended, or it had not made one yet
        os.killpg(process.pid or 0, signal.SIGKILL)
    process.kill()
    process.join()


def describe_machine() -> dict[str, object]:
    """Return what results depend on: processor, Python, GPU, driver and libraries. No host or user names."""
    return {
        "processor": cpu_name(),
        "cores": usable_cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "gpu": read_gpu_facts() or nvidia_details(),
        "libraries": read_versions(),
    }


def read_gpu_facts() -> dict[str, str]:
    """Return what nvidia-smi reports of the first GPU; empty without it."""
    command = ["nvidia-smi", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader", "--id=0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    values = [value.strip() for value in done.stdout.strip().split(",")]
    return dict(zip(_QUERY, values, strict=True)) if not done.returncode and len(values) == len(_QUERY) else {}


def make_table(title: str, outcomes: Sequence[Outcome]) -> Table:
    """Return a table with a row for each check."""
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    for column in ("check", "outcome", "s", "figures"):
        table.add_column(column, justify="right" if column == "s" else "left", overflow="fold")
    for outcome in outcomes:
        table.add_row(escape(outcome.check), outcome.state, f"{outcome.seconds:.1f}", escape(outcome.text))
    return table


def print_outcomes(title: str, outcomes: Sequence[Outcome]) -> None:
    """Print the table on standard output."""
    Console(width=_WIDTH).print(make_table(title, outcomes))
