"""The options that a backend is opened with."""

from typing import Any

import pytest

from ganrt import backend_options
from ganrt.backend_options import count_threads, read_switch
from ganrt.errors import RequestError


@pytest.mark.parametrize(("default", "without"), [(None, 0), (3, 3)])
def test_threads(default: int | None, without: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the option they are those of a container's quota, where one binds; 0 lets the library decide."""
    monkeypatch.setattr(backend_options, "default_threads", lambda: default)
    assert [count_threads(options) for options in ({}, {"threads": 0}, {"threads": 2})] == [without, 0, 2]


@pytest.mark.parametrize("value", [-1, 1.5, "2", True])
def test_invalid_threads(value: Any) -> None:
    with pytest.raises(RequestError, match=f"threads is {value!r}; it must be a whole number"):
        count_threads({"threads": value})


def test_switches() -> None:
    assert read_switch({}, "spin", True) is True and read_switch({}, "spin", False) is False
    assert read_switch({"spin": False}, "spin", True) is False
    for value in (0, 1, "yes", None):
        with pytest.raises(RequestError, match=f"spin is {value!r}; choose True or False"):
            read_switch({"spin": value}, "spin", False)
