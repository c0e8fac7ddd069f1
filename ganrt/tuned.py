"""Tuned records: what `ganrt tune` measured for a bundle on this machine, and the configurations chosen from it.

A record holds for the bytes of every variant, the processor, the cores that this process may use, the GPUs, and the
versions of ganrt and of every backend's library. If one of them changes, the record is no longer found.
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
from ganrt.cache import cache_folder, find_optional_folder
from ganrt.errors import ArtifactError, MissingLibraryError, RequestError
from ganrt.json_reader import decode, read_json
from ganrt.machine import cpu_name, nvidia_details, usable_cores
from ganrt.session_config import SessionConfig

_log = logging.getLogger(__name__)

_FORMAT = 1
_MAX_BYTES, _MAX_BATCH = 2**20, 2**16
_OPTION, _WORD = re.compile("[a-z_]{1,40}"), re.compile("[A-Z_]{1,40}")
_RESERVED = ("bundle", "backend", "device", "variant", "precision")


class Timing(NamedTuple):
    """Seconds from the inputs of a batch to its uint8 pictures."""

    median: float
    """Median over the rounds, above 0."""
    low: float | None
    """Lower bound of the 95 % confidence interval of the median; None with too few rounds."""
    high: float | None
    """Upper bound of the interval; None with too few rounds."""


@dataclass(frozen=True)
class TunedConfig:
    """A measured configuration of a bundle. Raises RequestError for options, batch sizes or times that cannot be
    right."""

    config: SessionConfig
    """Backend, variant, device and options. `device` is the actual one: `cpu`, `cuda:0` and so on."""
    precision: str
    """Precision of the arithmetic: `fp32`, `bf16`, `fp16`, `int8` or `fp8`."""
    worst_psnr: float
    """PSNR of the worst golden sample against the PyTorch original, in dB."""
    timings: Mapping[int, Timing]
    """Batch size, 1 to 65536 -> measured time."""

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
        """Batch size -> median seconds."""
        return {batch: timing.median for batch, timing in self.timings.items()}

    def __str__(self) -> str:
        return str(self.config)


@dataclass(frozen=True)
class Tuned:
    """A tuned record. Raises RequestError if a winner is missing or is not one of the measured choices."""

    key: str
    """`tuned_key` of the bundle on the machine that was measured."""
    quality: float
    """Lowest PSNR of the worst golden sample that was allowed, in dB."""
    date: str
    """Time of the measurement, ISO 8601 in UTC."""
    versions: Mapping[str, str]
    """Name -> version of ganrt and the libraries."""
    choices: tuple[TunedConfig, ...]
    """The measured configurations."""
    winners: Mapping[int, int]
    """Batch size -> index in `choices` of the fastest configuration; at least one."""

    def __post_init__(self) -> None:
        if not self.winners:
            raise RequestError("it has no winner")
        for batch, index in self.winners.items():
            if not 0 <= index < len(self.choices) or batch not in self.choices[index].timings:
                raise RequestError(f"its winner at batch {batch} is {index!r:.100}")

    def pick(
        self, batch: int | None, fits: Callable[[TunedConfig], bool] = lambda _: True
    ) -> tuple[TunedConfig, str] | None:
        """Return the best choice and the reason; None if no choice fits.

        Args:
            batch: usual number of images per request. The choice that is fastest at the next larger measured size wins,
                or at the largest size if there is none larger. None: the choice with the smallest geometric mean, over
                all measured sizes, of its time divided by the best time at that size.
            fits: returns True for a choice that may be picked.
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
        """Return plain values for JSON, from which `from_dict` restores the record."""
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
            "winners": {str(batch): index for batch, index in self.winners.items()},
        }

    @classmethod
    def from_dict(cls, raw: object) -> Tuned:
        """Read a record from untrusted parsed JSON. Raises ArtifactError, naming the field, if it is not valid."""
        where = "tuned record"
        if not isinstance(raw, dict) or raw.get("format") != _FORMAT:
            found = f"has format {raw.get('format')!r:.50}" if isinstance(raw, dict) else f"is {raw!r:.50}"
            raise ArtifactError(f"{where} {found}; this ganrt reads format {_FORMAT}")
        fields = {name: value for name, value in raw.items() if name != "format"}
        if isinstance(fields.get("choices"), list):
            fields["choices"] = [_nest_config(choice) for choice in fields["choices"]]
        return decode(cls, fields, where)


def _nest_config(raw: object) -> object:
    """Move the configuration of a choice, whose fields are flat in the file, into an object of its own."""
    if not isinstance(raw, dict):
        return raw
    config = {name: raw[name] for name in ("backend", "variant", "device", "options") if name in raw}
    return {"config": config, **{name: value for name, value in raw.items() if name not in config}}


def _pick_most_even(choices: Sequence[TunedConfig], sizes: Sequence[int]) -> tuple[TunedConfig, float]:
    """The choice with the smallest geometric mean of its time divided by the best time at that size, and that mean."""
    least = {size: min(c.seconds[size] for c in choices) for size in sizes}
    ratios = [math.exp(sum(math.log(c.seconds[s] / least[s]) for s in sizes) / len(sizes)) for c in choices]
    return choices[ratios.index(min(ratios))], min(ratios)


def tuned_key(bundle: Bundle) -> str:
    """Return a sha256 of everything that the timings of a bundle on this machine depend on."""
    parts = {
        "variants": {name: bundle.digest(name) for name in bundle.variants},
        "processor": cpu_name(),
        "cores": usable_cores(),
        "gpu": nvidia_details(),
        "versions": installed_versions(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def installed_versions() -> dict[str, str]:
    """Return name -> version of ganrt and of the libraries of all installed backends."""
    packages = {*(entry.package for entry in backend_table().values()), "onnxruntime-gpu"}
    found = {name: library_version(name) for name in sorted(packages)}
    return {"ganrt": __version__, **{name: version for name, version in found.items() if version != "?"}}


def find_record(bundle: Bundle) -> Tuned | None:
    """Return the tuned record of a bundle for the current state of this machine; None if there is none. A record that
    is damaged, or that others could have written, is ignored with a warning."""
    try:
        folder = find_optional_folder("tuned")
    except MissingLibraryError:  # without platformdirs there is no record
        return None
    if folder is None:
        return None
    key = tuned_key(bundle)
    path = folder / f"{key}.json"
    if not path.exists():
        return None
    try:
        record = Tuned.from_dict(read_json(path, _MAX_BYTES))
        if record.key != key:
            raise ArtifactError(f"{path} is a tuned record of another bundle or machine")
    except ArtifactError as error:
        _log.warning("%s; the tuned record is ignored: tune the bundle again", error)
        return None
    return record


def save_record(record: Tuned) -> Path:
    """Write a record to the cache, where `find_record` finds it; an earlier one is replaced. Returns its path. Raises
    MachineError if it cannot be written, MissingLibraryError without platformdirs."""
    path = cache_folder("tuned") / f"{record.key}.json"
    atomic.write_file(path, json.dumps(record.to_dict(), indent=1, allow_nan=False).encode() + b"\n")
    return path
