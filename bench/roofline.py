"""Measure the machine's roofline peaks: how fast torch multiplies large matrices in each precision."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from . import clock
from .context import MatrixProduct

_SIDE, _REPEATS = 2048, 10


def measure_matrix_products() -> dict[str, MatrixProduct]:
    """Time matrix products in torch on all cores. Precision -> times: fp32, bf16, and int8 with 32-bit sums."""
    steps = torch.randint(-127, 128, (_SIDE, _SIDE), dtype=torch.int8)
    operands = {"fp32": steps.to(torch.float32), "bf16": steps.to(torch.bfloat16)}
    products = {name: _time_products(torch.mm, matrix) for name, matrix in operands.items()}
    return products | {"int8": _time_products(torch._int_mm, steps)}


def merge_products(before: dict[str, MatrixProduct], after: dict[str, MatrixProduct]) -> dict[str, MatrixProduct]:
    """Join the calls of two measurements of the same products."""
    return {
        name: MatrixProduct(product.side, product.nanoseconds + after[name].nanoseconds)
        for name, product in before.items()
    }


def _time_products(multiply: Callable[[Tensor, Tensor], Tensor], matrix: Tensor) -> MatrixProduct:
    multiply(matrix, matrix)  # the first call allocates and initializes
    nanoseconds = []
    for _ in range(_REPEATS):
        started = clock.now_ns()
        multiply(matrix, matrix)
        nanoseconds.append(clock.now_ns() - started)
    return MatrixProduct(len(matrix), tuple(nanoseconds))
