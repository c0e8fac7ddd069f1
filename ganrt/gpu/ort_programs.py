"""ONNX Runtime's CUDA provider as programs of a GPU session: its work goes on our stream, on memory of ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import cuda.core as core
import numpy as np
import onnxruntime as ort

from ganrt.gpu.device import Gpu, translate_errors
from ganrt.gpu.pictures import DevicePictures
from ganrt.gpu.tensor_names import FINITENESS_TENSOR, PICTURES_TENSOR
from ganrt.spec import Image, Label, Latent, Spec

BATCH_SIZES = (1, 2, 4, 8, 16, 32)
_MOST = 12
"""Shapes that are kept ready."""


class OrtProgram:
    """Runs batches of one shape (`engine_slots.DeviceProgram`). ONNX Runtime captures its work as a CUDA graph and
    replays it, under a number of its own, as long as the addresses stay."""

    def __init__(
        self,
        gpu: Gpu,
        session: ort.InferenceSession,
        spec: Spec,
        shapes: Mapping[str, tuple[int, ...]],
        pictures: DevicePictures,
        number: int,
        stream: core.Stream,
    ) -> None:
        """Raises DeviceMemoryError."""
        self.size = next(iter(shapes.values()))[0]
        self._session, self._spec, self._pictures, self._stream = session, spec, pictures, stream
        image = _image_shape(spec, shapes)
        made = {
            spec.output.name: image,
            PICTURES_TENSOR: (image[0], *image[2:], image[1]),
            FINITENESS_TENSOR: image[:1],
        }
        self.shapes: dict[str, tuple[int, ...]] = {**shapes, **made}
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
                memory = gpu.memory(self.nbytes(name), stream)
                (self.outputs if name in made else self.inputs)[name] = memory
        except BaseException:
            self.close()
            raise
        self._binding = session.io_binding()
        for name in shapes:
            place = (self.dtypes[name], self.shapes[name], int(self.inputs[name].handle))
            self._binding.bind_input(name, "cuda", gpu.number, *place)
        place = (floats, image, int(self.outputs[spec.output.name].handle))
        self._binding.bind_output(spec.output.name, "cuda", gpu.number, *place)
        self._options = ort.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(number))
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def nbytes(self, name: str) -> int:
        return math.prod(self.shapes[name]) * self.dtypes[name].itemsize

    def enqueue(self, stream: core.Stream) -> None:
        """Put one batch on the stream that the session was made for. Raises DeviceLostError, DeviceMemoryError."""
        with translate_errors(f"running a batch of {self.size}"):
            self._session.run_with_iobinding(self._binding, self._options)
            output = self._spec.output
            buffers = (self.outputs[output.name], self.outputs[PICTURES_TENSOR], self.outputs[FINITENESS_TENSOR])
            self._pictures.put(*buffers, self.shapes[output.name], output.range, stream)

    def close(self) -> None:
        """Free the memory, after all work has been waited for."""
        for memory in (*self.inputs.values(), *self.outputs.values()):
            memory.close(self._stream)


class OrtPrograms:
    """Programs by their shapes, made when they are first needed (`device_session.DevicePrograms`)."""

    def __init__(
        self,
        gpu: Gpu,
        session: ort.InferenceSession,
        spec: Spec,
        stream: core.Stream,
        before_drop: Callable[[OrtProgram], None],
    ) -> None:
        """`session` works on `stream`; `before_drop` waits for all work of a program."""
        self._gpu, self._session, self._spec = gpu, session, spec
        self._stream, self._before_drop = stream, before_drop
        self._pictures = DevicePictures(gpu)
        self._ready: dict[tuple[tuple[int, ...], ...], OrtProgram] = {}
        self._made = 0

    def batch_sizes(self) -> tuple[int, ...]:
        return BATCH_SIZES

    def of(self, size: int, given: Mapping[str, tuple[int, ...]]) -> OrtProgram:
        shapes = {item.name: given.get(item.name) or _drawn(item, size) for item in self._spec.inputs}
        key = tuple(shapes.values())
        if key not in self._ready:
            self._drop(list(self._ready.values())[: max(0, len(self._ready) - _MOST + 1)])
            self._made += 1
            self._ready[key] = OrtProgram(
                self._gpu, self._session, self._spec, shapes, self._pictures, self._made, self._stream
            )
        return self._ready[key]

    def drop_size(self, size: int) -> None:
        self._drop([program for program in self._ready.values() if program.size == size])

    def close(self) -> None:
        self._drop(list(self._ready.values()))

    def _drop(self, programs: list[OrtProgram]) -> None:
        for program in programs:
            self._before_drop(program)
            program.close()
        self._ready = {key: program for key, program in self._ready.items() if program not in programs}


def _drawn(item: Any, size: int) -> tuple[int, ...]:
    """Shape of an input that is drawn."""
    if isinstance(item, Latent):
        return (size, *item.shape)
    return (size, item.classes) if isinstance(item, Label) and item.encoding == "one_hot" else (size,)


def _image_shape(spec: Spec, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    rows = next(iter(shapes.values()))[0]
    if spec.output.size is not None:
        return (rows, spec.output.channels, *spec.output.size)
    first = next(item.name for item in spec.inputs if isinstance(item, Image))
    return (rows, spec.output.channels, *(side * spec.output.scale for side in shapes[first][2:]))
