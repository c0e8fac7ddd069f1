"""A machine with a fake GPU: the fakes of CUDA and TensorRT installed, and ganrt's modules imported anew over them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fakes import cuda as fake_cuda
from fakes import kernels as fake_kernels
from fakes import tensorrt as fake_tensorrt
from fakes.cuda import FakeCuda
from fakes.tensorrt import FakeTensorRT

OURS = (
    "ganrt.gpu.device",
    "ganrt.gpu.nvinfer",
    "ganrt.gpu.runtime_cache",
    "ganrt.gpu.loaded_engine",
    "ganrt.gpu.trt_program",
    "ganrt.gpu.trt_programs",
    "ganrt.gpu.requests",
    "ganrt.gpu.double_buffering",
    "ganrt.gpu.latents",
    "ganrt.gpu.pictures",
    "ganrt.gpu.session",
    "ganrt.gpu.ort_programs",
    "ganrt.gpu.trt_session",
)
BUILDER = (
    "ganrt.export.engines.builder",
    "ganrt.export.engines.inspection",
    "ganrt.export.engines.ahead",
    "ganrt.export.engines.cached_build",
)
"""Modules that hold TensorRT's or cuda-core's names."""


class InProcessCompiler:
    """`Compiler` without a process of its own: the builder runs over the fake."""

    def __init__(self, machine: FakeMachine) -> None:
        self._modules = machine.modules

    def __enter__(self) -> InProcessCompiler:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def compile(self, file: Path, options: Any, golden: Any = (), progress: Any = lambda _: None) -> Any:
        from ganrt.export.engines.compiler import CompiledPlan

        library = self._modules["ganrt.gpu.nvinfer"].load_tensorrt_rtx()
        build_plan = self._modules["ganrt.export.engines.builder"].build_plan
        return CompiledPlan(build_plan(library, file, [], "", options, golden, progress), library.log.layers)


@dataclass
class FakeMachine:
    """The fakes, and ganrt's modules over them."""

    cuda: FakeCuda
    trt: FakeTensorRT
    modules: dict[str, Any]
    asked: list[dict[str, Any]] = field(default_factory=list)
    """The options of ONNX Runtime's provider, session by session."""

    @property
    def backend(self) -> Any:
        return self.modules["ganrt.backends.tensorrt_rtx" if self.trt.is_rtx else "ganrt.backends.tensorrt"]

    @property
    def engines(self) -> Any:
        return importlib.import_module("ganrt.export.engines")

    @property
    def backend_name(self) -> str:
        return "tensorrt-rtx" if self.trt.is_rtx else "tensorrt"

    def make_options(self, batches: tuple[int, ...], **options: Any) -> Any:
        """Return the options of an engine for this machine's library and GPU."""
        if self.trt.is_rtx:
            return self.engines.RtxEngineOptions(batches=batches, targets=("sm86", "sm89"), **options)
        return self.engines.EngineOptions(batches=batches, **options)


Start = Callable[..., FakeMachine]


both_libraries = pytest.mark.parametrize("start", ["10.16.1", "rtx-1.7.1"], indirect=True)
"""Runs a test over TensorRT and over TensorRT for RTX: it is the version that `start` has by default."""


@pytest.fixture
def start(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Return a function that makes a machine with a version of TensorRT, or with TensorRT for RTX (`rtx-1.7.1`)."""
    default = getattr(request, "param", "10.16.1")

    def make(version: str = default, lean: bool = False, core: str = "1.2.2", **cuda_options: Any) -> FakeMachine:
        from ganrt import machine

        monkeypatch.setattr(machine, "_NVIDIA_NODES", ("/dev/null",))
        cuda = FakeCuda(**cuda_options)
        fake_cuda.install(monkeypatch, cuda, core)
        fake_kernels.install(cuda)
        if version.startswith("rtx-"):
            cuda.name, cuda.capability = "NVIDIA Fake 4090", (8, 9)
            trt = fake_tensorrt.install_rtx(monkeypatch, cuda, version)
        else:
            trt = fake_tensorrt.install(monkeypatch, cuda, version, "tensorrt_lean" if lean else "tensorrt")
        importlib.import_module("ganrt.export")
        modules: dict[str, Any] = {}
        backend = "ganrt.backends.tensorrt_rtx" if trt.is_rtx else "ganrt.backends.tensorrt"
        names = (*OURS, backend, *(() if lean else BUILDER))
        for name in names:
            # So that the module of before comes back afterwards, in both places where Python keeps it.
            monkeypatch.setitem(sys.modules, name, None)
            del sys.modules[name]
            parent, _, last = name.rpartition(".")
            monkeypatch.setattr(importlib.import_module(parent), last, None, raising=False)
        for name in names:
            modules[name] = importlib.import_module(name)
            parent, _, last = name.rpartition(".")
            # None is left of a module that was imported meanwhile.
            setattr(sys.modules[parent], last, modules[name])
        made = FakeMachine(cuda, trt, modules)
        if trt.is_rtx:
            ahead = modules["ganrt.export.engines.ahead"]
            monkeypatch.setattr(ahead, "Compiler", lambda: InProcessCompiler(made))
        return made

    return make
