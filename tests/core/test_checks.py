"""Checks of single numbers."""

from typing import Any

import numpy as np
import pytest

from ganrt.checks import is_finite, is_whole, require_whole
from ganrt.errors import RequestError


@pytest.mark.parametrize("value", [0, -3, 2**70, np.int64(5), np.uint8(0)])
def test_whole_numbers(value: Any) -> None:
    assert is_whole(value) and is_finite(value) == (abs(int(value)) < 10**300)


@pytest.mark.parametrize("value", [True, np.bool_(True), 1.0, np.float32(1), "1", None, [1], 1j])
def test_values_that_are_not_whole_numbers(value: Any) -> None:
    assert not is_whole(value)


@pytest.mark.parametrize("value", [True, float("nan"), float("inf"), np.float32("-inf"), 10**400, "1", None])
def test_values_that_are_not_finite(value: Any) -> None:
    assert not is_finite(value)


def test_a_number_within_its_bounds_becomes_an_int() -> None:
    assert type(require_whole("n", np.int64(3), 3, 3)) is int


@pytest.mark.parametrize(
    ("value", "bounds", "message"),
    [
        (0, (), "n is 0; it must be a whole number from 1$"),
        (-1, (0,), "n is -1; it must be a whole number from 0$"),
        (5, (1, 4), "n is 5; it must be a whole number from 1 to 4$"),
        (True, (), "n is True; it must be"),
        ("8", (), "n is '8'; it must be"),
    ],
)
def test_any_other_value_is_named(value: Any, bounds: tuple[int, ...], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        require_whole("n", value, *bounds)
