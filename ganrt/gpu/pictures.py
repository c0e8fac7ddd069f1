"""uint8 pictures of float images, made on the GPU as `ganrt.images.to_uint8` makes them, for backends whose graphs have
no post-processing head."""

from __future__ import annotations

from itertools import repeat
from pathlib import Path

import cuda.core as core
import numpy as np

from ganrt.gpu.device import Gpu
from ganrt.levels import ChannelRanges, Levels

_KERNEL = "ganrt_pictures"
_THREADS = 256


def read_source() -> str:
    """Return the CUDA C++ of the kernel."""
    return Path(__file__).with_name("pictures.cu").read_text()


def build_arguments(shape: tuple[int, ...], levels: Levels) -> list[tuple[np.generic, ...]]:
    """Return the kernel's arguments behind its three buffers, for an image (N, C, H, W): of one launch for all
    channels, or of one for each if their ranges or order differ. The first argument is the number of threads needed."""
    rows, channels, height, width = shape
    sizes = (np.uint64(rows * height * width), np.uint32(height * width), np.uint32(channels))
    if isinstance(levels, ChannelRanges):
        parts = [(k, *part) for k, part in enumerate(zip(levels.places, repeat(1), levels.ranges, strict=False))]
    else:
        parts = [(0, 0, channels, levels)]
    return [
        (*sizes, *map(np.uint32, (first, place, count)), *map(np.float32, (low, high, 255.0 / (high - low))))
        for first, place, count, (low, high) in parts
    ]


class DevicePictures:
    """Makes pictures on a GPU. Compiles the kernel when constructed."""

    def __init__(self, gpu: Gpu) -> None:
        self._kernel: core.Kernel = gpu.compile(read_source(), (_KERNEL,))[_KERNEL]

    def enqueue(
        self,
        image: core.Buffer,
        pictures: core.Buffer,
        finiteness: core.Buffer,
        shape: tuple[int, ...],
        levels: Levels,
        stream: core.Stream,
    ) -> None:
        """Put the kernel on a stream, once or several times.

        Args:
            image: float32 of `shape` (N, C, H, W), of which `levels` are the levels 0 and 255.
            pictures: uint8 (N, H, W, C), written.
            finiteness: float32 (N), written: 0, or NaN for an image with a value that is not finite.
        """
        finiteness.fill(0, stream=stream)
        for arguments in build_arguments(shape, levels):
            config = core.LaunchConfig(grid=-(-int(arguments[0]) // _THREADS), block=_THREADS)
            core.launch(stream, config, self._kernel, image, pictures, finiteness, *arguments)
