"""The API of a library in each version, from the files of `tests/data`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

DATA = Path(__file__).parents[1] / "data"


class Signature(NamedTuple):
    """The arguments of an overload, without self."""

    positional: tuple[str, ...]
    keyword_only: tuple[str, ...]
    required: frozenset[str]
    variadic: bool
    returns: str

    def takes(self, count: int, keywords: Iterable[str]) -> bool:
        """Whether a call with this many positional arguments and these keywords is valid."""
        given = [*self.positional[:count], *keywords]
        known = {*self.positional, *self.keyword_only}
        return (
            (count <= len(self.positional) or self.variadic)
            and set(given) <= known
            and len(set(given)) == len(given)
            and self.required <= set(given)
        )


def _parse_signature(text: str) -> Signature:
    inside, _, returns = text[1:].partition(") -> ")
    positional: list[str] = []
    keyword_only: list[str] = []
    required = set()
    variadic = after_star = False
    for part in [p for p in inside.split(", ") if p]:
        name = part.rstrip("=")
        if part == "*":
            after_star = True
        elif part.startswith("*"):
            variadic = True
        else:
            (keyword_only if after_star else positional).append(name)
            if not part.endswith("="):
                required.add(name)
    return Signature(tuple(positional), tuple(keyword_only), frozenset(required), variadic, returns)


@dataclass(frozen=True)
class Api:
    """One version of a library."""

    version: str
    classes: dict[str, dict[str, str | list[Signature]]]
    """Class -> member -> `property`, `settable`, `attr` or the signatures of a method."""
    enums: dict[str, tuple[str, ...]]
    functions: dict[str, list[Signature]]

    @property
    def is_rtx(self) -> bool:
        """Whether it is TensorRT for RTX."""
        return self.version.startswith("rtx-")

    @property
    def number(self) -> tuple[int, ...]:
        return tuple(map(int, self.version.removeprefix("rtx-").split(".")))


def read_versions(file: str) -> dict[str, Api]:
    """Return every version in a file of `tests/data`."""
    raw = json.loads((DATA / file).read_text())
    return {version: _select_version(raw, version) for version in raw["versions"]}


def _select_version(raw: dict[str, Any], version: str) -> Api:
    def select(slots: dict[str, Any]) -> Iterator[Any]:
        return (fact for when, fact in slots.items() if version in when.split())

    def parse(found: Any) -> Any:
        return [_parse_signature(text) for text in found] if isinstance(found, list) else found

    classes = {
        name: {member: parse(found) for member, slots in members.items() for found in select(slots)}
        for name, members in raw["classes"].items()
    }
    enums = {name: tuple(m for group in select(groups) for m in group) for name, groups in raw["enums"].items()}
    functions = {name: parse(found) for name, slots in raw["functions"].items() for found in select(slots)}
    return Api(version, {n: m for n, m in classes.items() if m}, {n: m for n, m in enums.items() if m}, functions)
