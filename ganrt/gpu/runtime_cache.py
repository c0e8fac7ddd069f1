"""The kernels that TensorRT for RTX compiles for this GPU when a context is made, kept from one process to the next.

A plan of TensorRT for RTX holds no machine code: making the first context compiles it, in seconds, and with a runtime
cache in some 40 ms. The file is executable code, so it is in the engine cache, where no other user can write, and it
begins with the sha256 of the rest, so that one which was cut off or damaged is not used.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ganrt import atomic
from ganrt.errors import BackendError, MachineError

if TYPE_CHECKING:
    import tensorrt_rtx as trt

    from ganrt.gpu.nvinfer import Library

_DIGEST_BYTES = 32
_log = logging.getLogger(__name__)


class RuntimeCache:
    """How contexts of an engine are made, and the kernels that were compiled for them. It must outlive the contexts:
    TensorRT keeps pointers to the cache without owning it, and freeing it first crashes the process."""

    def __init__(self, library: Library, engine: trt.ICudaEngine, file: Path | None, static: bool) -> None:
        """
        Args:
            engine: the engine.
            file: where the kernels are kept; it need not exist. None: they are not kept.
            static: whether each profile of the engine has one shape.

        Raises BackendError if TensorRT rejects the cache.
        """
        lib = library.trt
        self._file = file
        config: trt.IRuntimeConfig = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(lib.ExecutionContextAllocationStrategy.USER_MANAGED)
        config.cuda_graph_strategy = lib.CudaGraphStrategy.DISABLED  # ganrt captures the work itself
        # By default kernels are replaced in the background: a second run could differ from the first, and a CUDA graph
        # would keep the slow ones. Kernels of one shape need no specialization.
        strategies = lib.DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = strategies.NONE if static else strategies.EAGER
        cache: trt.IRuntimeCache = config.create_runtime_cache()
        self._known = b"" if file is None else _read_file(file)
        if self._known and not cache.deserialize(self._known):
            _log.warning("TensorRT rejects the compiled kernels in %s, and compiles them again", file)
        if not config.set_runtime_cache(cache):
            raise BackendError(f"{library} rejects its runtime cache: {library.log.take_errors()}")
        self._engine: trt.ICudaEngine = engine
        self._config: trt.IRuntimeConfig = config
        self._cache: trt.IRuntimeCache = cache

    def new_context(self) -> trt.IExecutionContext | None:
        """Return a context that uses memory given to it, its kernels compiled; None, with lines in the log, if that
        fails. Newly compiled kernels are saved."""
        context: trt.IExecutionContext | None = self._engine.create_execution_context(self._config)
        if context is not None:
            self.save()
        return context

    def save(self) -> None:
        """Keep what was compiled since the last call, for later processes."""
        host: trt.IHostMemory | None = self._cache.serialize()
        kernels = b"" if host is None else bytes(host)
        if self._file is None or not kernels or kernels == self._known:
            return
        self._known = kernels
        try:
            atomic.write_file(self._file, hashlib.sha256(kernels).digest() + kernels)
        except MachineError as error:
            _log.warning("the compiled kernels cannot be kept, so the next process compiles them again: %s", error)


def _read_file(file: Path) -> bytes:
    """Return the kernels in a file; empty if there is none, or if it is damaged."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        _log.warning("the compiled kernels in %s cannot be read (%s), and are compiled again", file, error.strerror)
        return b""
    digest, kernels = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(kernels).digest() != digest:
        _log.warning("%s is damaged, and its kernels are compiled again", file)
        return b""
    return kernels
