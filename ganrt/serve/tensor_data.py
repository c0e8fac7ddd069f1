"""Data of tensors in the Open Inference Protocol: JSON values, or bytes as the binary tensor data extension has them.

Bytes are little endian, row-major, without padding.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganrt.errors import BackendError, RequestError

DATATYPES = {
    "BOOL": np.dtype("?"),
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
}
"""Datatype of the protocol -> dtype. The protocol also has BF16 and BYTES, which no generator takes."""
_KINDS: dict[str, tuple[set[type], str]] = {
    "b": ({bool}, "true or false"),
    "u": ({int}, "a whole number"),
    "i": ({int}, "a whole number"),
    "f": ({int, float}, "a number"),
}
"""Kind of a dtype -> types of its values in parsed JSON, and how a message names one."""


def find_datatype(dtype: np.dtype[Any]) -> str:
    """Return the protocol's name of a dtype of either byte order. Raises BackendError if it has none."""
    for name, known in DATATYPES.items():
        if dtype.newbyteorder("<") == known:
            return name
    raise BackendError(f"an output is {dtype}, for which the Open Inference Protocol has no datatype")


def convert_values(name: str, data: object, datatype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Convert parsed JSON to an array.

    Args:
        name: of the input, for errors.
        data: a flat list of all values in row-major order, or nested lists of exactly `shape`.
        datatype: a key of DATATYPES.

    Returns a new array. Raises RequestError, naming the input, if the number of values, the nesting, the type of a
    value or its range is wrong.
    """
    dtype = DATATYPES[datatype]
    values = _flatten(name, data, shape)
    types, text = _KINDS[dtype.kind]
    if not set(map(type, values)) <= types:
        wrong = next(value for value in values if type(value) not in types)
        raise RequestError(f"input {name!r} has {wrong!r:.100} in its data; each value of {datatype} must be {text}")
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        for value in (min(values, default=0), max(values, default=0)):
            if not limits.min <= value <= limits.max:
                raise RequestError(
                    f"input {name!r} has {value!r:.100} in its data; {datatype} goes from {limits.min} to {limits.max}"
                )
    if dtype.kind == "f":
        return _convert_floats(name, values, datatype).reshape(shape)
    return np.array(values, dtype).reshape(shape)


def view_bytes(name: str, data: memoryview, datatype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Read binary tensor data.

    Args:
        name: of the input, for errors.
        data: exactly the bytes of an array of `datatype` and `shape`.

    Returns a read-only view of `data`, or a copy where that is not aligned. Raises RequestError, naming the input, if a
    float is not finite, or a byte of BOOL is neither 0 nor 1.
    """
    array = np.frombuffer(data, DATATYPES[datatype]).reshape(shape)
    if array.dtype.kind == "b" and (array.view(np.uint8) > 1).any():
        largest = array.view(np.uint8).max()
        raise RequestError(f"input {name!r} has a byte {largest} in its data; BOOL has 0 and 1")
    if not np.isfinite(array).all():
        raise RequestError(f"input {name!r} has values in its data that are not finite")
    aligned = np.require(array, requirements=["C", "ALIGNED"])
    aligned.flags.writeable = False
    return aligned


def _flatten(name: str, data: object, shape: tuple[int, ...]) -> list[Any]:
    """Return all values of a flat or a nested list."""
    if not isinstance(data, list):
        raise RequestError(f"the data of input {name!r} is {data!r:.100}; it must be a list")
    if any(isinstance(item, list) for item in data):
        for depth, side in enumerate(shape):
            lists = [data] if depth == 0 else data
            if not all(isinstance(item, list) and len(item) == side for item in lists):
                raise RequestError(
                    f"the lists in the data of input {name!r} do not have its shape {list(shape)}; "
                    "give one flat list of all values, or nested lists of that shape"
                )
            data = data if depth == 0 else list(chain.from_iterable(data))
    if len(data) != math.prod(shape):
        raise RequestError(
            f"input {name!r} has {len(data)} values in its data, and its shape {list(shape)} {math.prod(shape)}"
        )
    return data


def _convert_floats(name: str, values: list[Any], datatype: str) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        try:
            array = np.array(values, np.float64).astype(DATATYPES[datatype])
        except OverflowError:  # a whole number beyond the range of float64
            array = np.array([math.inf])
    if not np.isfinite(array).all():
        raise RequestError(f"input {name!r} has a value in its data that is beyond the range of {datatype}")
    return array
