"""Read the options that a backend is opened with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ganrt.checks import require_whole
from ganrt.errors import RequestError
from ganrt.machine import default_threads


def check_options(backend: str, options: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Raise RequestError for an option that the backend does not have."""
    for name in options:
        if name not in known:
            raise RequestError(f"the {backend} backend has no option {name!r}; it has {', '.join(known) or 'none'}")


def count_threads(options: Mapping[str, Any]) -> int:
    """Return the option `threads`; 0 lets the library decide. By default that is 0, or `default_threads` where this
    process may use a part of the machine only. Raises RequestError unless it is a whole number from 0."""
    threads = options.get("threads")
    return default_threads() or 0 if threads is None else require_whole("threads", threads, 0)


def read_switch(options: Mapping[str, Any], name: str, default: bool) -> bool:
    """Return an option that is on or off. Raises RequestError unless it is a bool."""
    value = options.get(name, default)
    if not isinstance(value, bool):
        raise RequestError(f"{name} is {value!r}; choose True or False")
    return value
