"""A TensorRT engine ready to run for one shape: a context with its memory, and the CUDA graph of its work."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import cuda.core as core
import numpy as np
from cuda.core.graph import Graph, GraphBuilder

from ganrt.backend import first_line
from ganrt.errors import BackendError, DeviceLostError, DeviceMemoryError
from ganrt.gpu.device import Gpu, is_out_of_memory, translate_errors
from ganrt.gpu.loaded_engine import LoadedEngine, new_context

if TYPE_CHECKING:
    import tensorrt as trt

_log = logging.getLogger(__name__)
_RUNS_BEFORE_CAPTURE = 2


class TrtProgram:
    """Runs batches of one shape on one stream (`double_buffering.DeviceProgram`).

    `inputs` and `outputs` are filled and read by work on the same stream. They stay at fixed addresses, because the
    CUDA graph contains them. The first two runs are plain launches, in which TensorRT does its lazy initialization; the
    third is captured, and from then on the graph is replayed. Nothing else may use the context.
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
        """Allocates all memory that it will ever need.

        Args:
            shapes: of all inputs, within the profile.
            profile: number of the optimization profile.
            scratch: memory for intermediate values, which other programs on the stream may share; None where TensorRT
                allocates its own.

        Raises DeviceMemoryError.
        """
        self.size = size = next(iter(shapes.values()))[0]
        self.profile = profile
        self._gpu, self._stream = gpu, stream
        self._library = loaded.nvinfer
        self._library.log.take_errors()
        context: trt.IExecutionContext | None = new_context(loaded, scratch)
        if context is None:
            reason = self._library.log.take_errors()
            if self._library.is_rtx and not is_out_of_memory(reason):  # a kernel that does not compile, perhaps
                raise BackendError(f"{self._library} makes no context for a batch of {size} on {gpu.name}: {reason}")
            raise DeviceMemoryError(f"a batch of {size} does not fit into the memory of {gpu.name}: {reason}")
        self._context: trt.IExecutionContext = context
        self._keep_alive = loaded, scratch  # the context points to both
        self._graph: Graph | None = None
        self._runs = 0
        self._capture_failed = False
        self._check(context.set_optimization_profile_async(profile, int(stream.handle)), "choosing a profile")
        tensors = loaded.list_tensors()
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
                memory = gpu.allocate_memory(self.count_bytes(tensor.name), stream)
                (self.inputs if tensor.is_input else self.outputs)[tensor.name] = memory
                accepted = context.set_tensor_address(tensor.name, int(memory.handle))
                self._check(accepted, f"the address of {tensor.name}")
        except BaseException:
            self.close()
            raise

    def __del__(self) -> None:
        # The garbage collector frees the parts of a session in any order, and a runtime cache that is freed before its
        # context crashes the process. Finalizers run before anything is freed.
        self.__dict__.pop("_context", None)

    def count_bytes(self, name: str) -> int:
        return math.prod(self.shapes[name]) * self.dtypes[name].itemsize

    def enqueue(self, stream: core.Stream) -> None:
        """Put one batch on the stream. Raises DeviceLostError."""
        with translate_errors(f"running a batch of {self.size}"):
            if self._runs == _RUNS_BEFORE_CAPTURE and not self._capture_failed:
                self._graph = self._capture_graph(stream)
            self._runs += 1
            if self._graph is not None:
                self._graph.launch(stream)
            elif not self._context.execute_async_v3(int(stream.handle)):
                raise DeviceLostError(
                    f"{self._library} did not run a batch of {self.size}: {self._library.log.take_errors()}"
                )

    def close(self) -> None:
        """Free the memory, once all work is done."""
        if self._graph is not None:
            self._graph.close()
        del self._context
        for memory in (*self.inputs.values(), *self.outputs.values()):
            memory.close(self._stream)

    def _capture_graph(self, stream: core.Stream) -> Graph | None:
        """Capture the work of one batch; None, with a warning, if that fails."""
        try:
            if self._library.is_rtx and not self._context.is_stream_capturable(int(stream.handle)):
                raise BackendError(f"{self._library} reports that its work cannot be captured")
            builder: GraphBuilder = stream.create_graph_builder()
            builder.begin_building("thread_local")
            try:
                enqueued = self._context.execute_async_v3(int(stream.handle))
            finally:
                builder.end_building()  # in any case: a stream that stays in capture does no work
            if not enqueued:
                raise BackendError(self._library.log.take_errors())
            return builder.complete()
        except Exception as error:  # CUDA's or TensorRT's; the plain launch that follows fails if the GPU is lost
            self._capture_failed = True
            _log.warning(
                "a batch of %d cannot be captured as a CUDA graph and is launched each time: %s",
                self.size,
                first_line(error),
            )
            return None

    def _check(self, accepted: bool, what: str) -> None:
        if not accepted:
            raise BackendError(
                f"{self._library} rejects {what} for a batch of {self.size}: {self._library.log.take_errors()}"
            )
