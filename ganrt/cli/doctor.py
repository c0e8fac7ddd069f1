"""The checks of `ganrt doctor`: what this machine can run, and why not."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import Any

from ganrt.backend import backend_names, backend_table, import_backend, library_version
from ganrt.errors import GanrtError
from ganrt.machine import has_nvidia_gpu

_CONFLICT = ("onnxruntime", "onnxruntime-gpu")


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    subject: str
    """A backend, a library, or `gpu`."""
    passed: bool
    text: str
    """The version that was found, or what is missing and how to fix it."""


def run_checks() -> list[Check]:
    """Check every backend, the GPU, and for installations that break each other."""
    checks = [_check_backend(name) for name in backend_names()]
    checks.append(_check_gpu())
    if all(map(_is_installed, _CONFLICT)):
        checks.append(
            Check(
                "onnxruntime",
                False,
                "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files. Fix it with: "
                "pip uninstall -y onnxruntime onnxruntime-gpu, then pip install onnxruntime-gpu (or onnxruntime)",
            )
        )
    return checks


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
    return Check(name, True, f"{library} {library_version(library)}")


def _check_gpu() -> Check:
    if has_nvidia_gpu():
        return Check("gpu", True, "an NVIDIA driver is loaded")
    return Check("gpu", False, "no NVIDIA driver on this machine; the CPU backends do not need one")


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
