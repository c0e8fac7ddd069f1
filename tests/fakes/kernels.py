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
        "ganrt_fill": _fill,
    }


def _make_pictures(cuda: FakeCuda, config: Any, image: Any, pictures: Any, finiteness: Any, *arguments: Any) -> None:
    pixels, plane, channels, first, place, count, low, high, scale = arguments
    rows = int(pixels) // int(plane)
    values = cuda.get_memory(image._address).view(np.float32).reshape(rows, int(channels), int(plane))
    values = values[:, int(first) : int(first + count)]
    with np.errstate(invalid="ignore"):
        scaled = (np.clip(values, low, high) - low) * scale + np.float32(0.5)
        made = cuda.get_memory(pictures._address).reshape(rows, int(plane), int(channels))
        made[..., int(place) : int(place + count)] = scaled.astype(np.uint8).transpose(0, 2, 1)
        finite = np.isfinite(values).all(axis=(1, 2))
    cuda.get_memory(finiteness._address).view(np.float32)[~finite] = np.nan


def _write(cuda: FakeCuda, out: Any, values: np.ndarray) -> None:
    target = cuda.get_memory(out._address)
    assert target.size == values.nbytes, "a kernel writes its whole output and nothing else"
    target[:] = np.ascontiguousarray(values).view(np.uint8).reshape(-1)


def _read_lines(cuda: FakeCuda, table: Any, rows: Any, columns: Any) -> np.ndarray:
    return cuda.get_memory(table._address).view(np.uint64).reshape(-1, int(columns))[: int(rows)].copy()


def _draw_words(lines: np.ndarray, stream: Any, size: Any) -> np.ndarray:
    return latents.words(lines[:, 0], lines[:, 1], len(lines), int(stream), int(size))


def _draw_normal(cuda: FakeCuda, config: Any, out: Any, table: Any, *arguments: Any) -> None:
    rows, columns, first, stream, size = arguments
    lines = _read_lines(cuda, table, rows, columns)
    low, width, scale = (lines[:, int(first) + k].copy().view(np.float64)[:, None] for k in range(3))
    p = low + (_draw_words(lines, stream, size) + 0.5) * 2.0**-32 * width
    _write(cuda, out, latents.normal_quantile(p).astype(np.float32) * scale.astype(np.float32))


def _draw_uniform(cuda: FakeCuda, config: Any, out: Any, table: Any, *arguments: Any) -> None:
    rows, columns, stream, size, low, width = arguments
    words = _draw_words(_read_lines(cuda, table, rows, columns), stream, size)
    _write(cuda, out, (low + width * ((words + 0.5) * 2.0**-32)).astype(np.float32))


def _choose_labels(cuda: FakeCuda, table: Any, *arguments: Any) -> np.ndarray:
    rows, columns, first, stream, classes = arguments
    lines = _read_lines(cuda, table, rows, columns)
    chosen = lines[:, int(first)].copy().view(np.int64)
    drawn = latents.labels(lines[:, 0], lines[:, 1], len(lines), int(stream), int(classes))
    return np.where(chosen < 0, drawn, chosen)


def _make_label_kernel(dtype: Any) -> Any:
    def kernel(cuda: FakeCuda, config: Any, out: Any, *arguments: Any) -> None:
        _write(cuda, out, _choose_labels(cuda, *arguments).astype(dtype))

    return kernel


def _draw_one_hot(cuda: FakeCuda, config: Any, out: Any, *arguments: Any) -> None:
    _write(cuda, out, np.eye(int(arguments[-1]), dtype=np.float32)[_choose_labels(cuda, *arguments)])


def _fill(cuda: FakeCuda, config: Any, out: Any, table: Any, rows: Any, columns: Any, first: Any) -> None:
    lines = _read_lines(cuda, table, rows, columns)
    _write(cuda, out, lines[:, int(first)].copy().view(np.float64).astype(np.float32))
