"""Run a command that is killed at random moments and started again, and compare what it made."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ganrt.errors import MachineError

from .. import clock

_POLL = 0.02
"""Seconds between two looks at a running command."""


def run_command(arguments: Sequence[str]) -> str:
    """Run `ganrt ARGUMENTS` in a process of its own. Returns what it printed on standard output. Raises MachineError,
    with its messages, if it fails."""
    done = subprocess.run(_make_command(arguments), capture_output=True, text=True)
    if done.returncode:
        raise MachineError(f"ganrt {arguments[0]} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


def run_and_kill(
    arguments: Sequence[str], count_done: Callable[[], int], total: int, kills: int, seed: int
) -> list[int]:
    """Run `ganrt ARGUMENTS` to its end, killed (SIGKILL) `kills` times on the way, and started again each time.

    Args:
        count_done: counts the files that are complete.
        total: how many there are in the end.
        seed: of the moments: a random number of files each, and a random fraction of a second after that.

    Returns how many files were complete at each kill. Raises MachineError if the command fails, or ends before it is
    killed.
    """
    moments = random.Random(seed)
    marks = sorted(moments.sample(range(1, total - 1), kills))
    found = []
    for mark in marks:
        with subprocess.Popen(_make_command(arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as job:
            while count_done() < mark and job.poll() is None:
                clock.wait(_POLL)
            clock.wait(moments.random() / 10)
            if job.poll() is not None:
                raise MachineError(f"ganrt {arguments[0]} ended with {job.returncode} before it was killed")
            job.kill()
        found.append(count_done())
    run_command(arguments)
    return found


def _make_command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "ganrt", *arguments]


def hash_folder(folder: Path) -> dict[str, str]:
    """Name of each file in a folder and below -> digest of its content."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
