"""The number of pictures that `ganrt sample` makes, and their classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ganrt.cli.parsing import MOST_VALUES
from ganrt.errors import RequestError
from ganrt.sample_request import Labels, check_request
from ganrt.spec import Label, Spec

COUNT = 64
"""Pictures by default."""


def choose_rows(
    spec: Spec, count: int | None, values: dict[str, Any], each_class: int | None
) -> tuple[int | None, Labels]:
    """Return the number of pictures, None for that of the values that are lists, and their classes.

    Args:
        spec: of the model.
        count: what -n says.
        values: name -> value of the options that take one value, or one per picture.
        each_class: what --each-class says.

    Raises RequestError if they contradict each other.
    """
    labels = values["labels"]
    if each_class is not None:
        return _list_each_class(spec, count, labels, each_class)
    if isinstance(labels, list) and count is not None and count > len(labels):
        return count, _repeat_labels(spec, labels, count)
    if count is None and not any(isinstance(value, list) for value in values.values()):
        count = COUNT
    return count, labels


def _list_each_class(spec: Spec, count: int | None, labels: Labels, each: int) -> tuple[int, Labels]:
    item = spec.find(Label)
    given = "-n" if count is not None else "--labels" if labels is not None else ""
    if given:
        raise RequestError(f"--each-class says how many pictures there are and of which classes; leave {given} out")
    if item is None:
        raise RequestError(f"--each-class was given, but this {spec.family} model has no classes: use -n")
    if not 1 <= each <= MOST_VALUES // item.classes:
        most = MOST_VALUES // item.classes
        raise RequestError(f"--each-class is {each}; for {item.classes} classes it is a whole number from 1 to {most}")
    return each * item.classes, np.repeat(np.arange(item.classes), each)


def _repeat_labels(spec: Spec, labels: list[int], count: int) -> Labels:
    if count > MOST_VALUES:
        raise RequestError(
            f"a list of classes is repeated for up to {MOST_VALUES} pictures, and -n is {count}; make several jobs, "
            "with --start"
        )
    checked = check_request(spec, labels=labels).labels
    return np.resize(np.asarray(checked, np.int64), count)
