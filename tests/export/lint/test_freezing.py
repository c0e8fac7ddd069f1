"""The line of the user's code after which a size is a number is found, whatever makes it one; so is the line at which
tracing fails."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.tiny_generators import ready
from torch import Tensor, nn

import ganrt
from ganrt.errors import RequestError
from ganrt.export.lint import describe_failing_place, find_freezing_place
from ganrt.export.source_lines import find_error_line, find_running_line, watch_lines
from ganrt.export.tracing import trace

SPEC = ganrt.Spec("net", (ganrt.Image("x", "content", 3, (0.0, 1.0)),), ganrt.Output(3, (0.0, 1.0), None))


class Function(nn.Module):
    """A function between two convolutions."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.function = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), function

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = self.function(x)
        return self.last(x)


def count_rows(x: Tensor) -> Tensor:
    n = x.size(0)
    index = torch.LongTensor(range(n))  # here: 0
    return x[index]


def loop_over_rows(x: Tensor) -> Tensor:
    made = []
    for k in range(x.shape[0]):  # here: 0
        made.append(x[k])
    return torch.stack(made)


def repeat_a_list(x: Tensor) -> Tensor:
    ones = [1.0] * x.shape[0]  # here: 0
    return x * torch.tensor(ones).view(-1, 1, 1, 1)


def split_rows(x: Tensor) -> Tensor:
    parts = x.split(1)  # here: 0
    return torch.cat([part * 2 for part in parts])


def divide_by_a_float(x: Tensor) -> Tensor:
    flat = x.flatten(0, 1)
    rows = int(flat.shape[0] / 3.0)  # here: 0
    return flat.view(rows, 3, x.shape[2], x.shape[3])


def count_by_len(x: Tensor) -> Tensor:
    y = x * 2
    return y + torch.zeros(len(x), 1, 1, 1)  # here: 0


def round_the_height(x: Tensor) -> Tensor:
    side = int(x.shape[2])  # here: 2
    return x + torch.ones(side, 1)


def take_a_root(x: Tensor) -> Tensor:
    width = x.shape[3]
    scale = np.sqrt(float(width))  # here: 3
    return x * float(scale)


def walk_over_columns(x: Tensor) -> Tensor:
    columns = x.unbind(3)  # here: 3
    return torch.stack(columns[::-1], 3)


def use_a_helper(x: Tensor) -> Tensor:
    y = x + 1
    y = round_the_height(y)
    return y * 2


FREEZING = [count_rows, loop_over_rows, repeat_a_list, split_rows, divide_by_a_float, count_by_len]
FREEZING += [round_the_height, take_a_root, walk_over_columns]


def find_mark(function: Callable[[Tensor], Tensor]) -> tuple[int, int]:
    """The line that is marked, and the axis."""
    code = function.__code__
    lines = Path(code.co_filename).read_text(encoding="utf-8").splitlines()
    number = next(k for k in range(code.co_firstlineno, len(lines)) if "# here: " in lines[k - 1])
    return number, int(lines[number - 1].rpartition(" ")[2])


@pytest.mark.parametrize("function", FREEZING, ids=lambda function: function.__name__)
def test_the_line_that_makes_a_number_is_found(function: Callable[[Tensor], Tensor]) -> None:
    number, axis = find_mark(function)
    found = find_freezing_place(ready(Function(function)), SPEC, 0, axis)
    assert found.line is not None and (found.line.number, found.where) == (number, "forward of the module itself")


def test_the_line_in_a_helper_is_found() -> None:
    found = find_freezing_place(ready(Function(use_a_helper)), SPEC, 0, 2)
    assert found.line is not None and found.line.number == find_mark(round_the_height)[0]


RIGHT = [
    lambda x: x + torch.tensor([1.0]).repeat(x.shape[0]).view(-1, 1, 1, 1),
    lambda x: x * (x.shape[2] * x.shape[3]) ** 0.5,
    lambda x: x + torch.full((x.shape[0], 1, 1, 1), 2.0),
    lambda x: x[torch.arange(x.shape[0])],
    lambda x: x + torch.linspace(0, 1, x.shape[3]),
]


@pytest.mark.parametrize("function", RIGHT)
@pytest.mark.parametrize("axis", [0, 2])
def test_what_is_written_instead_freezes_nothing(function: Callable[[Tensor], Tensor], axis: int) -> None:
    assert find_freezing_place(ready(Function(function)), SPEC, 0, axis) == ("forward", None)


FAILING: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "a condition on values": (lambda x: x * 2 if x.mean() > 0 else x, "write torch.where"),
    "an item": (lambda x: x * (1 if x.mean().item() > 0 else 2), "write torch.where"),
    "NumPy": (lambda x: x + torch.from_numpy(np.abs(x.detach().numpy())), "write the functions of torch"),
    "a root of math": (lambda x: x if math.isnan(float(x.sum())) else x * 2, "write torch.where"),
}


@pytest.mark.parametrize("name", FAILING)
def test_the_line_at_which_tracing_fails_is_found(name: str) -> None:
    function, advice = FAILING[name]
    at, instead = describe_failing_place(ready(Function(function)), SPEC, RuntimeError())
    assert at.startswith(f" (test_freezing.py:{function.__code__.co_firstlineno}, ") and advice in instead


def test_a_module_that_is_traced_has_no_failing_place() -> None:
    assert describe_failing_place(ready(Function(F.relu)), SPEC, RuntimeError()) == ("", "")


def whiten(x: Tensor) -> Tensor:
    return torch.linalg.svd(x)[0] @ x


def test_the_line_of_an_operator_without_a_form_in_onnx_is_found() -> None:
    module = ready(Function(whiten))
    with pytest.raises(RequestError) as caught:
        trace(module, SPEC, describe_failure=functools.partial(describe_failing_place, module, SPEC))
    assert (
        f"(test_freezing.py:{Function.forward.__code__.co_firstlineno + 2}, x = self.function(x)): No ONNX function"
        in str(caught.value)
    )
    assert "cannot write aten._linalg_svd.default as it is used there" in str(caught.value)


def test_lines_are_those_of_the_users_code() -> None:
    def check(x: Tensor) -> Tensor:
        seen.append(find_running_line(outside))
        return x

    outside, seen = sys._getframe(), list[Any]()
    Function(check)(torch.rand(1, 3, 4, 4))
    assert seen[0] is not None and seen[0].number == check.__code__.co_firstlineno + 1
    assert str(seen[0]) == f"test_freezing.py:{seen[0].number}"
    assert seen[0].quote().endswith(", seen.append(find_running_line(outside))")


def test_an_error_has_the_innermost_line() -> None:
    def fail(x: Tensor) -> Tensor:
        return x.reshape(7, 7, 7)

    with pytest.raises(RuntimeError) as caught:
        Function(fail)(torch.rand(1, 3, 4, 4))
    line = find_error_line(caught.value)
    assert line is not None and line.number == fail.__code__.co_firstlineno + 1


def test_watching_ends_with_the_context() -> None:
    before, lines = sys.gettrace(), list[Any]()
    with watch_lines(lines.append):
        Function(use_a_helper)(torch.rand(1, 3, 4, 4))
    assert sys.gettrace() is before and len(lines) > 5
    marked = find_mark(round_the_height)[0]
    assert marked in [line.number for line in lines if line]
