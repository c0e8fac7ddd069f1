"""How fast the machine multiplies matrices: the limit that a network's arithmetic is held against."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from . import clock
from .context import MatrixProduct

_SIDE, _REPEATS = 2048, 10


def matrix_products() -> dict[str, MatrixProduct]:
    """Precision -> products by torch with all cores: float32, bfloat16, and int8 with 32-bit sums."""
    steps = torch.randint(-127, 128, (_SIDE, _SIDE), dtype=torch.int8)
    operands = {"fp32": steps.to(torch.float32), "bf16": steps.to(torch.bfloat16)}
    made = {name: _timed(torch.mm, matrix) for name, matrix in operands.items()}
    return made | {"int8": _timed(torch._int_mm, steps)}


def joined(before: dict[str, MatrixProduct], after: dict[str, MatrixProduct]) -> dict[str, MatrixProduct]:
    """All calls of two measurements of the same products."""
    return {
        name: MatrixProduct(product.side, product.nanoseconds + after[name].nanoseconds)
        for name, product in before.items()
    }


def _timed(multiply: Callable[[Tensor, Tensor], Tensor], matrix: Tensor) -> MatrixProduct:
    """The first call, which prepares, is not counted."""
    multiply(matrix, matrix)
    taken = []
    for _ in range(_REPEATS):
        started = clock.now_ns()
        multiply(matrix, matrix)
        taken.append(clock.now_ns() - started)
    return MatrixProduct(len(matrix), tuple(taken))
