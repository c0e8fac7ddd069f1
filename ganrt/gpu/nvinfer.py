"""NVIDIA's inference libraries, TensorRT and TensorRT for RTX: what is installed, and its log.

Of TensorRT the full library is imported if it is installed, else the lean runtime, which has the same names for running
engines. Importing a library is safe on any machine. On one without a GPU only the builder of TensorRT for RTX may be
called; 8.6 can crash there.
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections import deque
from functools import cache, cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from ganrt.gpu.engine_cache import Machine
from ganrt.machine import nvidia_details

if TYPE_CHECKING:
    from ganrt.bundle import Bundle, Variant

_KEPT_ERRORS = 12
_LAYERS = "Layers:\n"
"""How the verbose line begins in which TensorRT for RTX lists all layers that it compiled."""
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
        self.log = _make_log(self)
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


def _make_log(library: Library) -> Log:
    lib = library.trt

    class LibraryLog(Log, lib.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__((lib.ILogger.ERROR, lib.ILogger.INTERNAL_ERROR))

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
