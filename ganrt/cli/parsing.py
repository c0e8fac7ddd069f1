"""How option values are read. Every function raises RequestError, naming the option and the value."""

from __future__ import annotations

import re

from ganrt.errors import RequestError


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


def parse_labels(text: str | None) -> int | list[int] | None:
    """`3` -> 3; `3,1,4` -> [3, 1, 4]; None stays None."""
    if text is None:
        return None
    try:
        classes = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise RequestError(f"--labels {text} is not a class number, or several separated by commas") from error
    return classes[0] if len(classes) == 1 else classes


def parse_decibels(text: str) -> float:
    """`40dB`, `40 dB` or `40` -> 40.0."""
    number = text.strip()
    if number.lower().endswith("db"):
        number = number[:-2].rstrip()
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,9})?", number):
        raise RequestError(f"--quality {text} is not a number of decibels, such as 40dB")
    return float(number)
