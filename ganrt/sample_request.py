"""A request for samples: arguments of one value or one per image, checked, and the rows that they stand for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ganrt.checks import as_array, is_finite, is_whole
from ganrt.errors import RequestError
from ganrt.latents import MAX_64, Float64s, Whole64
from ganrt.spec import Label, Latent, Scalar, Spec
from ganrt.wording import count_things

if TYPE_CHECKING:
    from typing_extensions import TypeIs

Seeds: TypeAlias = int | Sequence[int] | NDArray[np.integer]
"""One whole number for all images, or one per image."""
Labels: TypeAlias = int | Sequence[int | None] | NDArray[np.integer] | None
"""One class for all images, or one per image; None for classes that are drawn from the seeds."""
Truncation: TypeAlias = float | Sequence[float | None] | NDArray[np.floating] | None
"""One truncation for all images, or one per image; None, or NaN in an array, for the default."""

TRUNCATION = "truncation"
"""Name of the scalar input that gets the value of `sample(truncation=...)`."""
DRAWN = -1
"""Stands for a label that is drawn from the seed."""


@dataclass(frozen=True, eq=False)
class Draw:
    """Samples, one per image: all that decides what their inputs are. They can be made again:

    d = g.draw(64, seed=7)
    g.sample(seed=d.seeds, start=d.indices, labels=d.labels, truncation=d.truncation)
    """

    seeds: NDArray[np.uint64]
    """Seed of each image, (n,)."""
    indices: NDArray[np.uint64]
    """Sample number of each image, (n,)."""
    labels: NDArray[np.int64] | None = None
    """Class of each image, (n,); None for a model without classes. In what a session gets, -1 is a class to draw from
    the seed, and None draws all of them; `Generator.draw` returns drawn classes."""
    truncation: NDArray[np.float64] | None = None
    """Truncation of each image, (n,), NaN for the model's default; None if all have the default."""

    @property
    def rows(self) -> int:
        """Number of images."""
        return len(self.seeds)

    def list_columns(self) -> dict[str, NDArray[Any]]:
        """Return field -> array, of the fields that are there."""
        columns = {"seeds": self.seeds, "indices": self.indices, "labels": self.labels, "truncation": self.truncation}
        return {name: column for name, column in columns.items() if column is not None}

    def take_rows(self, first: int, rows: int) -> Draw:
        """Return `rows` images from the `first` one on; beyond the last one, it is repeated."""
        places = np.minimum(np.arange(first, first + rows), self.rows - 1)
        columns = (self.seeds, self.indices, self.labels, self.truncation)
        return Draw(*(None if column is None else column[places] for column in columns))  # type: ignore[arg-type]

    @classmethod
    def join(cls, draws: Sequence[Draw]) -> Draw:
        """Return the images of several draws, at least one, of the same model."""

        def collect(name: str, unset: float, dtype: type[Any]) -> Any:
            columns = [getattr(draw, name) for draw in draws]
            if all(column is None for column in columns):
                return None
            filled = [np.full(d.rows, unset, dtype) if c is None else c for d, c in zip(draws, columns, strict=True)]
            return np.concatenate(filled)

        seeds, indices = (np.concatenate([getattr(draw, name) for draw in draws]) for name in ("seeds", "indices"))
        return cls(seeds, indices, collect("labels", DRAWN, np.int64), collect("truncation", math.nan, np.float64))

    def fill_truncation(self, default: float) -> Float64s:
        """Return the truncation of each image, `default` where none was chosen: float64 (n,)."""
        if self.truncation is None:
            return np.full(self.rows, default)
        return np.where(np.isnan(self.truncation), default, self.truncation)


class SampleRequest(NamedTuple):
    """The checked arguments of `Generator.sample`, each one value or an array of one per image. Where all images share
    them, a request for any number of images is small."""

    rows: int
    """Number of images."""
    seed: Whole64 = 0
    start: Whole64 = 0
    """Sample number of each image; one number is that of the first image of one seed, or of each image if there is a
    seed for each."""
    labels: int | NDArray[np.int64] | None = None
    """Classes, DRAWN where none was chosen."""
    truncation: float | Float64s | None = None
    """Truncations, NaN where none was chosen."""

    def take_rows(self, first: int, rows: int) -> Draw:
        """Return the `rows` images from the `first` one on."""

        def cut(value: Any, dtype: type[Any]) -> Any:
            if value is None:
                return None
            return value[first : first + rows] if isinstance(value, np.ndarray) else np.full(rows, value, dtype)

        if isinstance(self.start, int) and isinstance(self.seed, int):
            indices = np.arange(rows, dtype=np.uint64) + np.uint64(self.start + first)
        else:
            indices = cut(self.start, np.uint64)
        return Draw(cut(self.seed, np.uint64), indices, cut(self.labels, np.int64), cut(self.truncation, np.float64))


class _Rule(NamedTuple):
    """What an entry of an argument may be."""

    text: str
    """The rule as a clause of a message."""
    low: float
    """Smallest value."""
    high: float
    """Largest value."""
    dtype: type[Any]
    """Of an array of entries."""
    whole: bool = True
    """True for whole numbers alone."""
    unset: float | None = None
    """What an entry None is stored as; None if it is not allowed."""

    def accepts(self, value: Any) -> bool:
        """Return whether a value is a number of the kind and in the range."""
        if self.whole:
            return is_whole(value) and self.low <= int(value) <= self.high
        return is_finite(value) and self.low <= float(value) <= self.high

    def allows(self, value: Any) -> bool:
        """Return whether a value is accepted, or None where that is allowed."""
        return self.unset is not None if value is None else self.accepts(value)

    def convert(self, value: Any) -> Any:
        """Return a value as a Python number."""
        if value is None:
            return self.unset
        return int(value) if self.whole else float(value)


_WHOLE_64 = _Rule("it must be a whole number from 0 to 2^64 - 1", 0, MAX_64 - 1, np.uint64)


def check_request(
    spec: Spec,
    n: int | None = None,
    seed: Seeds = 0,
    start: Seeds = 0,
    labels: Labels = None,
    truncation: Truncation = None,
    names: Mapping[str, str] = MappingProxyType({}),
) -> SampleRequest:
    """Check the arguments of `Generator.sample`.

    Args:
        n: number of images; None for the length of the sequences among the others, or 1.
        seed, start: from 0 to 2^64 - 1.
        labels: classes of the first label input.
        truncation: largest magnitudes of latent values, or values of the input named `truncation`.
        names: argument -> its name in messages, where the caller knows it by another.

    Raises RequestError, naming the argument and the position, if an entry is out of range, lengths differ, or the model
    has no such input.
    """
    if (
        labels is None
        and truncation is None
        and _is_plain(n)
        and _is_plain(seed)
        and _is_plain(start, MAX_64 - max(n, 1))
    ):
        return SampleRequest(n, seed, start)  # the usual case, without what all others need
    rules: dict[str, tuple[Any, _Rule]]
    rules = {"seed": (seed, _WHOLE_64), "start": (start, _WHOLE_64)}
    if labels is not None:
        rules["labels"] = (labels, _make_label_rule(spec, labels))
    if truncation is not None:
        rules["truncation"] = (truncation, _make_truncation_rule(spec, truncation))
    given = {name: _read_argument(names.get(name, name), value, rule) for name, (value, rule) in rules.items()}
    lengths = {names.get(name, name): len(value) for name, value in given.items() if isinstance(value, np.ndarray)}
    rows = _count_rows(n, lengths)
    for name in ("labels", "truncation"):
        if _is_unset(given.get(name)):
            given[name] = None
    request = SampleRequest(rows, **given)
    if isinstance(request.seed, int) and isinstance(request.start, int) and request.start + rows > MAX_64:
        raise RequestError(f"start + n is {request.start + rows}; sample numbers end at 2^64 - 1")
    return request


def mix_requests(spec: Spec, rows: int) -> Draw:
    """Return a batch as it is put together of many requests, for tests: few images have the seed of another, and some
    choose the label and the truncation that the model allows."""
    row = np.arange(rows)
    seeds, indices = (2**40 + 3 + row % 3 * 2**33).astype(np.uint64), (2**33 - 2 + row // 2).astype(np.uint64)
    label, allowed = spec.find(Label), find_truncations(spec)
    labels = None if label is None else np.where(row % 2, row * 7 % label.classes, DRAWN)
    if allowed is None:
        return Draw(seeds, indices, labels)
    low, high = allowed
    return Draw(seeds, indices, labels, np.where(row % 3, low + min(high - low, 1.0) / (1 + row), np.nan))


def _is_plain(value: object, largest: int = MAX_64 - 1) -> TypeIs[int]:
    return type(value) is int and 0 <= value <= largest


def _count_rows(n: int | None, lengths: dict[str, int]) -> int:
    if n is not None and not _WHOLE_64.accepts(n):
        raise RequestError(f"n is {n!r:.100}; {_WHOLE_64.text}")
    named = {"n": int(n)} if n is not None else lengths or {"n": 1}
    first, rows = next(iter(named.items()))
    for name, length in lengths.items():
        if length != rows:
            other = f"n is {rows}" if first == "n" else f"{first} has {rows}"
            found = count_things(length, "entry", "entries")
            raise RequestError(f"{name} has {found} and {other}; give one value, or one per image")
    return rows


def _make_label_rule(spec: Spec, labels: Labels) -> _Rule:
    item = spec.find(Label)
    if item is None and not _is_unset(labels):
        raise RequestError(f"labels were given, but this {spec.family} model has no classes: leave them out")
    last = item.classes - 1 if item is not None else DRAWN
    return _Rule(f"this model's classes are the whole numbers 0 to {last}", 0, last, np.int64, unset=DRAWN)


def find_truncations(spec: Spec) -> tuple[float, float] | None:
    """Return the smallest and the largest truncation that a model takes; None if it takes none."""
    inside = next((i for i in spec.inputs if isinstance(i, Scalar) and i.name == TRUNCATION), None)
    if inside is not None:
        return max(0.0, inside.range[0]), inside.range[1]
    latent = spec.find(Latent)
    return None if latent is None or latent.truncation == "none" else (0.0, math.inf)


def _make_truncation_rule(spec: Spec, truncation: Truncation) -> _Rule:
    allowed = find_truncations(spec)
    if allowed is None and not _is_unset(truncation):
        raise RequestError(f"truncation was given, but this {spec.family} model has none: leave it out")
    low, high = allowed or (0.0, 0.0)
    text = f"this model takes {low:g} to {high:g}" if high < math.inf else "it must be a finite number from 0"
    return _Rule(text, low, high, np.float64, whole=False, unset=math.nan)


def _is_unset(value: Any) -> bool:
    """Return whether there is nothing but None, DRAWN in an array of classes, NaN in an array of truncations."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return bool(np.isnan(value).all())
    if isinstance(value, np.ndarray):
        return bool((value == DRAWN).all())
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    return all(entry is None for entry in value) if listed else value is None


def _read_argument(name: str, value: Any, rule: _Rule) -> Any:
    """Return one value as a Python number or None, several as a new array of the rule's dtype."""
    plain = _to_plain(name, value)
    if isinstance(plain, np.ndarray):
        if plain.dtype.kind in "iuf" and plain.size and rule.accepts(plain.min()) and rule.accepts(plain.max()):
            return plain.astype(rule.dtype)
        entries = plain.tolist()
        if plain.dtype.kind == "f":  # an array has NaN for None
            entries = [None if math.isnan(number) else number for number in entries]
    elif isinstance(plain, Sequence) and not isinstance(plain, str | bytes):
        entries = list(plain)
    else:
        if not rule.allows(plain):
            raise RequestError(f"{name} is {plain!r:.100}; {rule.text}")
        return None if plain is None else rule.convert(plain)
    for place, entry in enumerate(entries):
        if not rule.allows(entry):
            raise RequestError(f"{name}[{place}] is {entry!r:.100}; {rule.text}")
    return np.array([rule.convert(entry) for entry in entries], rule.dtype)


def _to_plain(name: str, value: Any) -> Any:
    """Convert arrays of any library to NumPy's, and those without dimensions to numbers; return others as they are."""
    if not hasattr(value, "__array__"):
        return value
    array = as_array(name, value)
    if array.ndim > 1:
        raise RequestError(f"{name} is an array of shape {array.shape}; give one value, or one per image")
    return array if array.ndim else array.item()
