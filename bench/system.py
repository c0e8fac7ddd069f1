"""The few figures of a Linux system that measurements need, read from /proc and /sys, so that no library is needed."""

from __future__ import annotations

import os
from pathlib import Path

_PROC, _CPUS = Path("/proc"), Path("/sys/devices/system/cpu")
_BUSY_STATES = (0, 1, 2, 5, 6, 7)
"""Columns of /proc/stat: user, nice, system, irq, softirq, steal. The time of guests is part of user and nice."""
_IDLE_STATES = (3, 4)
"""Idle, and waiting for a disk."""


def read_machine_seconds() -> tuple[float, float]:
    """Return (busy, total) CPU seconds of all cores of the machine since it started."""
    first = (_PROC / "stat").read_text(encoding="ascii").splitlines()[0]
    ticks = [int(field) for field in first.split()[1:]]
    busy, idle = (sum(ticks[k] for k in states) / os.sysconf("SC_CLK_TCK") for states in (_BUSY_STATES, _IDLE_STATES))
    return busy, busy + idle


def read_own_seconds() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])


def read_memory(name: str) -> int:
    """Return a line of /proc/meminfo in bytes: `MemTotal`, or `MemAvailable`, which programs can get without
    swapping."""
    lines = (_PROC / "meminfo").read_text(encoding="ascii").splitlines()
    found = dict(line.split(":") for line in lines)
    return int(found[name].split()[0]) * 1024


def read_peak_mib() -> float | None:
    """Return the peak resident memory of this process in MiB; None where the system does not report it.

    From the kernel's own record: getrusage also counts the process that started this one.
    """
    try:
        lines = (_PROC / "self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    peak = next((line.split()[1] for line in lines if line.startswith("VmHWM:")), None)
    return None if peak is None else int(peak) / 1024


def count_physical_cores() -> int | None:
    """Return the number of physical cores of the machine; None where the system does not describe them."""
    siblings = {path.read_text(encoding="ascii") for path in _CPUS.glob("cpu[0-9]*/topology/thread_siblings_list")}
    return len(siblings) or None
