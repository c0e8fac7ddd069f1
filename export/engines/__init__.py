"""Engines of a bundle for NVIDIA's libraries: building, refitting, and reading back what precision they compute in.

Names are imported on first use. `build` needs onnx-ir, and TensorRT with an NVIDIA GPU (the extra `tensorrt`) or
TensorRT for RTX (the extra `tensorrt-rtx`), but no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ganrt.lazy import lazy_exports

if TYPE_CHECKING:
    from .ahead import PRECISIONS, CompilationTrial, choose_targets, compile_variant, has_compiler, try_compilation
    from .cached_build import build
    from .compilation_trials import CompilationTrials
    from .compiler import CompiledPlan, Compiler
    from .layers import Launch, parse_layers
    from .options import FP8_TARGETS, TARGETS, USUAL_TARGETS, EngineOptions, RtxEngineOptions

__all__ = [
    "FP8_TARGETS",
    "PRECISIONS",
    "TARGETS",
    "USUAL_TARGETS",
    "CompilationTrial",
    "CompilationTrials",
    "CompiledPlan",
    "Compiler",
    "EngineOptions",
    "Launch",
    "RtxEngineOptions",
    "build",
    "choose_targets",
    "compile_variant",
    "has_compiler",
    "parse_layers",
    "try_compilation",
]

_MODULES = {
    "PRECISIONS": "ahead",
    "CompilationTrial": "ahead",
    "CompilationTrials": "compilation_trials",
    "FP8_TARGETS": "options",
    "TARGETS": "options",
    "USUAL_TARGETS": "options",
    "CompiledPlan": "compiler",
    "Compiler": "compiler",
    "EngineOptions": "options",
    "Launch": "layers",
    "RtxEngineOptions": "options",
    "build": "cached_build",
    "choose_targets": "ahead",
    "compile_variant": "ahead",
    "has_compiler": "ahead",
    "parse_layers": "layers",
    "try_compilation": "ahead",
}
"""Public name -> the module of this package that defines it."""

__getattr__ = lazy_exports(__name__, _MODULES, "tensorrt", "building engines")
