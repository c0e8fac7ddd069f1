"""TensorRT engines of a bundle: building, refitting, and reading back what precision they compute in.

Names are imported on first use: `build` needs an NVIDIA GPU, TensorRT and onnx-ir (the extra `tensorrt`), but no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ganrt.lazy import lazy_exports

if TYPE_CHECKING:
    from .cached_build import build
    from .options import EngineOptions

__all__ = ["EngineOptions", "build"]

_MODULES = {"EngineOptions": "options", "build": "cached_build"}
"""Public name -> the module of this package that defines it."""

__getattr__ = lazy_exports(__name__, _MODULES, "tensorrt", "building engines")
