"""Engines of a bundle for NVIDIA's libraries: building, refitting, and reading back what precision they compute in.

Names are imported on first use. `build` needs onnx-ir, and TensorRT with an NVIDIA GPU (the extra `tensorrt`) or
TensorRT for RTX (the extra `tensorrt-rtx`), but no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ganrt.lazy import lazy_exports

if TYPE_CHECKING:
    from .ahead import compile_variant
    from .cached_build import build
    from .compiler import CompiledPlan, Compiler
    from .layers import Launch, parse_layers
    from .options import TARGETS, USUAL_TARGETS, EngineOptions, RtxEngineOptions

__all__ = [
    "TARGETS",
    "USUAL_TARGETS",
    "CompiledPlan",
    "Compiler",
    "EngineOptions",
    "Launch",
    "RtxEngineOptions",
    "build",
    "compile_variant",
    "parse_layers",
]

_MODULES = {
    "TARGETS": "options",
    "USUAL_TARGETS": "options",
    "CompiledPlan": "compiler",
    "Compiler": "compiler",
    "EngineOptions": "options",
    "Launch": "layers",
    "RtxEngineOptions": "options",
    "build": "cached_build",
    "compile_variant": "ahead",
    "parse_layers": "layers",
}
"""Public name -> the module of this package that defines it."""

__getattr__ = lazy_exports(__name__, _MODULES, "tensorrt", "building engines")
