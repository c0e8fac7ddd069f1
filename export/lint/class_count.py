"""The number of classes: what the Spec says beside what the network takes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from ganrt.feeds import Array, Feeds
from ganrt.spec import Label, Spec

from .batch import take_last_row
from .findings import Finding

_ANY = 2**20
"""A network that takes a class of this number takes all."""


def check_class_counts(module: nn.Module, spec: Spec, given: Feeds) -> list[Finding]:
    """Compare the classes of each label input with those that a module takes.

    Args:
        given: inputs of the module; it is run on the last sample alone.
    """
    labels = [item for item in spec.inputs if isinstance(item, Label)]
    row = take_last_row(given)
    findings: list[Finding] = []
    for item in labels:
        if item.encoding == "one_hot":
            findings += _check_width(module, item, row)
    indices = [item for item in labels if item.encoding == "index"]
    row |= {item.name: np.zeros(1, np.int64) for item in indices}
    for item in indices:
        findings += _check_index(module, item, row)
    return findings


def _check_width(module: nn.Module, item: Label, row: Feeds) -> Iterator[Finding]:
    """A one-hot label of another width than the network takes. `row` gets the right one."""
    error = _try_run(module, row)[1]
    numbers = sorted({int(number) for number in re.findall(r"\d+", str(error)[:1000])}) if error else []
    # The message has the width that is wrong and the one that is right, alone or as parts of sums.
    widths = {item.classes + right - wrong for right, wrong in itertools.permutations(numbers, 2)}
    fits = []
    for width in sorted(width for width in widths if 1 < width <= _ANY):
        other = {item.name: np.eye(1, width, dtype=np.float32)}
        if _try_run(module, row | other)[1] is None:
            fits.append(other)
    if len(fits) == 1:
        row |= fits[0]
        width = fits[0][item.name].shape[1]
        text = (
            f"the Spec has {item.classes} classes, the network takes one-hot rows of {width}: "
            f'Label("{item.name}", classes={width}, encoding="one_hot")'
        )
        yield Finding("class count", item.name, text, "rejected")


def _check_index(module: nn.Module, item: Label, row: Feeds) -> Iterator[Finding]:
    def run(number: int) -> Array | None:
        return _try_run(module, row | {item.name: np.array([number], np.int64)})[0]

    last, first = run(item.classes - 1), run(0)
    if first is None:  # for another reason, which the run as a whole explains
        return
    if last is None:
        taken = _bisect(lambda number: run(number) is None, item.classes - 1)
        text = f"the Spec has {item.classes} classes, the network takes {taken}: {_describe(item, taken)}"
        yield Finding("class count", item.name, text, "rejected")
        return
    beyond = run(item.classes)
    if beyond is None:
        return
    if run(_ANY) is None:
        taken = _bisect(lambda number: run(number) is None, _ANY)
        text = (
            f"the Spec has {item.classes} classes, the network takes {taken}: {_describe(item, taken)}, unless those "
            "from the Spec's number on are no classes, such as the one of unconditional guidance"
        )
        yield Finding("class count", item.name, text, "warning")
    elif np.array_equal(last, beyond) and not np.array_equal(first, last):
        same = _bisect(lambda number: np.array_equal(run(number), last), item.classes - 1)  # type: ignore[arg-type]
        if same < item.classes - 1:
            text = (
                f"classes {same} to {item.classes - 1} make the same picture, as numbers beyond the Spec's "
                f"{item.classes} classes do; has the network fewer?"
            )
            yield Finding("class count", item.name, text, "warning")


def _describe(item: Label, classes: int) -> str:
    return f'Label("{item.name}", classes={classes})'


def _bisect(holds: Callable[[int], bool], last: int) -> int:
    """The smallest number from 1 to `last` from which on a condition holds; it holds for `last`, and not for 0."""
    low, high = 0, last
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _try_run(module: nn.Module, row: Feeds) -> tuple[Array | None, Exception | None]:
    """What a module returns (nothing where that is no tensor), or what it raises."""
    try:
        with torch.no_grad():
            result = module(*(torch.from_numpy(array) for array in row.values()))
    except Exception as error:  # it is the user's code, and may raise anything
        return None, error
    return (result.numpy() if isinstance(result, torch.Tensor) else np.zeros(0)), None
