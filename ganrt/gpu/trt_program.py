"""One batch size of an engine, ready to run: a context with its memory, and the CUDA graph of its work."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import cuda.core as core
import numpy as np
from cuda.core.graph import Graph, GraphBuilder

from ganrt.backend import first_line
from ganrt.errors import BackendError, DeviceLostError, DeviceMemoryError
from ganrt.gpu.device import Gpu, translate_errors
from ganrt.gpu.nvinfer import LOG, LoadedEngine, new_context, trt

_log = logging.getLogger(__name__)
_ORDINARY_RUNS = 2


class TrtProgram:
    """Runs batches of one shape on one stream.

    Inputs and outputs live at fixed addresses, because a CUDA graph keeps them: `inputs` and `outputs` by name, to be
    filled and read by work on the same stream. The first two runs are ordinary ones, after which TensorRT has all that
    it makes lazily and the first is known to have succeeded; the third is captured, and from then on the graph is
    replayed. Nothing else may touch the context.
    """

    def __init__(
        self,
        gpu: Gpu,
        loaded: LoadedEngine,
        shapes: Mapping[str, tuple[int, ...]],
        profile: int,
        stream: core.Stream,
        scratch: core.Buffer | None,
    ) -> None:
        """Takes all memory that it will ever need.

        Args:
            shapes: of all inputs, in the range of the profile.
            scratch: working memory of the profile, which other programs on the same stream may use too; None where
            TensorRT takes its own.

        Raises DeviceMemoryError.
        """
        self.size = size = next(iter(shapes.values()))[0]
        self.profile = profile
        self._gpu, self._stream = gpu, stream
        LOG.errors()
        made: trt.IExecutionContext | None = new_context(loaded, scratch)
        if made is None:
            raise DeviceMemoryError(f"a batch of {size} does not fit into the memory of {gpu.name}: {LOG.errors()}")
        context: trt.IExecutionContext = made
        self._context: trt.IExecutionContext = context
        self._loaded = loaded  # the engine must outlive the context
        self._graph: Graph | None = None
        self._runs = 0
        self._plain = False
        self._check(context.set_optimization_profile_async(profile, int(stream.handle)), "choosing a profile")
        tensors = loaded.tensors()
        for name, shape in shapes.items():
            self._check(context.set_input_shape(name, shape), f"the shape {shape} of {name}")
        unknown = context.infer_shapes()
        self._check(not unknown, f"finding the shapes of {unknown}")
        self.shapes = {t.name: tuple(int(side) for side in context.get_tensor_shape(t.name)) for t in tensors}
        self.dtypes: dict[str, np.dtype[Any]] = {t.name: t.dtype for t in tensors}
        self.inputs: dict[str, core.Buffer] = {}
        self.outputs: dict[str, core.Buffer] = {}
        try:
            for tensor in tensors:
                memory = gpu.memory(self.nbytes(tensor.name), stream)
                (self.inputs if tensor.is_input else self.outputs)[tensor.name] = memory
                taken = context.set_tensor_address(tensor.name, int(memory.handle))
                self._check(taken, f"the address of {tensor.name}")
        except BaseException:
            self.close()
            raise

    def nbytes(self, name: str) -> int:
        return math.prod(self.shapes[name]) * self.dtypes[name].itemsize

    def enqueue(self, stream: core.Stream) -> None:
        """Start one batch. Raises DeviceLostError."""
        with translate_errors(f"running a batch of {self.size}"):
            if self._runs == _ORDINARY_RUNS and not self._plain:
                self._graph = self._captured(stream)
            self._runs += 1
            if self._graph is not None:
                self._graph.launch(stream)
            elif not self._context.execute_async_v3(int(stream.handle)):
                raise DeviceLostError(f"TensorRT did not run a batch of {self.size}: {LOG.errors()}")

    def close(self) -> None:
        """Free the memory, after all work has been waited for."""
        if self._graph is not None:
            self._graph.close()
        del self._context
        for memory in (*self.inputs.values(), *self.outputs.values()):
            memory.close(self._stream)

    def _captured(self, stream: core.Stream) -> Graph | None:
        """The work of one batch as a graph; None, with a warning, where it cannot be captured."""
        try:
            builder: GraphBuilder = stream.create_graph_builder()
            builder.begin_building("thread_local")
            try:
                enqueued = self._context.execute_async_v3(int(stream.handle))
            finally:
                builder.end_building()  # in any case: a stream that is left capturing does no work
            if not enqueued:
                raise BackendError(LOG.errors())
            return builder.complete()
        except Exception as error:  # CUDA's or TensorRT's; a plain launch follows, and tells if the GPU is lost
            self._plain = True
            _log.warning(
                "a batch of %d cannot be captured as a CUDA graph and is launched each time: %s",
                self.size,
                first_line(error),
            )
            return None

    def _check(self, done: bool, what: str) -> None:
        if not done:
            raise BackendError(f"TensorRT refuses {what} for a batch of {self.size}: {LOG.errors()}")
