"""A machine with a GPU that is not there: both fakes in place, and ganrt's modules imported anew over them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import fake_cuda
import fake_kernels
import fake_tensorrt
import pytest
from fake_cuda import FakeCuda
from fake_tensorrt import FakeTensorRT

OURS = (
    "ganrt.cuda",
    "ganrt.nvinfer",
    "ganrt.engine_program",
    "ganrt.engine_programs",
    "ganrt.engine_requests",
    "ganrt.engine_slots",
    "ganrt.device_latents",
    "ganrt.device_pictures",
    "ganrt.device_session",
    "ganrt.ort_programs",
    "ganrt.backends.tensorrt",
)
BUILDER = ("ganrt.export.network", "ganrt.export.inspection", "ganrt.export.engines")
"""Modules that import TensorRT or cuda-core at the top."""


@dataclass
class Machine:
    """The fakes, and ganrt's modules over them."""

    cuda: FakeCuda
    trt: FakeTensorRT
    modules: dict[str, ModuleType]
    asked: list[dict[str, Any]] = field(default_factory=list)
    """What ONNX Runtime's provider was asked for, session by session."""

    @property
    def backend(self) -> Any:
        return self.modules["ganrt.backends.tensorrt"]

    @property
    def engines(self) -> Any:
        return self.modules["ganrt.export.engines"]


Start = Callable[..., Machine]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Start:
    """Makes a machine with a version of TensorRT."""

    def make(version: str = "10.16.1", lean: bool = False, core: str = "1.2.2", **cuda_options: Any) -> Machine:
        from ganrt import machine

        monkeypatch.setattr(machine, "_NVIDIA_NODES", ("/dev/null",))
        cuda = FakeCuda(**cuda_options)
        fake_cuda.install(monkeypatch, cuda, core)
        fake_kernels.install(cuda)
        trt = fake_tensorrt.install(monkeypatch, cuda, version, "tensorrt_lean" if lean else "tensorrt")
        importlib.import_module("ganrt.export")
        modules = {}
        names = OURS if lean else OURS + BUILDER
        for name in names:
            monkeypatch.delitem(sys.modules, name, raising=False)
        for name in names:
            modules[name] = importlib.import_module(name)
            monkeypatch.setitem(sys.modules, name, modules[name])
            parent, _, last = name.rpartition(".")
            monkeypatch.setattr(sys.modules[parent], last, modules[name], raising=False)
        return Machine(cuda, trt, modules)

    return make
