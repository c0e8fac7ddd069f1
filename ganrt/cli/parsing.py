"""How option values are read. Every function raises RequestError, naming the option and the value."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ganrt.errors import RequestError
from ganrt.json_reader import read_bytes

Number = TypeVar("Number", int, float)

MOST_VALUES = 10**7
"""Most values of an option, each for a picture."""
_LARGEST_FILE = 1 << 28
"""Bytes of a file of values."""
_RANGE = re.compile(r"([0-9]{1,20})-([0-9]{1,20})")


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
    """`3` -> 3; `3,1,4` -> [3, 1, 4]; `0-3,7` -> [0, 1, 2, 3, 7]; None stays None. `@FILE` is a list of the values in a
    file, separated by white space or commas; it may begin with a byte order mark, as editors on Windows write it.

    Args:
        kind: int or float; ranges are of whole numbers alone.

    Raises ArtifactError if the file cannot be read.
    """
    if text is None:
        return None
    number = "a whole number" if kind is int else "a number"
    values: list[Number] = []
    if not text.startswith("@"):
        for word in text.split(","):
            where = f"{option} {text:.100}" if text else f"{option} ''"
            _append_values(values, word, kind, where, f"{number}, or several separated by commas")
        return values if len(values) > 1 or _RANGE.fullmatch(text) else values[0]
    lines = read_bytes(Path(text[1:]), _LARGEST_FILE).decode("utf-8-sig", "replace").splitlines()
    for place, line in enumerate(lines, 1):
        for word in line.replace(",", " ").split():
            _append_values(values, word, kind, f"{option} {text}, line {place}: {word!r:.100}", number)
    if not values:
        raise RequestError(f"{option} {text} holds no values")
    return values


def _append_values(values: list[Number], word: str, kind: Callable[[str], Number], where: str, wanted: str) -> None:
    """Append a number, or the numbers of a range such as `0-9`."""
    found: Sequence[Any]
    try:
        ends = _RANGE.fullmatch(word) if kind is int else None
        if "_" in word:
            raise ValueError("Python's separator of digits")
        found = range(int(ends[1]), int(ends[2]) + 1) if ends else [kind(word)]
    except ValueError as error:
        raise RequestError(f"{where} is not {wanted}") from error
    if not found:
        raise RequestError(f"{where}: the range {word} is empty; the lower number comes first")
    left = MOST_VALUES - len(values)
    if found[left:]:
        raise RequestError(f"{where}: more than {MOST_VALUES} values; make several jobs of them")
    values.extend(found)


def parse_decibels(text: str) -> float:
    """`40dB`, `40 dB` or `40` -> 40.0."""
    number = text.strip()
    if number.lower().endswith("db"):
        number = number[:-2].rstrip()
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,9})?", number):
        raise RequestError(f"--quality {text} is not a number of decibels, such as 40dB")
    return float(number)
