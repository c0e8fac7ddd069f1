"""What this machine can run, and why not."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass

from ganrt.backend import BACKENDS, backend_module, backend_names, library_version
from ganrt.errors import GanrtError
from ganrt.machine import has_nvidia_gpu

_CONFLICT = ("onnxruntime", "onnxruntime-gpu")


@dataclass(frozen=True)
class Finding:
    """One line of the examination."""

    subject: str
    good: bool
    text: str


def examine() -> list[Finding]:
    """Look at every backend, and for installations that are known to break each other."""
    findings = [_backend(name) for name in backend_names()]
    findings.append(_gpu())
    if all(map(_installed, _CONFLICT)):
        findings.append(
            Finding(
                "onnxruntime",
                False,
                "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files. Mend it with: "
                "pip uninstall -y onnxruntime onnxruntime-gpu, then pip install onnxruntime-gpu (or onnxruntime)",
            )
        )
    return findings


def _backend(name: str) -> Finding:
    try:
        backend_module(name)
    except GanrtError as error:
        return Finding(name, False, str(error))
    if name not in BACKENDS:
        return Finding(name, True, "installed by another package")
    library = BACKENDS[name].package
    if name == "onnxruntime":
        import onnxruntime

        providers = ", ".join(p.removesuffix("ExecutionProvider") for p in onnxruntime.get_available_providers())
        return Finding(name, True, f"{library} {onnxruntime.__version__}, providers: {providers}")
    if name == "tensorrt":
        from ganrt.gpu.nvinfer import LEAN, trt

        runtime = "the lean runtime, which builds no engines" if LEAN else "with its builder"
        return Finding(name, True, f"TensorRT {trt.__version__}, {runtime}")
    return Finding(name, True, f"{library} {library_version(library)}")


def _gpu() -> Finding:
    if has_nvidia_gpu():
        return Finding("gpu", True, "an NVIDIA driver is loaded")
    return Finding("gpu", False, "no NVIDIA driver on this machine; the CPU backends do not need one")


def _installed(package: str) -> bool:
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
