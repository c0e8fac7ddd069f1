"""Inputs bound to constants at export, such as one class or one style strength."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from ganrt.errors import RequestError
from ganrt.feeds import Feeds
from ganrt.spec import Label, Scalar, Spec

BoundInputs: TypeAlias = Mapping[str, int | float]
"""Name of a label or scalar input -> its class or number."""


def check_bound_inputs(spec: Spec, bound: BoundInputs) -> None:
    """Raise RequestError if an input cannot be bound, a value is out of range, or no input is left unbound."""
    inputs = {item.name: item for item in spec.inputs}
    for name, value in bound.items():
        item = inputs.get(name)
        if not isinstance(item, Label | Scalar):
            some = ", ".join(other.name for other in spec.inputs if isinstance(other, Label | Scalar))
            raise RequestError(f"{name} cannot be bound; this model has {some or 'no labels or scalars'} to bind")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise RequestError(f"{name} cannot be bound to {value!r}; it takes a number")
        if isinstance(item, Label) and not (isinstance(value, int) and 0 <= value < item.classes):
            raise RequestError(f"{name} cannot be bound to {value}; it takes a class from 0 to {item.classes - 1}")
        if isinstance(item, Scalar) and not (math.isfinite(value) and item.range[0] <= value <= item.range[1]):
            raise RequestError(f"{name} cannot be bound to {value}; it takes {item.range[0]:g} to {item.range[1]:g}")
    if len(bound) == len(inputs):
        raise RequestError(f"all inputs of this model are bound ({', '.join(bound)}); at least one must stay unbound")


def drop_bound_inputs(spec: Spec, bound: BoundInputs) -> Spec:
    """Return the Spec without the bound inputs."""
    return replace(spec, inputs=tuple(item for item in spec.inputs if item.name not in bound))


def make_bound_feeds(spec: Spec, bound: BoundInputs, count: int) -> Feeds:
    """Return feeds for the bound inputs: `count` equal rows each.

    Args:
        spec: Spec of the model with all its inputs.
        bound: the inputs to bind.
        count: batch size.
    """
    made: Feeds = {}
    for item in spec.inputs:
        if item.name not in bound:
            continue
        if isinstance(item, Scalar):
            made[item.name] = np.full(count, bound[item.name], np.float32)
        elif isinstance(item, Label) and item.encoding == "one_hot":
            made[item.name] = np.tile(np.eye(item.classes, dtype=np.float32)[int(bound[item.name])], (count, 1))
        else:
            made[item.name] = np.full(count, int(bound[item.name]), np.int64)
    return made
