"""Inputs that were given their value for good when a model was exported: one class, one strength."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from ganrt.errors import RequestError
from ganrt.feeds import Feeds
from ganrt.spec import Label, Scalar, Spec

Fixed: TypeAlias = Mapping[str, int | float]
"""Name of a label or scalar input -> the class, or the number."""


def check(spec: Spec, fixed: Fixed) -> None:
    """Raise RequestError for an input that cannot be fixed, a value that it does not take, or when none is left."""
    inputs = {item.name: item for item in spec.inputs}
    for name, value in fixed.items():
        item = inputs.get(name)
        if not isinstance(item, Label | Scalar):
            some = ", ".join(other.name for other in spec.inputs if isinstance(other, Label | Scalar))
            raise RequestError(f"{name} cannot be fixed; of this model's inputs {some or 'none'} can")
        if isinstance(item, Label) and not (isinstance(value, int) and 0 <= value < item.classes):
            raise RequestError(f"{name}={value} was to be fixed; it takes a class from 0 to {item.classes - 1}")
        if isinstance(item, Scalar) and not (math.isfinite(value) and item.range[0] <= value <= item.range[1]):
            raise RequestError(f"{name}={value} was to be fixed; it takes {item.range[0]:g} to {item.range[1]:g}")
    if len(fixed) == len(inputs):
        raise RequestError(f"{', '.join(fixed)} are all inputs of this model; one at least must be left")


def without(spec: Spec, fixed: Fixed) -> Spec:
    """The Spec of what is left to be given."""
    return replace(spec, inputs=tuple(item for item in spec.inputs if item.name not in fixed))


def rows(spec: Spec, fixed: Fixed, count: int) -> Feeds:
    """The fixed inputs as the model takes them, the same in all rows.

    Args:
        spec: of the whole model.
    """
    made: Feeds = {}
    for item in spec.inputs:
        if item.name not in fixed:
            continue
        if isinstance(item, Scalar):
            made[item.name] = np.full(count, fixed[item.name], np.float32)
        elif isinstance(item, Label) and item.encoding == "one_hot":
            made[item.name] = np.tile(np.eye(item.classes, dtype=np.float32)[int(fixed[item.name])], (count, 1))
        else:
            made[item.name] = np.full(count, int(fixed[item.name]), np.int64)
    return made
