"""TensorRT as ganrt uses it: the library that is installed, its log, and plans that become engines.

The full library is taken where it is installed, else the lean runtime, which has the same names as far as running goes.
Importing either is safe everywhere; nothing here may be called on a machine without a GPU, where 8.6 can crash.
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
    "load_engine",
    "new_context",
    "scratch_bytes",
    "trt",
]

LEAN = importlib.util.find_spec("tensorrt") is None and importlib.util.find_spec("tensorrt_lean") is not None
"""Whether only the lean runtime is here: it runs version-compatible plans and builds none."""
if LEAN:
    import tensorrt_lean as trt
else:
    import tensorrt as trt

VERSION = tuple(int(part) for part in trt.__version__.split(".")[:2])
"""Major and minor. Branches on it are walked for every version by tests/test_api_contract.py."""
_KEPT = 12


class Log(trt.ILogger):  # type: ignore[misc]
    """What TensorRT says. It calls from several threads and must never be answered with an exception; its errors are
    kept until somebody makes an exception of them, because a failed call itself returns None or False alone."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._errors: deque[str] = deque(maxlen=_KEPT)

    def log(self, severity: Any, msg: str) -> None:
        if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
            with self._lock:
                self._errors.append(" ".join(msg.split()))

    def errors(self) -> str:
        """The error lines since the last time, oldest first; afterwards there are none."""
        with self._lock:
            lines = list(dict.fromkeys(self._errors))
            self._errors.clear()
        return "; ".join(lines) or "TensorRT gave no reason"


LOG = Log()
"""TensorRT has one log per process: the first that it is given."""

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
    """What engines are built for here."""
    return Machine(gpu, capability, nvidia_details().get("driver", "?"), trt.__version__)


Profile: TypeAlias = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]


def _shapes(dims: Any) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    least, best, most = (tuple(int(side) for side in shape) for shape in dims)
    return least, best, most


class Tensor(NamedTuple):
    """An input or output of an engine, as the engine has it: 8.6 makes int32 of the int64 of a graph."""

    name: str
    dtype: np.dtype[Any]
    is_input: bool


@dataclass
class LoadedEngine:
    """A plan that was deserialised. The runtime must outlive the engine."""

    runtime: trt.Runtime
    engine: trt.ICudaEngine

    def tensors(self) -> list[Tensor]:
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        return [
            Tensor(
                name,
                DTYPES[self.engine.get_tensor_dtype(name)],
                self.engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT,
            )
            for name in names
        ]

    def profiles(self) -> list[Profile]:
        """Every optimisation profile: least, best and largest shape of each input."""
        inputs = [tensor.name for tensor in self.tensors() if tensor.is_input]
        return [
            {name: _shapes(self.engine.get_tensor_profile_shape(name, number)) for name in inputs}
            for number in range(self.engine.num_optimization_profiles)
        ]


def scratch_bytes(loaded: LoadedEngine, profile: int) -> int | None:
    """Working memory that a context needs for a profile; None before 10.3, where every context takes its own, enough
    for the largest of all profiles."""
    if VERSION < (10, 3):
        return None
    return int(loaded.engine.get_device_memory_size_for_profile_v2(profile))


def new_context(loaded: LoadedEngine, scratch: core.Buffer | None) -> trt.IExecutionContext | None:
    """A context that works in this memory, or in its own; None, with lines in the log, when it finds none."""
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
    """Deserialise a plan that has been checked: it is executable code.

    Args:
        portable: it was built to be version-compatible, and then carries a lean runtime of its version as host code,
            which must be allowed.

    Raises EngineError with what TensorRT said.
    """
    LOG.errors()
    if VERSION < (10, 0) and not LEAN:
        trt.init_libnvinfer_plugins(LOG, "")  # InstanceNormalization is one there
    runtime: trt.Runtime = trt.Runtime(LOG)
    if portable:
        runtime.engine_host_code_allowed = True
    engine: trt.ICudaEngine | None = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise EngineError(
            f"TensorRT {trt.__version__} does not load this engine: {LOG.errors()}. Build it again with "
            "`ganrt build BUNDLE --backend tensorrt`"
        )
    return LoadedEngine(runtime, engine)
