"""How option values are read. Every function raises RequestError, naming the option and the value."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from ganrt.errors import RequestError

Number = TypeVar("Number", int, float)


def parse_settings(pairs: tuple[str, ...], option: str = "--config") -> dict[str, str]:
    """`("size=32", "width=16")` -> `{"size": "32", "width": "16"}`."""
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise RequestError(f"{option} {pair} is not of the form name=value")
        settings[name] = value
    return settings


def parse_numbers(pairs: tuple[str, ...], option: str) -> dict[str, int | float]:
    """Settings whose values are numbers; whole numbers stay int, as labels must."""
    return {name: _parse_number(name, text, option) for name, text in parse_settings(pairs, option).items()}


def _parse_number(name: str, text: str, option: str) -> int | float:
    try:
        return float(text) if set(text) & set(".eEnN") else int(text)
    except ValueError as error:
        raise RequestError(f"{option} {name}={text}: {text!r} is not a number") from error


def parse_values(text: str | None, option: str, kind: Callable[[str], Number]) -> Number | list[Number] | None:
    """`3` -> 3; `3,1,4` -> [3, 1, 4]; None stays None. `kind` is int or float."""
    if text is None:
        return None
    try:
        values = [kind(part) for part in text.split(",")]
    except ValueError as error:
        number = "a whole number" if kind is int else "a number"
        raise RequestError(f"{option} {text:.100} is not {number}, or several separated by commas") from error
    return values[0] if len(values) == 1 else values


def parse_decibels(text: str) -> float:
    """`40dB`, `40 dB` or `40` -> 40.0."""
    number = text.strip()
    if number.lower().endswith("db"):
        number = number[:-2].rstrip()
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,9})?", number):
        raise RequestError(f"--quality {text} is not a number of decibels, such as 40dB")
    return float(number)
