"""Inputs of samples, drawn on the GPU to the values of `ganrt.feeds.draw`, so that they never cross the bus."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cuda.core as core
import numpy as np

from ganrt.feeds import TRUNCATION, Draw
from ganrt.gpu.device import Gpu
from ganrt.latents import CENTRE, TAIL, normal_cdf
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

    def write_table(name: str, rows: tuple[tuple[float, ...], ...]) -> str:
        values = ", ".join("{" + ", ".join(map(float.hex, row)) + "}" for row in rows)
        return f"__constant__ double {name}[2][8] = {{{values}}};\n"

    return (
        write_table("CENTRE", CENTRE) + write_table("TAIL", TAIL) + Path(__file__).with_name("latents.cu").read_text()
    )


class KernelLaunch(NamedTuple):
    """A kernel that fills one input."""

    kernel: str
    threads: int
    """How many it needs."""
    arguments: tuple[np.generic, ...]
    """Passed by value behind the output."""


def plan_launches(spec: Spec, draw: Draw, dtypes: Mapping[str, np.dtype[Any]]) -> dict[str, KernelLaunch]:
    """Return the launch that draws each input, by the input's name. Labels that `draw` holds are not drawn.

    Args:
        dtypes: of the inputs in the engine, where a label may be int32.
    """
    launches = {}
    rows, seed, start = np.uint64(draw.rows), np.uint64(draw.seed), np.uint64(draw.start)
    for item in spec.inputs:
        stream = np.uint32(spec.streams.get(item.name, 0))
        if isinstance(item, Latent):
            size = math.prod(item.shape)
            sample = (rows, np.uint32(size), seed, start, stream)
            threads = draw.rows * -(-size // 4)
            if item.distribution == "uniform":
                low, high = item.range
                launches[item.name] = KernelLaunch(
                    "ganrt_uniform", threads, (*sample, np.float64(low), np.float64(high - low))
                )
            else:
                launches[item.name] = KernelLaunch(
                    "ganrt_normal", threads, (*sample, *_build_normal_arguments(item, draw.truncation))
                )
        elif isinstance(item, Label) and (draw.labels is None or item is not spec.find(Label)):
            one_hot = item.encoding == "one_hot"
            kernel = "ganrt_label_one_hot" if one_hot else f"ganrt_label_{dtypes[item.name]}"
            threads = draw.rows * (item.classes if one_hot else 1)
            launches[item.name] = KernelLaunch(kernel, threads, (rows, seed, start, stream, np.uint32(item.classes)))
        elif isinstance(item, Scalar):
            chosen = draw.truncation if item.name == TRUNCATION else None
            value = np.float32(item.default if chosen is None else chosen)
            launches[item.name] = KernelLaunch("ganrt_fill", draw.rows, (rows, value))
    return launches


def _build_normal_arguments(item: Latent, truncation: float | None) -> tuple[np.generic, ...]:
    """Return `low`, `width` and `scale` of the kernel `ganrt_normal`."""
    limit, scale = truncation if item.truncation == "resampled" else None, 1.0
    if item.truncation == "scaled":
        limit, scale = 2.0, item.default if truncation is None else truncation
    if limit is None:
        return np.float64(0.0), np.float64(1.0), np.float32(scale)
    low, high = normal_cdf(-limit), normal_cdf(limit)
    return np.float64(low), np.float64(high - low), np.float32(scale)


class DeviceLatents:
    """Draws inputs on a GPU. Compiles the kernels when constructed."""

    def __init__(self, gpu: Gpu) -> None:
        self._kernels: dict[str, core.Kernel] = gpu.compile(read_source(), _KERNELS)

    def enqueue(
        self,
        spec: Spec,
        draw: Draw,
        inputs: Mapping[str, core.Buffer],
        dtypes: Mapping[str, np.dtype[Any]],
        stream: core.Stream,
    ) -> None:
        """Put the kernels that draw the inputs of samples on a stream. Labels that `draw` holds are not drawn.

        Args:
            inputs: the memory that the kernels write, by the name of the input.
            dtypes: of the inputs in the engine.
        """
        for name, (kernel, threads, arguments) in plan_launches(spec, draw, dtypes).items():
            config = core.LaunchConfig(grid=-(-threads // _THREADS), block=_THREADS)
            core.launch(stream, config, self._kernels[kernel], inputs[name], *arguments)
