"""The libraries that results depend on."""

from __future__ import annotations

from ganrt._version import __version__
from ganrt.backend import library_version

_LIBRARIES = (
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "torch",
    "onnx",
    "tensorrt",
    "tensorrt_lean",
    "tensorrt-rtx-cu13-bindings",
    "cuda-core",
)


def read_versions() -> dict[str, str]:
    """Return library -> version of ganrt and of those that are installed."""
    return {"ganrt": __version__} | {name: version for name in _LIBRARIES if (version := library_version(name)) != "?"}
