"""A machine with a fake GPU: the fakes of CUDA and TensorRT installed, and ganrt's modules imported anew over them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
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
    "ganrt.gpu.trt_program",
    "ganrt.gpu.trt_programs",
    "ganrt.gpu.requests",
    "ganrt.gpu.double_buffering",
    "ganrt.gpu.latents",
    "ganrt.gpu.pictures",
    "ganrt.gpu.session",
    "ganrt.gpu.ort_programs",
    "ganrt.backends.tensorrt",
)
BUILDER = (
    "ganrt.export.engines.builder",
    "ganrt.export.engines.inspection",
    "ganrt.export.engines.cached_build",
)
"""Modules that import TensorRT or cuda-core at the top."""


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
        return self.modules["ganrt.backends.tensorrt"]

    @property
    def engines(self) -> Any:
        return importlib.import_module("ganrt.export.engines")


Start = Callable[..., FakeMachine]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Start:
    """Return a function that makes a machine with a version of TensorRT."""

    def make(version: str = "10.16.1", lean: bool = False, core: str = "1.2.2", **cuda_options: Any) -> FakeMachine:
        from ganrt import machine

        monkeypatch.setattr(machine, "_NVIDIA_NODES", ("/dev/null",))
        cuda = FakeCuda(**cuda_options)
        fake_cuda.install(monkeypatch, cuda, core)
        fake_kernels.install(cuda)
        trt = fake_tensorrt.install(monkeypatch, cuda, version, "tensorrt_lean" if lean else "tensorrt")
        importlib.import_module("ganrt.export")
        modules: dict[str, Any] = {}
        names = OURS if lean else OURS + BUILDER
        for name in names:
            monkeypatch.delitem(sys.modules, name, raising=False)
        for name in names:
            modules[name] = importlib.import_module(name)
            monkeypatch.setitem(sys.modules, name, modules[name])
            parent, _, last = name.rpartition(".")
            monkeypatch.setattr(sys.modules[parent], last, modules[name], raising=False)
        return FakeMachine(cuda, trt, modules)

    return make
