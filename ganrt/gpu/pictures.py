"""Pictures of float images, made on the GPU: what `ganrt.images.to_uint8` makes, for backends whose graphs end in
floats."""

from __future__ import annotations

from pathlib import Path

import cuda.core as core
import numpy as np

from ganrt.gpu.device import Gpu
from ganrt.spec import Range

_KERNEL = "ganrt_pictures"
_THREADS = 256


def source() -> str:
    """CUDA C++ of the kernel."""
    return Path(__file__).with_name("pictures.cu").read_text()


def arguments(shape: tuple[int, ...], value_range: Range) -> tuple[np.generic, ...]:
    """What the kernel is told of an image (N, C, H, W), behind its three buffers."""
    rows, channels, height, width = shape
    low, high = value_range
    extent = (np.uint64(rows * height * width), np.uint32(height * width), np.uint32(channels))
    return (*extent, np.float32(low), np.float32(high), np.float32(255.0 / (high - low)))


class DevicePictures:
    """Makes pictures on a GPU. The kernel is compiled when it is made."""

    def __init__(self, gpu: Gpu) -> None:
        self._kernel: core.Kernel = gpu.compile(source(), (_KERNEL,))[_KERNEL]

    def put(
        self,
        image: core.Buffer,
        pictures: core.Buffer,
        level: core.Buffer,
        shape: tuple[int, ...],
        value_range: Range,
        stream: core.Stream,
    ) -> None:
        """Put the making of pictures on a stream. `level`, float32 (N), tells which image is not finite."""
        level.fill(0, stream=stream)
        told = arguments(shape, value_range)
        config = core.LaunchConfig(grid=-(-int(told[0]) // _THREADS), block=_THREADS)
        core.launch(stream, config, self._kernel, image, pictures, level, *told)
