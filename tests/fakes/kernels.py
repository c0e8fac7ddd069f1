"""The kernels of `ganrt/gpu/*.cu` for the fake GPU, in NumPy. tests/gpu/test_latents.py compares the real ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from fakes.cuda import FakeCuda

from ganrt import latents


def install(cuda: FakeCuda) -> None:
    """Install the kernels on a fake GPU."""
    cuda.kernels |= {
        "ganrt_normal": _draw_normal,
        "ganrt_uniform": _draw_uniform,
        "ganrt_label_int64": _make_label_kernel(np.int64),
        "ganrt_label_int32": _make_label_kernel(np.int32),
        "ganrt_label_one_hot": _draw_one_hot,
        "ganrt_pictures": _make_pictures,
        "ganrt_fill": lambda cuda, config, out, rows, value: _write(cuda, out, np.full(int(rows), value, np.float32)),
    }


def _make_pictures(cuda: FakeCuda, config: Any, image: Any, pictures: Any, finiteness: Any, *arguments: Any) -> None:
    pixels, plane, channels, low, high, scale = arguments
    rows = int(pixels) // int(plane)
    values = cuda.get_memory(image._address).view(np.float32).reshape(rows, int(channels), int(plane))
    with np.errstate(invalid="ignore"):
        scaled = (np.clip(values, low, high) - low) * scale + np.float32(0.5)
        _write(cuda, pictures, scaled.astype(np.uint8).transpose(0, 2, 1))
        finite = np.isfinite(values).all(axis=(1, 2))
    cuda.get_memory(finiteness._address).view(np.float32)[~finite] = np.nan


def _write(cuda: FakeCuda, out: Any, values: np.ndarray) -> None:
    target = cuda.get_memory(out._address)
    assert target.size == values.nbytes, "a kernel writes its whole output and nothing else"
    target[:] = np.ascontiguousarray(values).view(np.uint8).reshape(-1)


def _draw_normal(cuda: FakeCuda, config: Any, out: Any, *arguments: Any) -> None:
    rows, size, seed, start, stream, low, width, scale = arguments
    words = latents.words(int(seed), int(start), int(rows), int(stream), int(size))
    p = low + (words + 0.5) * 2.0**-32 * width
    _write(cuda, out, latents.normal_quantile(p).astype(np.float32) * scale)


def _draw_uniform(cuda: FakeCuda, config: Any, out: Any, *arguments: Any) -> None:
    rows, size, seed, start, stream, low, width = arguments
    words = latents.words(int(seed), int(start), int(rows), int(stream), int(size))
    _write(cuda, out, (low + width * ((words + 0.5) * 2.0**-32)).astype(np.float32))


def _make_label_kernel(dtype: Any) -> Any:
    def kernel(cuda: FakeCuda, config: Any, out: Any, *arguments: Any) -> None:
        rows, seed, start, stream, classes = map(int, arguments)
        _write(cuda, out, latents.labels(seed, start, rows, stream, classes).astype(dtype))

    return kernel


def _draw_one_hot(cuda: FakeCuda, config: Any, out: Any, *arguments: Any) -> None:
    rows, seed, start, stream, classes = map(int, arguments)
    _write(cuda, out, np.eye(classes, dtype=np.float32)[latents.labels(seed, start, rows, stream, classes)])
