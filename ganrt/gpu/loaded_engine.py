"""Plans deserialized into engines, their inputs and outputs, and contexts that run them."""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from ganrt.errors import EngineError, MachineError
from ganrt.gpu.nvinfer import Library
from ganrt.gpu.runtime_cache import RuntimeCache
from ganrt.gpu.standard_output import redirect_to_stderr

if TYPE_CHECKING:
    import cuda.core as core
    import tensorrt as trt

_NO_CUDA = re.compile(r"cudaError \d+|CUDA initialization failure")
"""Found in the errors of a library where CUDA does not start, such as under a driver that is too old."""
_OTHER_GPU = re.compile(r"TensorRT-RTX does not support this compute capability")
"""Found in the errors of TensorRT for RTX on a GPU that no engine of it runs on, such as one of a data centre."""

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

    nvinfer: Library
    """The library that loaded it."""
    runtime: trt.Runtime
    """Must outlive the engine."""
    engine: trt.ICudaEngine
    runtime_cache: RuntimeCache | None = None
    """The kernels that TensorRT for RTX has compiled for this GPU."""

    def list_tensors(self) -> list[Tensor]:
        """Return all inputs and outputs."""
        lib = self.nvinfer.trt
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        return [
            Tensor(
                name,
                self.nvinfer.dtypes[self.engine.get_tensor_dtype(name)],
                self.engine.get_tensor_mode(name) == lib.TensorIOMode.INPUT,
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
    library = loaded.nvinfer
    if library.api < (10, 3):
        return None
    return int(loaded.engine.get_device_memory_size_for_profile_v2(profile))


def new_context(loaded: LoadedEngine, scratch: core.Buffer | None) -> trt.IExecutionContext | None:
    """Return a context that uses this scratch memory, or its own without any; None, with lines in the log, if there is
    too little memory."""
    with redirect_to_stderr():
        context: trt.IExecutionContext | None = _create_context(loaded, scratch is not None)
    if loaded.nvinfer.api >= (10, 3) and context is not None and scratch is not None:
        context.set_device_memory(int(scratch.handle), int(scratch.size))
    return context


def _create_context(loaded: LoadedEngine, memory_given: bool) -> trt.IExecutionContext | None:
    library = loaded.nvinfer
    engine: trt.ICudaEngine = loaded.engine
    if library.api < (10, 3) or not memory_given:
        return engine.create_execution_context()
    if loaded.runtime_cache is not None:
        return loaded.runtime_cache.new_context()
    return engine.create_execution_context(library.trt.ExecutionContextAllocationStrategy.USER_MANAGED)


def load_engine(library: Library, plan: bytes, portable: bool = False) -> LoadedEngine:
    """Deserialize a plan. A plan is executable code: check its origin first.

    Args:
        portable: the plan is version-compatible. Such a plan holds a lean runtime of its version as host code, which
            must be allowed.

    Raises MachineError if CUDA does not start or the library does not support the GPU, and EngineError with the
    library's error lines.
    """
    library.log.take_errors()
    with redirect_to_stderr():
        return _deserialize(library, plan, portable)


def _deserialize(library: Library, plan: bytes, portable: bool) -> LoadedEngine:
    lib = library.trt
    if library.api < (10, 0) and not library.is_lean:
        lib.init_libnvinfer_plugins(library.log, "")  # InstanceNormalization is one there
    runtime: trt.Runtime = lib.Runtime(library.log)
    if library.log.has_errors:
        # Without a working driver, TensorRT 11.4 logs an error and returns an object all the same. Using or freeing
        # that object crashes the process, so a reference is kept for ever.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(runtime))
        raise MachineError(f"{library} does not start on this machine: {library.log.take_errors()}")
    if portable:
        runtime.engine_host_code_allowed = True
    engine: trt.ICudaEngine | None = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        reason = library.log.take_errors()
        if _NO_CUDA.search(reason):
            raise MachineError(f"{library} does not start on this machine: {reason}")
        if _OTHER_GPU.search(reason):
            raise MachineError(f"{library} runs no engine on this GPU, so use another backend: {reason}")
        raise EngineError(
            f"{library} does not load this engine: {reason}. Build it again with "
            f"`ganrt build BUNDLE --backend {library.backend}`"
        )
    return LoadedEngine(library, runtime, engine)
