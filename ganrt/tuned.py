"""The tuned record: what `ganrt tune` measured of a bundle on this machine, and which choice follows from it.

A record holds for the bytes of every variant, the processor, the cores that this process may use, the GPUs, and the
versions of ganrt and of every backend's library. Of a machine where one of them is another, it says nothing: it is not
found there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ganrt import atomic
from ganrt._version import __version__
from ganrt.backend import BACKENDS, entry_points, library_version
from ganrt.bundle import Bundle, parse_json
from ganrt.errors import ArtifactError, MissingLibraryError
from ganrt.machine import cpu_name, nvidia_details, usable_cores

_log = logging.getLogger(__name__)

_FORMAT = 1
_MAX_BYTES, _MAX_BATCH = 2**20, 2**16
_RESERVED = ("bundle", "backend", "device", "variant", "precision")


class Timing(NamedTuple):
    """Seconds that a batch takes from its inputs to uint8 pictures, with the 95 % interval of the median; the bounds
    are None where there were too few rounds to tell."""

    median: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Choice:
    """One way to run a bundle, as it was measured."""

    backend: str
    variant: str
    device: str
    """Where it ran: `cpu`, `cuda:0` and so on."""
    options: Mapping[str, int | str]
    """Of the backend, such as `threads`."""
    precision: str
    worst_psnr: float
    """dB, of the worst golden sample against the PyTorch original."""
    timings: Mapping[int, Timing]
    """Batch size -> how long it takes."""

    @property
    def seconds(self) -> dict[int, float]:
        """Batch size -> the median."""
        return {batch: timing.median for batch, timing in self.timings.items()}

    def __str__(self) -> str:
        return " ".join([self.backend, self.variant, *(f"{name}={value}" for name, value in self.options.items())])


@dataclass(frozen=True)
class Tuned:
    """A record. `winners` names choices by their place in `choices`."""

    key: str
    """Digest of all that it holds for (`tuned_key`)."""
    quality: float
    """dB that the worst golden sample of every choice reaches."""
    date: str
    versions: Mapping[str, str]
    """Of ganrt and the libraries."""
    choices: tuple[Choice, ...]
    winners: Mapping[int, int]
    """Batch size -> the fastest choice."""

    def pick(self, batch: int | None, fits: Callable[[Choice], bool] = lambda _: True) -> tuple[Choice, str] | None:
        """The choice that suits best, with the reason; None when none is left.

        Args:
            batch: how many pictures will be asked for at a time: then the fastest at the nearest measured size at or
                above it, else at the largest. None: the least geometric mean, over all measured sizes, of (its time) /
                (the best time at that size).
            fits: says which choices may take part.
        """
        sizes = sorted(self.winners)
        if batch is not None:
            sizes = [next((s for s in sizes if s >= batch), sizes[-1])]
        left = [c for c in self.choices if fits(c) and set(sizes) <= c.timings.keys()]
        if not left:
            return None
        among = "" if all(map(fits, self.choices)) else " of those that were asked for"
        if batch is not None:
            winner = self.choices[self.winners[sizes[0]]]
            best = winner if winner in left else min(left, key=lambda c: c.seconds[sizes[0]])
            lead = f"the fastest{among} at"
        else:
            best, ratio = _most_even(left, sizes)
            lead = f"the best overall{among}, {ratio:.2f} times the best time on average over"
            lead = lead if ratio > 1 else f"the fastest{among} at each of"
        where = ", ".join(map(str, sizes))
        return best, f"tuned on {self.date[:10]} for {self.quality:g} dB: {lead} batch {where}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "key": self.key,
            "quality": self.quality,
            "date": self.date,
            "versions": dict(self.versions),
            "choices": [
                {**vars(c), "options": dict(c.options), "timings": {str(b): list(t) for b, t in c.timings.items()}}
                for c in self.choices
            ],
            "winners": {str(batch): place for batch, place in self.winners.items()},
        }

    @classmethod
    def from_dict(cls, raw: object) -> Tuned:
        """Read a record from parsed JSON of anybody. Raises ArtifactError when it is not one."""
        try:
            kinds = {"format": int, "key": str, "date": str, "versions": dict, "choices": list, "winners": dict}
            fields = _typed(raw, kinds)
            if fields["format"] != _FORMAT:
                raise ValueError(f"it has format {fields['format']}, and this ganrt reads {_FORMAT}")
            choices = tuple(map(_choice, fields["choices"]))
            winners = {_size(batch): place for batch, place in fields["winners"].items()}
            for batch, place in winners.items():
                if type(place) is not int or not 0 <= place < len(choices) or batch not in choices[place].timings:
                    raise ValueError(f"its winner at batch {batch} is {place!r:.100}")
            if not winners:
                raise ValueError("it has no winner")
            versions = {str(name): str(version) for name, version in fields["versions"].items()}
            return cls(fields["key"], _number(fields.get("quality")), fields["date"], versions, choices, winners)
        except (TypeError, ValueError, OverflowError) as error:
            raise ArtifactError(f"a tuned record cannot be read: {error}") from error


def _most_even(choices: Sequence[Choice], sizes: Sequence[int]) -> tuple[Choice, float]:
    """The choice with the least geometric mean of (its time) / (the best time at that size), and that mean."""
    least = {size: min(c.seconds[size] for c in choices) for size in sizes}
    ratios = [math.exp(sum(math.log(c.seconds[s] / least[s]) for s in sizes) / len(sizes)) for c in choices]
    return choices[ratios.index(min(ratios))], min(ratios)


def tuned_key(bundle: Bundle) -> str:
    """Digest of everything that the times of a bundle depend on here."""
    parts = {
        "variants": {name: bundle.digest(name) for name in bundle.variants},
        "processor": cpu_name(),
        "cores": usable_cores(),
        "gpu": nvidia_details(),
        "versions": versions(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Of ganrt and of the library of every backend that is installed."""
    packages = {*(entry.package for entry in BACKENDS.values()), "onnxruntime-gpu"}
    packages |= {point.dist.name for point in entry_points() if point.dist is not None}
    found = {name: library_version(name) for name in sorted(packages)}
    return {"ganrt": __version__, **{name: version for name, version in found.items() if version != "?"}}


def find(bundle: Bundle) -> Tuned | None:
    """The record of a bundle on this machine as it is now; None where there is none. A damaged one is warned about."""
    try:
        folder = _folder()
    except MissingLibraryError:  # without it no record can have been written
        return None
    if not folder.is_dir():
        return None
    key = tuned_key(bundle)
    path = folder / f"{key}.json"
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.warning("%s cannot be read (%s); tune the bundle again", path, error.strerror)
        return None
    try:
        if len(content) > _MAX_BYTES:
            raise ArtifactError(f"a tuned record cannot be read: it is larger than {_MAX_BYTES} bytes")
        record = Tuned.from_dict(parse_json(content, str(path)))
        if record.key != key:
            raise ArtifactError("a tuned record cannot be read: it is of another bundle or machine")
    except ArtifactError as error:
        _log.warning("%s (%s); it is ignored: tune the bundle again", error, path)
        return None
    return record


def remember(record: Tuned) -> Path:
    """Keep a record where `find` looks, in the place of an earlier one. Raises MachineError when it cannot be written,
    MissingLibraryError without platformdirs."""
    path = _folder() / f"{record.key}.json"
    atomic.write_file(path, json.dumps(record.to_dict(), indent=1, allow_nan=False).encode() + b"\n")
    return path


def _folder() -> Path:
    try:
        import platformdirs
    except ImportError as error:
        raise MissingLibraryError("platformdirs", "cpu", "remembering what was tuned") from error
    return platformdirs.user_cache_path("ganrt") / "tuned"


def _choice(raw: object) -> Choice:
    kinds = {"backend": str, "variant": str, "device": str, "precision": str, "options": dict, "timings": dict}
    fields = _typed(raw, kinds)
    for name, value in fields["options"].items():
        word = isinstance(value, str) and re.fullmatch("[A-Z_]{1,40}", value)
        if not re.fullmatch("[a-z_]{1,40}", name) or name in _RESERVED or not (word or type(value) in (int, bool)):
            raise ValueError(f"an option is {name!r:.50} = {value!r:.50}")
    return Choice(
        **{name: fields[name] for name in ("backend", "variant", "device", "options", "precision")},
        worst_psnr=_number(fields.get("worst_psnr")),
        timings={_size(batch): _timing(timing) for batch, timing in fields["timings"].items()},
    )


def _timing(raw: object) -> Timing:
    if not isinstance(raw, list) or len(raw) != 3:
        raise ValueError(f"a time is {raw!r:.100}")
    bounds = [None if value is None else _number(value) for value in raw[1:]]
    made = Timing(_number(raw[0]), *bounds)
    if made.median <= 0:
        raise ValueError(f"a time is {made.median}")
    return made


def _size(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,5}", text) or int(text) > _MAX_BATCH:
        raise ValueError(f"a batch size is {text!r:.50}")
    return int(text)


def _number(value: object) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]
        raise ValueError(f"a number is {value!r:.50}")
    return float(value)  # type: ignore[arg-type]


def _typed(raw: object, kinds: Mapping[str, type]) -> dict[str, Any]:
    """`raw` as an object whose named entries have these types."""
    if not isinstance(raw, dict):
        raise TypeError(f"{raw!r:.100} is no object")
    for name, kind in kinds.items():
        if type(raw.get(name)) is not kind:
            raise TypeError(f"its {name} is {raw.get(name)!r:.100}")
    return raw
