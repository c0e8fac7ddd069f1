"""Checks of values from callers or files."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ganrt.errors import RequestError

if TYPE_CHECKING:
    from typing_extensions import TypeIs


def is_whole(value: object) -> TypeIs[int]:
    """Return whether a value is an `int` or a NumPy integer; a `bool` is not."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_finite(value: object) -> TypeIs[float]:
    """Return whether a value is a finite `int` or `float`, of Python or NumPy; a `bool` is not."""
    if not isinstance(value, int | float | np.integer | np.floating) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond the range of float64
        return False


def require_whole(name: str, value: object, minimum: int = 1, maximum: int | None = None) -> int:
    """Return `value` as a Python int.

    Raises RequestError, naming it, unless it is a whole number from `minimum` to `maximum`, both included.
    """
    if is_whole(value) and value >= minimum and (maximum is None or value <= maximum):
        return int(value)
    upper = "" if maximum is None else f" to {maximum}"
    raise RequestError(f"{name} is {value!r:.100}; it must be a whole number from {minimum}{upper}")


def as_array(name: str, value: object) -> NDArray[Any]:
    """Convert any array-like value. Raises RequestError, with `name`, if it cannot be converted."""
    try:
        return np.asarray(value)
    except Exception as error:  # ragged lists, GPU tensors: any exception of their conversion
        raise RequestError(f"{name} cannot be read as an array: {error}") from error
