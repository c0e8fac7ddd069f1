"""Tuned records: what `ganrt tune` measured for a bundle on this machine, and the configurations chosen from it.

A record holds for the bytes of every variant, the processor, the cores that this process may use, the GPUs, and the
versions of ganrt and of every backend's library. If one of them changes, the record is no longer found. A provisional
record, of a measurement that was too short or disturbed, holds until the machine restarts.
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
from ganrt.checks import is_whole
from ganrt.errors import ArtifactError, MissingLibraryError, RequestError
from ganrt.json_reader import decode, read_json
from ganrt.machine import cpu_name, nvidia_details, usable_cores
from ganrt.session_config import SessionConfig

_log = logging.getLogger(__name__)

_FORMAT = 2
"""Format of the file. 1 had no `origin`, and did not say what was undecided or disturbed; it is still read."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
MAX_BYTES = 2**20
"""Largest file of a record."""
_MAX_BATCH = 2**16
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
class Origin:
    """The bundle and the machine that a record was measured on."""

    variants: Mapping[str, str]
    """Name -> `Bundle.digest` of each variant of the bundle."""
    processor: str
    """Model name."""
    cores: int
    """Logical processors that the process could use."""
    gpu: Mapping[str, str]
    """`ganrt.machine.nvidia_details`."""

    @classmethod
    def of(cls, bundle: Bundle) -> Origin:
        """Return the origin of a measurement of this bundle on this machine."""
        variants = {name: bundle.digest(name) for name in bundle.variants}
        return cls(variants, cpu_name(), usable_cores(), nvidia_details())

    def make_key(self, versions: Mapping[str, str]) -> str:
        """Return a sha256 of everything that the timings depend on; `versions` are those of the libraries."""
        parts = {**vars(self), "versions": versions}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Tuned:
    """A tuned record. Raises RequestError if a winner is missing or is not one of the measured choices, or if the key
    is not that of the origin."""

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
    undecided: tuple[int, ...] = ()
    """Batch sizes at which the time ran out before the fastest was certain."""
    disturbed: bool = False
    """Whether other programs used the CPU during the measurement."""
    boot: str = ""
    """Of a provisional record: `read_boot_id` of the machine when it was measured."""
    origin: Origin | None = None
    """What it was measured on; None in files of format 1."""

    def __post_init__(self) -> None:
        if not self.winners:
            raise RequestError("it has no winner")
        if self.origin is not None and self.key != self.origin.make_key(self.versions):
            raise RequestError("its key is not that of its origin and versions")
        if not set(self.undecided) <= self.winners.keys():
            raise RequestError(f"it is undecided at batch {self.undecided!r:.100}, but has winners at others")
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
        offered = self._winning_choices() if self.provisional else self.choices
        left = [c for c in offered if fits(c) and set(sizes) <= c.timings.keys()]
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
        reason = f"tuned on {self.date[:10]} for {self.quality:g} dB: {lead} batch {where}"
        until = "; provisional until this machine restarts, as "
        return best, reason + (until + self.describe_doubt() if self.provisional else "")

    @property
    def provisional(self) -> bool:
        """True if a longer measurement, or one on a quiet machine, may find other winners. Only winners are then
        picked: the order of the other choices is less certain still."""
        return self.disturbed or bool(self.undecided)

    def _winning_choices(self) -> list[TunedConfig]:
        return [self.choices[index] for index in sorted(set(self.winners.values()))]

    def describe_doubt(self) -> str:
        """Return why it is provisional and what to do about it; empty if it is not."""
        where = ", ".join(map(str, self.undecided))
        causes = [f"the time ran out at batch {where}"] * bool(where) + ["other programs used the CPU"] * self.disturbed
        advice = ["with more --seconds"] * bool(where) + ["while the machine is quiet"] * self.disturbed
        return f"{' and '.join(causes)}: run `ganrt tune` again, {' and '.join(advice)}" if causes else ""

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
            "undecided": list(self.undecided),
            "disturbed": self.disturbed,
            "boot": self.boot,
            "origin": None if self.origin is None else vars(self.origin),
        }

    def to_json(self) -> bytes:
        """Return the record as the content of a file."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False).encode() + b"\n"

    @classmethod
    def from_dict(cls, raw: object) -> Tuned:
        """Read a record from untrusted parsed JSON. Raises ArtifactError, naming the field, if it is not valid."""
        where = "tuned record"
        version = raw.get("format") if isinstance(raw, dict) else None
        if not isinstance(raw, dict) or not is_whole(version) or not 1 <= version <= _FORMAT:
            found = f"has format {version!r:.50}" if isinstance(raw, dict) else f"is {raw!r:.50}"
            raise ArtifactError(f"{where} {found}; this ganrt reads formats 1 to {_FORMAT}")
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
    return Origin.of(bundle).make_key(installed_versions())


def installed_versions() -> dict[str, str]:
    """Return name -> version of ganrt and of the libraries of all installed backends."""
    packages = {*(entry.package for entry in backend_table().values()), "onnxruntime-gpu"}
    found = {name: library_version(name) for name in sorted(packages)}
    return {"ganrt": __version__, **{name: version for name, version in found.items() if version != "?"}}


def read_boot_id() -> str:
    """Return the kernel's name for the time since the machine was started last; empty if it does not tell."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def find_record(bundle: Bundle) -> Tuned | None:
    """Return the tuned record of a bundle for the current state of this machine; None if there is none, or only a
    provisional one from before the last restart. A record that is damaged, or that others could have written, is
    ignored with a warning."""
    return _read_record(lambda: tuned_key(bundle))


def _read_record(make_key: Callable[[], str]) -> Tuned | None:
    """The record with a key, which is made only if there are records at all: that takes milliseconds."""
    try:
        folder = find_optional_folder("tuned")
    except MissingLibraryError:  # without platformdirs there is no record
        return None
    if folder is None:
        return None
    key = make_key()
    path = folder / f"{key}.json"
    if not path.exists():
        return None
    try:
        record = Tuned.from_dict(read_json(path, MAX_BYTES))
        if record.key != key:
            raise ArtifactError(f"{path} is a tuned record of another bundle or machine")
    except ArtifactError as error:
        _log.warning("%s; the tuned record is ignored: tune the bundle again", error)
        return None
    if record.provisional and not (record.boot and record.boot == read_boot_id()):
        _log.info("%s is provisional and from before the last restart: it is ignored", path)
        return None
    return record


def save_record(record: Tuned) -> Path:
    """Write a record to the cache, where `find_record` finds it; an earlier one is replaced. Returns its path. Raises
    MachineError if it cannot be written, MissingLibraryError without platformdirs."""
    path = cache_folder("tuned") / f"{record.key}.json"
    atomic.write_file(path, record.to_json())
    return path


def update_record(record: Tuned) -> Tuned:
    """Save a record, unless it is provisional and there is a decided one with the same key. Returns the one that `load`
    uses from now on. Raises what `save_record` raises."""
    earlier = _read_record(lambda: record.key) if record.provisional else None
    if earlier is not None and not earlier.provisional:
        return earlier
    save_record(record)
    return record
