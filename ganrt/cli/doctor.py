"""What `ganrt doctor` finds: what this machine is and can run, and why not."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import dataclass
from typing import Any

from ganrt.backend import backend_names, backend_table, import_backend, library_version
from ganrt.cache import cache_root, check_cache
from ganrt.cgroups import read_cpu_quota, read_memory_limit
from ganrt.errors import GanrtError, MachineError
from ganrt.machine import cpu_name, has_nvidia_gpu, machine_cores, machine_memory, nvidia_details, usable_cores
from ganrt.tuned import installed_versions

_CONFLICT = ("onnxruntime", "onnxruntime-gpu")


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    subject: str
    """A backend, a library, `gpu`, `cores` or `cache`."""
    passed: bool
    text: str
    """The version that was found, or what is missing and how to fix it."""


def run_checks() -> list[Check]:
    """Check every backend, the GPU, the cores and the cache, and for installations that break each other."""
    backends = [_check_backend(name) for name in backend_names()]
    return [*backends, _check_gpu(), _check_cores(), _check_cache(), *_find_conflicts()]


def collect_facts() -> dict[str, Any]:
    """Return what `ganrt doctor --json` prints; docs/containers.md describes the keys."""
    quota, limit = read_cpu_quota(), read_memory_limit()
    cache, gpu, backends = _check_cache(), _check_gpu(), map(_check_backend, backend_names())
    return {
        "machine": {
            "system": platform.system(),
            "release": platform.release(),
            "architecture": platform.machine(),
            "python": platform.python_version(),
            "processor": cpu_name(),
            "cores": {"all": machine_cores(), "usable": usable_cores(), "quota": quota},
            "memory": {"all": machine_memory(), "limit": limit},
        },
        "versions": {**installed_versions(), "numpy": library_version("numpy")},
        "gpu": {"usable": gpu.passed, "text": gpu.text, "details": nvidia_details()},
        "cache": {"folder": _find_cache_root(), "usable": cache.passed, "text": cache.text},
        "backends": {check.subject: {"usable": check.passed, "text": check.text} for check in backends},
        "problems": [check.text for check in _find_conflicts()],
    }


def _find_conflicts() -> list[Check]:
    if not all(map(_is_installed, _CONFLICT)):
        return []
    return [
        Check(
            "onnxruntime",
            False,
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files. Fix it with: "
            "pip uninstall -y onnxruntime onnxruntime-gpu, then pip install onnxruntime-gpu (or onnxruntime)",
        )
    ]


def _check_backend(name: str) -> Check:
    try:
        module: Any = import_backend(name)
    except GanrtError as error:
        return Check(name, False, str(error))
    library = backend_table()[name].package
    if name == "onnxruntime":
        import onnxruntime

        providers = ", ".join(p.removesuffix("ExecutionProvider") for p in onnxruntime.get_available_providers())
        return Check(name, True, f"{library} {onnxruntime.__version__}, providers: {providers}")
    if name == "tensorrt":
        runtime = "the lean runtime, which builds no engines" if module.LIBRARY.is_lean else "with its builder"
        return Check(name, True, f"{module.LIBRARY}, {runtime}")
    if name == "tensorrt-rtx":
        return Check(name, True, f"{module.LIBRARY}, compiles engines for RTX GPUs on this machine")
    if name == "ncnn":
        gpus = ", ".join(module.list_gpus()) or "no Vulkan driver"
        return Check(name, True, f"{library} {library_version(library)}, GPUs: {gpus}")
    return Check(name, True, f"{library} {library_version(library)}")


def _check_gpu() -> Check:
    if has_nvidia_gpu():
        return Check("gpu", True, "an NVIDIA driver is loaded")
    return Check("gpu", False, "no NVIDIA driver on this machine; the CPU backends do not need one")


def _check_cores() -> Check:
    quota = read_cpu_quota()
    limit = "" if quota is None else f", with a quota of {quota:g} processors"
    return Check("cores", True, f"{usable_cores()} of {machine_cores()} usable{limit}: {cpu_name()}")


def _check_cache() -> Check:
    try:
        check_cache()
    except MachineError as error:
        return Check("cache", False, str(error))
    return Check("cache", True, str(cache_root()))


def _find_cache_root() -> str | None:
    try:
        return str(cache_root())
    except MachineError:
        return None


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
