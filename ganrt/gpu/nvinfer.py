"""NVIDIA's inference libraries, TensorRT and TensorRT for RTX: what is installed, its log, and plans deserialized into
engines.

Of TensorRT the full library is imported if it is installed, else the lean runtime, which has the same names for running
engines. Importing a library is safe on any machine. On one without a GPU only the builder of TensorRT for RTX may be
called; 8.6 can crash there.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import re
import threading
from collections import deque
from dataclasses import dataclass
from functools import cache, cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from ganrt.errors import EngineError, MachineError
from ganrt.gpu.engine_cache import Machine
from ganrt.gpu.standard_output import redirect_to_stderr
from ganrt.machine import nvidia_details

if TYPE_CHECKING:
    import cuda.core as core
    import tensorrt as trt

    from ganrt.bundle import Bundle, Variant
    from ganrt.gpu.runtime_cache import RuntimeCache

_KEPT_ERRORS = 12
_LAYERS = "Layers:\n"
"""How the verbose line begins in which TensorRT for RTX lists all layers that it compiled."""
_NO_CUDA = re.compile(r"cudaError \d+|CUDA initialization failure")
"""Found in the errors of a library where CUDA does not start, such as under a driver that is too old."""
_RTX_API = (11, 4)
"""TensorRT for RTX 1.7 has the API of this version of TensorRT, less plugins, and more of its own."""


class Library:
    """One of the two libraries. All that depends on which one it is, and of which version, asks it."""

    def __init__(self, backend: str, module: ModuleType) -> None:
        self.backend = backend
        """Name of the backend that uses it, `tensorrt` or `tensorrt-rtx`."""
        self.trt: Any = module
        self.version = str(module.__version__)
        """All four numbers, if it reports them. A plan is valid for one version."""
        self.is_rtx = backend == "tensorrt-rtx"
        self.is_lean = module.__name__ == "tensorrt_lean"
        """Whether this is the lean runtime of TensorRT. It runs version-compatible plans and builds none."""
        major, minor, *_ = map(int, self.version.split("."))
        self.api = _RTX_API if self.is_rtx else (major, minor)
        """Generation of the API: the major and minor version of TensorRT that has it. tests/gpu/test_api_contract.py
        walks branches on it for every supported version."""
        self.log = _make_log(module)
        """A process has one log per library, the first one that it is given."""

    def __str__(self) -> str:
        return f"{'TensorRT for RTX' if self.is_rtx else 'TensorRT'} {self.version}"

    def runs_half_pairs(self, variant: Variant) -> bool:
        """Return whether the library takes a variant's 8 bits between float16, if it has them: from 10.0 on."""
        return self.api >= (10, 0) or not (variant.for_gpu and variant.precision in ("int8", "fp8"))

    @cached_property
    def dtypes(self) -> dict[Any, np.dtype[Any]]:
        """The library's types of inputs and outputs, and NumPy's."""
        trt = self.trt
        found: dict[Any, np.dtype[Any]] = {
            trt.DataType.FLOAT: np.dtype(np.float32),
            trt.DataType.HALF: np.dtype(np.float16),
            trt.DataType.INT8: np.dtype(np.int8),
            trt.DataType.INT32: np.dtype(np.int32),
            trt.DataType.UINT8: np.dtype(np.uint8),
            trt.DataType.BOOL: np.dtype(np.bool_),
        }
        if self.api >= (10, 0):
            found[trt.DataType.INT64] = np.dtype(np.int64)
        return found

    def describe_machine(self, gpu: str, capability: str) -> Machine:
        """Return what engines are built for on this machine.

        Args:
            gpu: name of the model.
            capability: compute capability, such as `9.0`.
        """
        return Machine(gpu, capability, nvidia_details().get("driver", "?"), self.version, self.backend)


class Log:
    """Keeps a library's error lines until an exception quotes them, because a failed call returns only None or False.

    The library calls `log` from several threads, and no exception may leave it.
    """

    def __init__(self, quoted: tuple[Any, ...]) -> None:
        """`quoted`: the severities that are kept."""
        super().__init__()  # the library's, which a subclass has too
        self._quoted = quoted
        self._lock = threading.Lock()
        self._errors: deque[str] = deque(maxlen=_KEPT_ERRORS)
        self.layers = ""
        """The list of all layers of the engine that was built last, if it was built with detailed verbosity."""

    def log(self, severity: Any, msg: str) -> None:
        if msg.startswith(_LAYERS):
            self.layers = msg.removeprefix(_LAYERS)
        if severity in self._quoted:
            with self._lock:
                self._errors.append(" ".join(msg.split()))

    @property
    def has_errors(self) -> bool:
        """Whether there were error lines since the last call of `take_errors`."""
        return bool(self._errors)

    def take_errors(self) -> str:
        """Return the error lines since the last call, oldest first, and forget them."""
        with self._lock:
            lines = list(dict.fromkeys(self._errors))
            self._errors.clear()
        return "; ".join(lines) or "the library gave no reason"


def _make_log(trt: Any) -> Log:
    class LibraryLog(Log, trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__((trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR))

    return LibraryLog()


@cache
def load_tensorrt() -> Library:
    """Return TensorRT, or its lean runtime. Raises ModuleNotFoundError if neither is installed."""
    return Library("tensorrt", _import_first("tensorrt", "tensorrt_lean"))


@cache
def load_tensorrt_rtx() -> Library:
    """Return TensorRT for RTX. Raises ModuleNotFoundError if it is not installed."""
    return Library("tensorrt-rtx", _import_first("tensorrt_rtx", "tensorrt_rtx_bindings"))


def list_engine_variants(bundle: Bundle, precision: str, backend: str) -> list[str]:
    """Return the variants of a precision that engines of a backend are built of, in the order in which to try them.
    Where the library runs none of them, all, so that building raises the reason. Raises RequestError if there is none.
    """
    names = bundle.in_precision(precision, gpu=True)
    try:
        library = load_tensorrt_rtx() if backend == "tensorrt-rtx" else load_tensorrt()
    except (ImportError, OSError):  # building raises it with a sentence
        return names
    return [name for name in names if library.runs_half_pairs(bundle.variant(name))] or names


def _import_first(name: str, other: str) -> ModuleType:
    """Import `other` if only that one is installed, else `name`."""
    missing = importlib.util.find_spec(name) is None and importlib.util.find_spec(other) is not None
    return importlib.import_module(other if missing else name)


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

    library: Library
    runtime: trt.Runtime
    """Must outlive the engine."""
    engine: trt.ICudaEngine
    runtime_cache: RuntimeCache | None = None
    """The kernels that TensorRT for RTX has compiled for this GPU."""

    def list_tensors(self) -> list[Tensor]:
        """Return all inputs and outputs."""
        lib = self.library.trt
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        return [
            Tensor(
                name,
                self.library.dtypes[self.engine.get_tensor_dtype(name)],
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
    library = loaded.library
    if library.api < (10, 3):
        return None
    return int(loaded.engine.get_device_memory_size_for_profile_v2(profile))


def new_context(loaded: LoadedEngine, scratch: core.Buffer | None) -> trt.IExecutionContext | None:
    """Return a context that uses this scratch memory, or its own without any; None, with lines in the log, if there is
    too little memory."""
    with redirect_to_stderr():
        context: trt.IExecutionContext | None = _create_context(loaded, scratch is not None)
    if loaded.library.api >= (10, 3) and context is not None and scratch is not None:
        context.set_device_memory(int(scratch.handle), int(scratch.size))
    return context


def _create_context(loaded: LoadedEngine, memory_given: bool) -> trt.IExecutionContext | None:
    library = loaded.library
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

    Raises MachineError if CUDA does not start, and EngineError with the library's error lines.
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
        raise EngineError(
            f"{library} does not load this engine: {reason}. Build it again with "
            f"`ganrt build BUNDLE --backend {library.backend}`"
        )
    return LoadedEngine(library, runtime, engine)
