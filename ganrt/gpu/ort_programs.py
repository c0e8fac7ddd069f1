"""ONNX Runtime's CUDA provider as the programs of a GPU session: it works on the session's stream and memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cuda.core as core
import numpy as np
import onnxruntime as ort

from ganrt.gpu.device import Gpu, translate_errors
from ganrt.gpu.pictures import DevicePictures
from ganrt.gpu.program_cache import ProgramCache, Shapes
from ganrt.gpu.tensor_names import FINITENESS_TENSOR, PICTURES_TENSOR
from ganrt.levels import find_levels
from ganrt.spec import Image, Label, Latent, Spec

BATCH_SIZES = (1, 2, 4, 8, 16, 32)
"""A graph of a bundle takes any batch size; these are the ones that a session uses."""


class OrtProgram:
    """Runs batches of one shape (`double_buffering.DeviceProgram`). ONNX Runtime captures the work as a CUDA graph,
    under an id of its own, and replays it as long as the addresses stay the same."""

    def __init__(
        self,
        gpu: Gpu,
        session: ort.InferenceSession,
        spec: Spec,
        shapes: Shapes,
        pictures: DevicePictures,
        graph_id: int,
        stream: core.Stream,
    ) -> None:
        """Raises DeviceMemoryError."""
        self.size = next(iter(shapes.values()))[0]
        self._session, self._spec, self._pictures, self._stream = session, spec, pictures, stream
        image = _get_image_shape(spec, shapes)
        outputs = {
            spec.output.name: image,
            PICTURES_TENSOR: (image[0], *image[2:], image[1]),
            FINITENESS_TENSOR: image[:1],
        }
        self.shapes: dict[str, tuple[int, ...]] = {**shapes, **outputs}
        floats = np.dtype(np.float32)
        labels = {item.name for item in spec.inputs if isinstance(item, Label) and item.encoding == "index"}
        self.dtypes: dict[str, np.dtype[Any]] = {
            name: np.dtype(np.int64) if name in labels else floats for name in self.shapes
        }
        self.dtypes[PICTURES_TENSOR] = np.dtype(np.uint8)
        self.inputs: dict[str, core.Buffer] = {}
        self.outputs: dict[str, core.Buffer] = {}
        try:
            for name in self.shapes:
                memory = gpu.allocate_memory(self.count_bytes(name), stream)
                (self.outputs if name in outputs else self.inputs)[name] = memory
        except BaseException:
            self.close()
            raise
        self._binding = session.io_binding()
        for name in shapes:
            location = (self.dtypes[name], self.shapes[name], int(self.inputs[name].handle))
            self._binding.bind_input(name, "cuda", gpu.number, *location)
        location = (floats, image, int(self.outputs[spec.output.name].handle))
        self._binding.bind_output(spec.output.name, "cuda", gpu.number, *location)
        self._options = ort.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(graph_id))
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def count_bytes(self, name: str) -> int:
        return math.prod(self.shapes[name]) * self.dtypes[name].itemsize

    def enqueue(self, stream: core.Stream) -> None:
        """Put one batch on the stream that the session works on. Raises DeviceLostError, DeviceMemoryError."""
        with translate_errors(f"running a batch of {self.size}"):
            self._session.run_with_iobinding(self._binding, self._options)
            output = self._spec.output
            buffers = (self.outputs[output.name], self.outputs[PICTURES_TENSOR], self.outputs[FINITENESS_TENSOR])
            self._pictures.enqueue(*buffers, self.shapes[output.name], find_levels(output), stream)

    def close(self) -> None:
        """Free the memory, once all work is done."""
        for memory in (*self.inputs.values(), *self.outputs.values()):
            memory.close(self._stream)


class OrtPrograms:
    """`DevicePrograms` of an ONNX Runtime session, made on first use."""

    def __init__(
        self,
        gpu: Gpu,
        session: ort.InferenceSession,
        spec: Spec,
        stream: core.Stream,
        before_close: Callable[[OrtProgram], None],
    ) -> None:
        """
        Args:
            session: works on `stream`.
            before_close: waits for all work of a program.
        """
        self._gpu, self._session, self._spec, self._stream = gpu, session, spec, stream
        self._pictures = DevicePictures(gpu)
        self._cache: ProgramCache[OrtProgram] = ProgramCache(before_close)
        self._graph_id = 0

    def list_batch_sizes(self) -> tuple[int, ...]:
        return BATCH_SIZES

    def get_program(self, size: int, given: Shapes) -> OrtProgram:
        shapes = {item.name: given.get(item.name) or _get_drawn_shape(item, size) for item in self._spec.inputs}
        return self._cache.get(shapes) or self._cache.add(shapes, lambda: self._make_program(shapes))

    def close_size(self, size: int) -> None:
        self._cache.close_size(size)

    def close(self) -> None:
        self._cache.close()

    def _make_program(self, shapes: Shapes) -> OrtProgram:
        self._graph_id += 1
        return OrtProgram(self._gpu, self._session, self._spec, shapes, self._pictures, self._graph_id, self._stream)


def _get_drawn_shape(item: Any, size: int) -> tuple[int, ...]:
    """Return the shape of an input that is drawn on the device."""
    if isinstance(item, Latent):
        return (size, *item.shape)
    return (size, item.classes) if isinstance(item, Label) and item.encoding == "one_hot" else (size,)


def _get_image_shape(spec: Spec, shapes: Shapes) -> tuple[int, ...]:
    """Return the (N, C, H, W) of the float image that inputs of these shapes give."""
    rows = next(iter(shapes.values()))[0]
    if spec.output.size is not None:
        return (rows, spec.output.channels, *spec.output.size)
    first = next(item.name for item in spec.inputs if isinstance(item, Image))
    return (rows, spec.output.channels, *(side * spec.output.scale for side in shapes[first][2:]))
