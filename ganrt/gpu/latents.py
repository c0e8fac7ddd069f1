"""The inputs of samples, drawn on the GPU: what `ganrt.feeds.draw` makes, without a byte crossing the bus."""

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


def source() -> str:
    """CUDA C++ of all kernels."""

    def table(name: str, rows: tuple[tuple[float, ...], ...]) -> str:
        values = ", ".join("{" + ", ".join(map(float.hex, row)) + "}" for row in rows)
        return f"__constant__ double {name}[2][8] = {{{values}}};\n"

    return table("CENTRE", CENTRE) + table("TAIL", TAIL) + Path(__file__).with_name("latents.cu").read_text()


class Launch(NamedTuple):
    """A kernel with its arguments behind the output: threads needed, and the rest by value."""

    kernel: str
    threads: int
    arguments: tuple[np.generic, ...]


def launches(spec: Spec, draw: Draw, dtypes: Mapping[str, np.dtype[Any]]) -> dict[str, Launch]:
    """What draws each input of a Spec that the caller does not give.

    Args:
        draw: `rows` rows are made; labels that it holds are not drawn.
        dtypes: of the inputs as the engine has them; a label may be int32 there.
    """
    made = {}
    rows, seed, start = np.uint64(draw.rows), np.uint64(draw.seed), np.uint64(draw.start)
    for item in spec.inputs:
        stream = np.uint32(spec.streams.get(item.name, 0))
        if isinstance(item, Latent):
            size = math.prod(item.shape)
            place = (rows, np.uint32(size), seed, start, stream)
            threads = draw.rows * -(-size // 4)
            if item.distribution == "uniform":
                low, high = item.range
                made[item.name] = Launch("ganrt_uniform", threads, (*place, np.float64(low), np.float64(high - low)))
            else:
                made[item.name] = Launch("ganrt_normal", threads, (*place, *_normal(item, draw.truncation)))
        elif isinstance(item, Label) and (draw.labels is None or item is not spec.find(Label)):
            one_hot = item.encoding == "one_hot"
            kernel = "ganrt_label_one_hot" if one_hot else f"ganrt_label_{dtypes[item.name]}"
            threads = draw.rows * (item.classes if one_hot else 1)
            made[item.name] = Launch(kernel, threads, (rows, seed, start, stream, np.uint32(item.classes)))
        elif isinstance(item, Scalar):
            asked = draw.truncation if item.name == TRUNCATION else None
            value = np.float32(item.default if asked is None else asked)
            made[item.name] = Launch("ganrt_fill", draw.rows, (rows, value))
    return made


def _normal(item: Latent, truncation: float | None) -> tuple[np.generic, ...]:
    """low, extent and scale of `ganrt_normal`."""
    limit, scale = truncation if item.truncation == "resampled" else None, 1.0
    if item.truncation == "scaled":
        limit, scale = 2.0, item.default if truncation is None else truncation
    if limit is None:
        return np.float64(0.0), np.float64(1.0), np.float32(scale)
    low, high = normal_cdf(-limit), normal_cdf(limit)
    return np.float64(low), np.float64(high - low), np.float32(scale)


class DeviceLatents:
    """Draws inputs on a GPU. The kernels are compiled when it is made."""

    def __init__(self, gpu: Gpu) -> None:
        self._kernels: dict[str, core.Kernel] = gpu.compile(source(), _KERNELS)

    def put(
        self,
        spec: Spec,
        draw: Draw,
        outputs: Mapping[str, core.Buffer],
        dtypes: Mapping[str, np.dtype[Any]],
        stream: core.Stream,
    ) -> None:
        """Put the drawing of every input that the caller does not give on a stream."""
        for name, (kernel, threads, arguments) in launches(spec, draw, dtypes).items():
            config = core.LaunchConfig(grid=-(-threads // _THREADS), block=_THREADS)
            core.launch(stream, config, self._kernels[kernel], outputs[name], *arguments)
