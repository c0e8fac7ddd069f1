"""The kernels of `ganrt/gpu/latents.cu` for the fake GPU, in NumPy; another test compares the real ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from fakes.cuda import FakeCuda

from ganrt import latents


def install(cuda: FakeCuda) -> None:
    """Teach a fake GPU to draw."""
    cuda.kernels |= {
        "ganrt_normal": _normal,
        "ganrt_uniform": _uniform,
        "ganrt_label_int64": _label(np.int64),
        "ganrt_label_int32": _label(np.int32),
        "ganrt_label_one_hot": _one_hot,
        "ganrt_pictures": _pictures,
        "ganrt_fill": lambda cuda, config, out, rows, value: _put(cuda, out, np.full(int(rows), value, np.float32)),
    }


def _pictures(cuda: FakeCuda, config: Any, image: Any, pictures: Any, level: Any, *told: Any) -> None:
    pixels, plane, channels, low, high, scale = told
    rows = int(pixels) // int(plane)
    values = cuda.at(image._address).view(np.float32).reshape(rows, int(channels), int(plane))
    with np.errstate(invalid="ignore"):
        scaled = (np.clip(values, low, high) - low) * scale + np.float32(0.5)
        _put(cuda, pictures, scaled.astype(np.uint8).transpose(0, 2, 1))
        finite = np.isfinite(values).all(axis=(1, 2))
    cuda.at(level._address).view(np.float32)[~finite] = np.nan


def _put(cuda: FakeCuda, out: Any, values: np.ndarray) -> None:
    target = cuda.at(out._address)
    assert target.size == values.nbytes, "a kernel writes all of its output and no more"
    target[:] = np.ascontiguousarray(values).view(np.uint8).reshape(-1)


def _normal(cuda: FakeCuda, config: Any, out: Any, rows: Any, size: Any, seed: Any, start: Any, *rest: Any) -> None:
    stream, low, extent, scale = rest
    words = latents.words(int(seed), int(start), int(rows), int(stream), int(size))
    p = low + (words + 0.5) * 2.0**-32 * extent
    _put(cuda, out, latents.normal_quantile(p).astype(np.float32) * scale)


def _uniform(cuda: FakeCuda, config: Any, out: Any, rows: Any, size: Any, seed: Any, start: Any, *rest: Any) -> None:
    stream, low, extent = rest
    words = latents.words(int(seed), int(start), int(rows), int(stream), int(size))
    _put(cuda, out, (low + extent * ((words + 0.5) * 2.0**-32)).astype(np.float32))


def _label(dtype: Any) -> Any:
    def kernel(cuda: FakeCuda, config: Any, out: Any, *arguments: Any) -> None:
        rows, seed, start, stream, classes = map(int, arguments)
        _put(cuda, out, latents.labels(seed, start, rows, stream, classes).astype(dtype))

    return kernel


def _one_hot(cuda: FakeCuda, config: Any, out: Any, *arguments: Any) -> None:
    rows, seed, start, stream, classes = map(int, arguments)
    _put(cuda, out, np.eye(classes, dtype=np.float32)[latents.labels(seed, start, rows, stream, classes)])
