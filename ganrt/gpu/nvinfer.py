"""The installed TensorRT, its log, and plans deserialized into engines.

The full library is imported if it is installed, else the lean runtime, which has the same names for running engines.
Importing either is safe on any machine; nothing here may be called without a GPU, where 8.6 can crash.
"""

from __future__ import annotations

import importlib.util
import threading
from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import cuda.core as core
import numpy as np

from ganrt.errors import EngineError
from ganrt.gpu.engine_cache import Machine
from ganrt.machine import nvidia_details

__all__ = [
    "DTYPES",
    "LEAN",
    "LOG",
    "VERSION",
    "LoadedEngine",
    "Log",
    "Profile",
    "Tensor",
    "describe_machine",
    "get_scratch_bytes",
    "load_engine",
    "new_context",
    "trt",
]

LEAN = importlib.util.find_spec("tensorrt") is None and importlib.util.find_spec("tensorrt_lean") is not None
"""Whether only the lean runtime is installed. It runs version-compatible plans and builds none."""
if LEAN:
    import tensorrt_lean as trt
else:
    import tensorrt as trt

VERSION = tuple(int(part) for part in trt.__version__.split(".")[:2])
"""Major and minor version. tests/gpu/test_api_contract.py walks branches on it for every supported version."""
_KEPT_ERRORS = 12


class Log(trt.ILogger):  # type: ignore[misc]
    """Keeps TensorRT's error lines until an exception quotes them, because a failed call returns only None or False.

    TensorRT calls `log` from several threads, and no exception may leave it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._errors: deque[str] = deque(maxlen=_KEPT_ERRORS)

    def log(self, severity: Any, msg: str) -> None:
        if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
            with self._lock:
                self._errors.append(" ".join(msg.split()))

    def take_errors(self) -> str:
        """Return the error lines since the last call, oldest first, and forget them."""
        with self._lock:
            lines = list(dict.fromkeys(self._errors))
            self._errors.clear()
        return "; ".join(lines) or "TensorRT gave no reason"


LOG = Log()
"""TensorRT has one log per process, the first one it is given."""

DTYPES: dict[Any, np.dtype[Any]] = {
    trt.DataType.FLOAT: np.dtype(np.float32),
    trt.DataType.HALF: np.dtype(np.float16),
    trt.DataType.INT8: np.dtype(np.int8),
    trt.DataType.INT32: np.dtype(np.int32),
    trt.DataType.UINT8: np.dtype(np.uint8),
    trt.DataType.BOOL: np.dtype(np.bool_),
}
if VERSION >= (10, 0):
    DTYPES[trt.DataType.INT64] = np.dtype(np.int64)


def describe_machine(gpu: str, capability: str) -> Machine:
    """Return what engines are built for on this machine.

    Args:
        gpu: name of the model.
        capability: compute capability, such as `9.0`.
    """
    return Machine(gpu, capability, nvidia_details().get("driver", "?"), trt.__version__)


Profile: TypeAlias = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
"""An optimization profile: smallest, best and largest shape of each input."""


def _to_shapes(dims: Any) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    least, best, most = (tuple(int(side) for side in shape) for shape in dims)
    return least, best, most


class Tensor(NamedTuple):
    """An input or output of an engine."""

    name: str
    dtype: np.dtype[Any]
    """The engine's. It may differ from the graph's: 8.6 turns int64 into int32."""
    is_input: bool


@dataclass
class LoadedEngine:
    """A deserialized plan."""

    runtime: trt.Runtime
    """Must outlive the engine."""
    engine: trt.ICudaEngine

    def list_tensors(self) -> list[Tensor]:
        """Return all inputs and outputs."""
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        return [
            Tensor(
                name,
                DTYPES[self.engine.get_tensor_dtype(name)],
                self.engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT,
            )
            for name in names
        ]

    def list_profiles(self) -> list[Profile]:
        """Return all optimization profiles."""
        inputs = [tensor.name for tensor in self.list_tensors() if tensor.is_input]
        return [
            {name: _to_shapes(self.engine.get_tensor_profile_shape(name, number)) for name in inputs}
            for number in range(self.engine.num_optimization_profiles)
        ]


def get_scratch_bytes(loaded: LoadedEngine, profile: int) -> int | None:
    """Return the scratch memory that a context needs for a profile; None before 10.3, where each context allocates its
    own, enough for the largest profile."""
    if VERSION < (10, 3):
        return None
    return int(loaded.engine.get_device_memory_size_for_profile_v2(profile))


def new_context(loaded: LoadedEngine, scratch: core.Buffer | None) -> trt.IExecutionContext | None:
    """Return a context that uses this scratch memory, or its own without any; None, with lines in the log, if there is
    too little memory."""
    engine: trt.ICudaEngine = loaded.engine
    if VERSION < (10, 3) or scratch is None:
        return engine.create_execution_context()
    context: trt.IExecutionContext | None = engine.create_execution_context(
        trt.ExecutionContextAllocationStrategy.USER_MANAGED
    )
    if context is not None:
        context.set_device_memory(int(scratch.handle), int(scratch.size))
    return context


def load_engine(plan: bytes, portable: bool) -> LoadedEngine:
    """Deserialize a plan. A plan is executable code: check its origin first.

    Args:
        portable: the plan is version-compatible. Such a plan holds a lean runtime of its version as host code, which
            must be allowed.

    Raises EngineError with TensorRT's error lines.
    """
    LOG.take_errors()
    if VERSION < (10, 0) and not LEAN:
        trt.init_libnvinfer_plugins(LOG, "")  # InstanceNormalization is one there
    runtime: trt.Runtime = trt.Runtime(LOG)
    if portable:
        runtime.engine_host_code_allowed = True
    engine: trt.ICudaEngine | None = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise EngineError(
            f"TensorRT {trt.__version__} does not load this engine: {LOG.take_errors()}. Build it again with "
            "`ganrt build BUNDLE --backend tensorrt`"
        )
    return LoadedEngine(runtime, engine)
