"""The machine that a measurement ran on, as far as the figures depend on it. No user names, host names or paths."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from ganrt.machine import cpu_name, has_nvidia_gpu, nvidia_details, usable_cores

from .libraries import read_versions
from .system import read_machine_seconds, read_memory, read_own_seconds

_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


@dataclass(frozen=True)
class Environment:
    """A machine at the end of a measurement (`load_before`: at its start)."""

    processor: str
    """Model name of the CPU."""
    cores: int
    """Logical processors that this process may use."""
    memory_gib: float
    """Physical memory in GiB."""
    governor: str | None
    """Frequency governor of the CPU; None where the system does not report one."""
    system: str
    """Operating system and architecture: `Linux x86_64`."""
    python: str
    """Version of Python."""
    libraries: dict[str, str]
    """Library -> version, of those that are installed."""
    gpus: tuple[str, ...]
    """Name, memory and driver of each NVIDIA GPU; without nvidia-ml-py what /proc says of them."""
    load_before: float
    """Load average of the minute before the measurement."""
    load_after: float
    """Load average of its last minute."""
    foreign_share: float
    """Share of all CPU time that other programs used during the measurement, 0 to 1."""


class MachineMonitor:
    """Records who uses the CPU, from construction until `finish`."""

    def __init__(self) -> None:
        self._load = os.getloadavg()[0]
        self._busy, self._total = read_machine_seconds()
        self._own = read_own_seconds()

    def finish(self) -> Environment:
        """Describe the machine. Call it after the worker processes have ended: only then is their CPU time counted as
        our own and not as that of other programs."""
        busy, total = read_machine_seconds()
        own = read_own_seconds() - self._own
        foreign = (busy - self._busy - own) / max(total - self._total, 1e-9)
        return Environment(
            processor=cpu_name(),
            cores=usable_cores(),
            memory_gib=round(read_memory("MemTotal") / 2**30, 1),
            governor=_GOVERNOR.read_text(encoding="ascii").strip() if _GOVERNOR.exists() else None,
            system=f"{platform.system()} {platform.machine()}",
            python=platform.python_version(),
            libraries=read_versions(),
            gpus=_describe_gpus(),
            load_before=round(self._load, 2),
            load_after=round(os.getloadavg()[0], 2),
            foreign_share=round(min(max(foreign, 0.0), 1.0), 4),
        )


def _describe_gpus() -> tuple[str, ...]:
    if not has_nvidia_gpu():
        return ()
    try:
        import pynvml
    except ImportError:  # tuning needs no extra; /proc has less, and nothing on a Jetson
        known = [f"{name}: {text}" for name, text in nvidia_details().items()]
        return tuple(known) or ("an NVIDIA GPU of unknown name, as nvidia-ml-py is not installed",)
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return (f"an NVIDIA GPU whose driver does not answer ({error})",)
    try:
        driver = pynvml.nvmlSystemGetDriverVersion()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(k) for k in range(pynvml.nvmlDeviceGetCount())]
        return tuple(
            f"{pynvml.nvmlDeviceGetName(h)}, {pynvml.nvmlDeviceGetMemoryInfo(h).total / 2**30:.0f} GiB, driver {driver}"
            for h in handles
        )
    finally:
        pynvml.nvmlShutdown()
