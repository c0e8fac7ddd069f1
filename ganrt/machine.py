"""Facts about this machine that results and timings depend on."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path

from ganrt.cgroups import read_cpu_quota, read_memory_limit
from ganrt.errors import MachineError, RequestError

_NVIDIA_NODES = ("/dev/nvidia0", "/dev/dxg", "/dev/nvhost-gpu", "/dev/nvgpu")
"""Device files of an NVIDIA driver: desktop and server cards, WSL, Jetson."""


def cpu_name() -> str:
    """Return the model name of the processor, or its architecture if the system does not report a name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def machine_cores() -> int:
    """Return the number of logical processors of this machine, whoever may use them."""
    return os.sysconf("SC_NPROCESSORS_ONLN")


def usable_cores() -> int:
    """Return the number of logical processors that this process can keep busy, at least 1: those that it may run on, or
    fewer where the quota of a container allows less time. A quota of 1.5 processors counts as 2.

    From Python 3.13, PYTHON_CPU_COUNT and `-X cpu_count` replace the number of those that it may run on.
    """
    quota = read_cpu_quota()
    allowed = _count_allowed()
    return allowed if quota is None else min(allowed, math.ceil(quota))


def _count_allowed() -> int:
    if hasattr(os, "process_cpu_count"):
        return int(os.process_cpu_count() or 1)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_threads() -> int | None:
    """Return the number of threads to give a library if the user names none: `usable_cores`. None if that is the whole
    machine, so that the library's own default fits.

    Libraries count the processors of the machine. None of them reads a container's quota, and ONNX Runtime does not
    read the affinity mask either.
    """
    usable = usable_cores()
    return None if usable == machine_cores() else usable


def machine_memory() -> int:
    """Return the bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def usable_memory() -> int:
    """Return the bytes of memory that this process may use: those of the machine, or the limit of its container."""
    everything = machine_memory()
    return min(everything, read_memory_limit() or everything)


def has_nvidia_gpu() -> bool:
    """Return whether an NVIDIA driver has created a GPU device file. Loads no library."""
    return any(Path(node).exists() for node in _NVIDIA_NODES)


def nvidia_details() -> dict[str, str]:
    """Return the version of the NVIDIA driver and the GPU models from /proc; empty if the driver does not list them."""
    root = Path("/proc/driver/nvidia")
    found = {"driver": root / "version"} | {f"gpu {p.parent.name}": p for p in sorted(root.glob("gpus/*/information"))}
    return {
        name: path.read_text(errors="replace").splitlines()[0].strip() for name, path in found.items() if path.is_file()
    }


def parse_device(device: str, vulkan: bool = False) -> tuple[str, int]:
    """Parse `auto`, `cpu`, `cuda`, `vulkan`, `cuda:N` or `vulkan:N` into (kind, number); the number is 0 by default.

    Args:
        device: as given by the user.
        vulkan: whether the caller knows Vulkan; else it is rejected with a MachineError.

    Raises RequestError for anything else.
    """
    kind, colon, number = device.partition(":")
    if kind in ("cuda", "vulkan") and (not colon or number.isdecimal()):
        if kind == "vulkan" and not vulkan:
            raise MachineError(f"{device} was asked for, which the ncnn backend alone uses: choose backend='ncnn'")
        return kind, int(number or 0)
    if device in ("auto", "cpu"):
        return device, 0
    raise RequestError(f"there is no device {device!r}; choose auto, cpu, cuda, cuda:N, vulkan or vulkan:N")
