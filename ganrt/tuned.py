"""The tuned record: what `ganrt tune` measured of a bundle on this machine, and which configuration follows from it.

A record holds for the bytes of every variant, the processor, the cores that this process may use, the GPUs, and the
versions of ganrt and of every backend's library. When one of them changes, the record is no longer found.
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
from ganrt.backend import backend_table, library_version
from ganrt.bundle import Bundle
from ganrt.cache import cache_folder, find_cache_folder
from ganrt.errors import ArtifactError, MachineError, MissingLibraryError, RequestError
from ganrt.json_reader import decode, read_json
from ganrt.machine import cpu_name, nvidia_details, usable_cores
from ganrt.session_config import SessionConfig

_log = logging.getLogger(__name__)

_FORMAT = 1
_MAX_BYTES, _MAX_BATCH = 2**20, 2**16
_OPTION, _WORD = re.compile("[a-z_]{1,40}"), re.compile("[A-Z_]{1,40}")
_RESERVED = ("bundle", "backend", "device", "variant", "precision")


class Timing(NamedTuple):
    """Seconds from the inputs of a batch to its uint8 pictures, with the 95 % interval of the median. The bounds are
    None when there were too few rounds for an interval."""

    median: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class TunedConfig:
    """One way to run a bundle, as it was measured. Raises RequestError for values that no measurement gives."""

    config: SessionConfig
    """Its device is where the session really ran: `cpu`, `cuda:0` and so on."""
    precision: str
    """What the session computed in."""
    worst_psnr: float
    """dB, of the worst golden sample against the PyTorch original."""
    timings: Mapping[int, Timing]
    """Batch size -> how long it takes."""

    def __post_init__(self) -> None:
        for name, value in self.config.options.items():
            word = isinstance(value, str) and _WORD.fullmatch(value)
            if not _OPTION.fullmatch(name) or name in _RESERVED or not (word or isinstance(value, int)):
                raise RequestError(f"an option is {name!r:.50} = {value!r:.50}")
        for batch, timing in self.timings.items():
            if not 1 <= batch <= _MAX_BATCH:
                raise RequestError(f"a batch size is {batch!r:.50}")
            if timing.median <= 0:
                raise RequestError(f"the time of a batch of {batch} is {timing.median}")

    @property
    def seconds(self) -> dict[int, float]:
        """Batch size -> the median."""
        return {batch: timing.median for batch, timing in self.timings.items()}

    def __str__(self) -> str:
        return str(self.config)


@dataclass(frozen=True)
class Tuned:
    """A record. Raises RequestError when its parts do not fit together."""

    key: str
    """Digest of everything that it holds for (`tuned_key`)."""
    quality: float
    """dB that the worst golden sample of every choice reaches."""
    date: str
    """When it was measured, ISO 8601 in UTC."""
    versions: Mapping[str, str]
    """Of ganrt and the libraries."""
    choices: tuple[TunedConfig, ...]
    winners: Mapping[int, int]
    """Batch size -> the fastest, as its place in `choices`."""

    def __post_init__(self) -> None:
        if not self.winners:
            raise RequestError("it has no winner")
        for batch, place in self.winners.items():
            if not 0 <= place < len(self.choices) or batch not in self.choices[place].timings:
                raise RequestError(f"its winner at batch {batch} is {place!r:.100}")

    def pick(
        self, batch: int | None, fits: Callable[[TunedConfig], bool] = lambda _: True
    ) -> tuple[TunedConfig, str] | None:
        """The choice that suits best, with the reason; None when none fits.

        Args:
            batch: how many pictures will be asked for at a time; the fastest choice at the next larger measured size
                wins, at the largest size if there is none. None: the choice with the least geometric mean, over all
                measured sizes, of (its time) / (the best time at that size).
            fits: whether a choice may be picked.
        """
        sizes = sorted(self.winners)
        if batch is not None:
            sizes = [next((s for s in sizes if s >= batch), sizes[-1])]
        left = [c for c in self.choices if fits(c) and set(sizes) <= c.timings.keys()]
        if not left:
            return None
        among = "" if all(map(fits, self.choices)) else " of those that fit the request"
        if batch is not None:
            winner = self.choices[self.winners[sizes[0]]]
            best = winner if winner in left else min(left, key=lambda c: c.seconds[sizes[0]])
            lead = f"the fastest{among} at"
        else:
            best, ratio = _pick_most_even(left, sizes)
            lead = f"the best overall{among}, {ratio:.2f} times the best time on average over"
            lead = lead if ratio > 1 else f"the fastest{among} at each of"
        where = ", ".join(map(str, sizes))
        return best, f"tuned on {self.date[:10]} for {self.quality:g} dB: {lead} batch {where}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` gives the same record back."""
        return {
            "format": _FORMAT,
            "key": self.key,
            "quality": self.quality,
            "date": self.date,
            "versions": dict(self.versions),
            "choices": [
                {
                    **vars(c.config),
                    "options": dict(c.config.options),
                    "precision": c.precision,
                    "worst_psnr": c.worst_psnr,
                    "timings": {str(batch): list(timing) for batch, timing in c.timings.items()},
                }
                for c in self.choices
            ],
            "winners": {str(batch): place for batch, place in self.winners.items()},
        }

    @classmethod
    def from_dict(cls, raw: object) -> Tuned:
        """Read a record from parsed JSON of anybody. Raises ArtifactError when it is not one."""
        where = "tuned record"
        if not isinstance(raw, dict) or raw.get("format") != _FORMAT:
            found = f"has format {raw.get('format')!r:.50}" if isinstance(raw, dict) else f"is {raw!r:.50}"
            raise ArtifactError(f"{where} {found}; this ganrt reads format {_FORMAT}")
        fields = {name: value for name, value in raw.items() if name != "format"}
        if isinstance(fields.get("choices"), list):
            fields["choices"] = [_nest_config(choice) for choice in fields["choices"]]
        return decode(cls, fields, where)


def _nest_config(raw: object) -> object:
    """A choice of a file, where the configuration is not an object of its own."""
    if not isinstance(raw, dict):
        return raw
    config = {name: raw[name] for name in ("backend", "variant", "device", "options") if name in raw}
    return {"config": config, **{name: value for name, value in raw.items() if name not in config}}


def _pick_most_even(choices: Sequence[TunedConfig], sizes: Sequence[int]) -> tuple[TunedConfig, float]:
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
        "versions": library_versions(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def library_versions() -> dict[str, str]:
    """Versions of ganrt and of the library of every backend that is installed."""
    packages = {*(entry.package for entry in backend_table().values()), "onnxruntime-gpu"}
    found = {name: library_version(name) for name in sorted(packages)}
    return {"ganrt": __version__, **{name: version for name, version in found.items() if version != "?"}}


def find_record(bundle: Bundle) -> Tuned | None:
    """The record of a bundle on this machine as it is now; None when there is none. One that is damaged, or that others
    could have written, is ignored with a warning."""
    try:
        folder = find_cache_folder("tuned")
        if folder is None:
            return None
        key = tuned_key(bundle)
        path = folder / f"{key}.json"
        if not path.exists():
            return None
        record = Tuned.from_dict(read_json(path, _MAX_BYTES))
        if record.key != key:
            raise ArtifactError(f"{path} is a tuned record of another bundle or machine")
    except MissingLibraryError:  # without platformdirs no record can have been written
        return None
    except (ArtifactError, MachineError) as error:
        _log.warning("%s; the tuned record is ignored: tune the bundle again", error)
        return None
    return record


def save_record(record: Tuned) -> Path:
    """Keep a record where `find_record` looks, replacing an earlier one. Raises MachineError when it cannot be written,
    MissingLibraryError without platformdirs."""
    path = cache_folder("tuned") / f"{record.key}.json"
    atomic.write_file(path, json.dumps(record.to_dict(), indent=1, allow_nan=False).encode() + b"\n")
    return path
