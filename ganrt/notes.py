"""Format the notes of a variant: the decisions of the export, as text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_FIGURE = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e-?\d+)?(?![\w.])")
_NAMED = 3
"""Most names listed on a line; the manifest has all of them."""


def format_notes(notes: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each note. A note with several parts is followed by an indented line for each kind of reason."""
    for what, found in notes.items():
        if isinstance(found, list | tuple):
            yield f"{what}: {_list_names([str(name) for name in found])}"
        elif not isinstance(found, Mapping):
            yield f"{what}: {found}{' dB' if 'PSNR' in what else ''}"
        elif not found:
            yield f"{what}: nothing"
        else:
            yield f"{what}: {len(found)}"
            yield from (f"  {line}" for line in _group_by_reason(found))


def _group_by_reason(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield one line for all parts whose reasons differ only in numbers, with the smallest and the largest number."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, reason in found.items():
        groups.setdefault(_FIGURE.sub("#", str(reason)), []).append((name, str(reason)))
    for group in groups.values():
        yield f"{_list_names([name for name, _ in group])}: {_merge_reasons([reason for _, reason in group])}"


def _list_names(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= _NAMED else f"{names[0]}, ..., {names[-1]} ({len(names)})"


def _merge_reasons(reasons: list[str]) -> str:
    """Merge reasons that differ in their first number, which becomes `smallest to largest`."""
    ordered = sorted(reasons, key=_first_figure)
    least, most = (_FIGURE.search(ordered[index]) for index in (0, -1))
    if least is None or most is None or least[0] == most[0]:
        return ordered[0]
    return f"{ordered[0][: least.start()]}{least[0]} to {most[0]}{ordered[0][least.end() :]}"


def _first_figure(reason: str) -> float:
    found = _FIGURE.search(reason)
    return float(found[0]) if found else 0.0
