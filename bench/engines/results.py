"""What a comparison of engines found: every raw time, and what follows from it. A report is a JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ganrt.atomic import write_file
from ganrt.errors import ArtifactError
from ganrt.json_reader import decode, read_json

from .. import statistics
from ..environment import Environment
from ..statistics import Estimate

_MAX_BYTES = 2**26


@dataclass(frozen=True)
class EngineResult:
    """One engine."""

    name: str
    """Its row in the table."""
    own: bool
    """Whether it is a configuration of ganrt."""
    rounds: tuple[tuple[int, ...], ...] = ()
    """Nanoseconds of each call, round by round."""
    worst_psnr: float | None = None
    """PSNR in dB of its worst golden sample; None if it failed before."""
    samples: int = 0
    """Golden samples that were compared."""
    peak_mib: float | None = None
    """Peak resident memory of its process in MiB, before the golden samples; None where it is not known."""
    load_ms: float | None = None
    """Milliseconds to import the library and load the model; None if it failed before."""
    idle: bool = True
    """Whether it stopped using the CPU after each of its rounds."""
    versions: dict[str, str] | None = None
    """Package -> version, and options that matter; None if it failed before."""
    failure: str = ""
    """Why it has no figures; empty if it has."""

    def __post_init__(self) -> None:
        if any(time < 1 for times in self.rounds for time in times) or not all(self.rounds):
            raise ArtifactError(f"{self.name} has a round without calls, or a time below 1 ns")
        if not self.failure and (self.worst_psnr is None or not self.rounds):
            raise ArtifactError(f"{self.name} has no figures, and no reason why")

    @property
    def milliseconds(self) -> Estimate:
        """Median of the rounds' medians."""
        return statistics.median(self.rounds).scale(1e-6)


@dataclass(frozen=True)
class EngineReport:
    """A comparison."""

    bundle: str
    """Name of the bundle's folder."""
    batch: int
    """Images per call."""
    picture: tuple[int, int] | None
    """Height and width of the pictures that the model was given; None for a model that takes none."""
    date: str
    """When it ended, in UTC."""
    orders: tuple[tuple[str, ...], ...]
    """Names of the engines of each round, in the order in which they ran."""
    engines: tuple[EngineResult, ...]
    """In the order of the table of engines, those that failed included."""
    environment: Environment
    """The machine."""

    def __post_init__(self) -> None:
        rounds = {len(engine.rounds) for engine in self.engines if not engine.failure}
        if not rounds <= {len(self.orders)}:
            raise ArtifactError(f"the engines have {sorted(rounds)} rounds; the report has {len(self.orders)}")

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        write_file(path, json.dumps(asdict(self), indent=1, allow_nan=False).encode())

    @classmethod
    def load(cls, path: Path) -> EngineReport:
        """Read what `save` wrote. Raises ArtifactError if it is damaged."""
        return decode(cls, read_json(path, _MAX_BYTES, ArtifactError), "report", ArtifactError)


def compare_speed(engine: EngineResult, other: EngineResult) -> Estimate:
    """Return how many times as fast as `other` an engine is: the median over rounds of the ratio of the two medians of
    the same round, which are close in time, so that other load on the machine slows both alike."""
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]] = list(zip(engine.rounds, other.rounds, strict=True))
    return statistics.quantile([float(np.median(theirs) / np.median(ours)) for ours, theirs in pairs], 0.5)
