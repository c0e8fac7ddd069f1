"""Inputs of samples, drawn on the GPU to the values of `ganrt.feeds.draw_rows`, so that they never cross the bus: a few
numbers for each row do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cuda.core as core
import numpy as np
from numpy.typing import NDArray

from ganrt.feeds import draw_scalar
from ganrt.gpu.device import Gpu
from ganrt.latents import SCALED_LIMIT, Float64s, find_interval
from ganrt.random_values import read_random_values
from ganrt.sample_request import DRAWN, Draw
from ganrt.spec import Label, Latent, Scalar, Spec

_KERNELS = (
    "ganrt_normal",
    "ganrt_uniform",
    "ganrt_label_int64",
    "ganrt_label_int32",
    "ganrt_label_one_hot",
    "ganrt_fill",
)
_THREADS = 128


def read_source() -> str:
    """Return the CUDA C++ of all kernels."""
    shared = read_random_values("__device__", "__constant__ double")
    return shared + Path(__file__).with_name("latents.cu").read_text()


class KernelLaunch(NamedTuple):
    """A kernel that fills one input."""

    kernel: str
    threads: int
    """How many it needs."""
    arguments: tuple[np.generic, ...]
    """Passed by value behind the output and the table."""


class DrawPlan(NamedTuple):
    """How the inputs of a batch are drawn."""

    table: NDArray[np.uint64]
    """A line for each row: its seed, its sample number, and what the inputs need. Labels are int64 and other numbers
    float64 in the same bits."""
    launches: dict[str, KernelLaunch]
    """The launch that draws each input, by the input's name."""


def plan_draw(spec: Spec, draw: Draw, dtypes: Mapping[str, np.dtype[Any]]) -> DrawPlan:
    """Plan how a batch is drawn.

    Args:
        dtypes: of the inputs in the engine, where a label may be int32.
    """
    columns: list[NDArray[Any]] = [draw.seeds, draw.indices]
    planned: dict[str, tuple[str, int, tuple[np.generic, ...]]] = {}
    for item in spec.inputs:
        first, stream = np.uint32(len(columns)), np.uint32(spec.streams.get(item.name, 0))
        if isinstance(item, Latent):
            size = math.prod(item.shape)
            threads, drawn = draw.rows * -(-size // 4), (stream, np.uint32(size))
            if item.distribution == "uniform":
                low, high = item.range
                planned[item.name] = ("ganrt_uniform", threads, (*drawn, np.float64(low), np.float64(high - low)))
            else:
                planned[item.name] = ("ganrt_normal", threads, (first, *drawn))
                columns += _list_normal_columns(item, draw)
        elif isinstance(item, Label):
            one_hot = item.encoding == "one_hot"
            kernel = "ganrt_label_one_hot" if one_hot else f"ganrt_label_{dtypes[item.name]}"
            threads = draw.rows * (item.classes if one_hot else 1)
            planned[item.name] = (kernel, threads, (first, stream, np.uint32(item.classes)))
            chosen = draw.labels if item is spec.find(Label) else None
            columns.append(np.full(draw.rows, DRAWN, np.int64) if chosen is None else chosen)
        elif isinstance(item, Scalar):
            planned[item.name] = ("ganrt_fill", draw.rows, (first,))
            columns.append(draw_scalar(item, draw).astype(np.float64))
    table = np.stack([np.ascontiguousarray(column).view(np.uint64) for column in columns], axis=1)
    shape = (np.uint64(draw.rows), np.uint32(len(columns)))
    launches = {
        name: KernelLaunch(kernel, threads, (*shape, *last)) for name, (kernel, threads, last) in planned.items()
    }
    return DrawPlan(table, launches)


def count_columns(spec: Spec) -> int:
    """Return the number of columns of a table."""
    latents = sum(isinstance(item, Latent) and item.distribution == "normal" for item in spec.inputs)
    return 2 + 3 * latents + sum(isinstance(item, Label | Scalar) for item in spec.inputs)


def _list_normal_columns(item: Latent, draw: Draw) -> list[Float64s]:
    """Return `low`, `width` and `scale` of the kernel `ganrt_normal` for each row."""
    limits, scale = np.full(draw.rows, np.nan), np.ones(draw.rows)
    if item.truncation == "resampled" and draw.truncation is not None:
        limits = draw.truncation
    elif item.truncation == "scaled":
        limits = np.full(draw.rows, SCALED_LIMIT)
        scale = draw.fill_truncation(item.default).astype(np.float32).astype(np.float64)
    return [*find_interval(limits), scale]


class RowTable:
    """The memory for the table of one batch in flight."""

    def __init__(self, gpu: Gpu, rows: int, columns: int, stream: core.Stream) -> None:
        self._pinned = gpu.allocate_pinned((rows, columns), np.dtype(np.uint64))
        self._memory: core.Buffer = gpu.allocate_memory(self._pinned.array.nbytes, stream)
        self._stream = stream

    def write(self, table: NDArray[np.uint64]) -> None:
        """Write a table to the host memory, which no work may be reading."""
        self._pinned.array[: len(table)] = table

    def enqueue_copy(self) -> core.Buffer:
        """Put the copy to the device on the stream. Returns the memory there."""
        self._memory.copy_from(self._pinned.buffer, stream=self._stream)
        return self._memory

    def close(self) -> None:
        """Free the memory, once all work is done."""
        self._pinned.close()
        self._memory.close(self._stream)


class DeviceLatents:
    """Draws inputs on a GPU, for several batches in flight."""

    def __init__(self, gpu: Gpu, spec: Spec, rows: int, slots: int, stream: core.Stream) -> None:
        """Compiles the kernels and allocates all memory that it will ever need.

        Args:
            rows: of the largest batch.
            slots: most batches in flight.
            stream: that all work is put on.

        Raises DeviceMemoryError.
        """
        self._spec, self._stream = spec, stream
        self._kernels: dict[str, core.Kernel] = gpu.compile(read_source(), _KERNELS)
        self._tables = [RowTable(gpu, rows, count_columns(spec), stream) for _ in range(slots)]

    def prepare(
        self, slot: int, draw: Draw, dtypes: Mapping[str, np.dtype[Any]]
    ) -> Callable[[Mapping[str, core.Buffer]], None]:
        """Return a function that puts the work which draws a batch on the stream. It gets the memory of each input by
        its name.

        Args:
            slot: number of a slot without a batch in flight.
            dtypes: of the inputs in the engine.
        """
        plan, table = plan_draw(self._spec, draw, dtypes), self._tables[slot]
        table.write(plan.table)

        def enqueue(inputs: Mapping[str, core.Buffer]) -> None:
            lines = table.enqueue_copy()
            for name, (kernel, threads, arguments) in plan.launches.items():
                config = core.LaunchConfig(grid=-(-threads // _THREADS), block=_THREADS)
                core.launch(self._stream, config, self._kernels[kernel], inputs[name], lines, *arguments)

        return enqueue

    def close(self) -> None:
        """Free the memory, once all work is done."""
        for table in self._tables:
            table.close()
