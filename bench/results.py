"""What a measurement found: raw samples, and the figures and doubts that follow from them. To and from JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ganrt import atomic
from ganrt.bundle import parse_json
from ganrt.errors import ArtifactError

from . import statistics
from .cases import SCOPES, Scope, Size, end_to_end
from .context import Context
from .decode import decode
from .environment import Environment
from .statistics import Estimate
from .worker import Facts

SCHEMA = 2
"""1 had no pictures as inputs and no context."""
BASELINE = "pytorch"
"""Speeds are compared with it where it was measured."""

_MAX_BYTES = 2**28
BUSY = 0.1
"""Share of the processor that others may use before the figures are doubted."""


@dataclass(frozen=True)
class Measurement:
    """One backend at one batch size in one scope."""

    backend: str
    batch: int
    scope: Scope
    rounds: tuple[tuple[int, ...], ...]
    """Nanoseconds of every counted call, round by round."""
    sweeps: tuple[int, ...]
    """Number of the sweep over all cases that each round belongs to: rounds of one sweep are near in time."""
    warm_up_calls: int
    steady: bool
    """Whether the last windows of the warm-up agreed."""

    def __post_init__(self) -> None:
        if self.batch < 1 or not self.rounds or len(self.rounds) != len(self.sweeps):
            raise ArtifactError(f"{self.backend}: a measurement needs a batch from 1, and rounds with their sweeps")
        if not all(calls and min(calls) > 0 for calls in self.rounds):
            raise ArtifactError(f"{self.backend}: a round is empty or has a call that took no time")

    @property
    def calls(self) -> int:
        return sum(map(len, self.rounds))

    @property
    def latency(self) -> Estimate:
        """Median milliseconds of a call."""
        return statistics.median(self.rounds).map(1e-6)

    def tail(self, q: float) -> Estimate | None:
        """The q-quantile in milliseconds, or None when there are fewer calls than `statistics.calls_needed(q)`."""
        found = statistics.tail(self.rounds, q)
        return found and found.map(1e-6)

    @property
    def images_per_second(self) -> Estimate:
        return self.latency.inverse(1e3 * self.batch)

    @property
    def doubts(self) -> dict[str, str]:
        """Kind of doubt -> how much of it there is (`statistics.doubts`)."""
        return statistics.doubts(self.rounds) | ({} if self.steady else {"not steady after the warm-up": ""})


@dataclass(frozen=True)
class Backend:
    """How a backend fared as a whole."""

    name: str
    status: Literal["measured", "failed", "not installed"]
    reason: str = ""
    """Why it failed, or what would install it."""
    facts: Facts | None = None
    peak_mib: float | None = None
    """Most memory its process used, libraries included."""
    quiet: bool = True
    """Whether its process left the processor alone while others were measured."""


@dataclass(frozen=True)
class Report:
    """A whole measurement. The figures are computed from the raw samples whenever they are asked for."""

    schema: int
    bundle: str
    """Name of the bundle's folder."""
    digest: str
    """Of the graph and the weights that were measured (`Bundle.digest`)."""
    family: str
    image: str
    """What one image is: `32 x 32 grey`."""
    precision: str
    date: str
    seconds: float
    """How long it all took, loading included."""
    environment: Environment
    backends: tuple[Backend, ...]
    measurements: tuple[Measurement, ...]
    picture: Size | None = None
    """Height and width of the pictures that an image-to-image model was given; None for one that takes none."""
    context: Context | None = None
    """What the suite found out around it; None for a measurement by itself."""

    def __post_init__(self) -> None:
        if self.picture is not None and (len(self.picture) != 2 or min(self.picture) < 1):
            raise ArtifactError(f"{self.bundle}: picture is {self.picture}; it must be a height and a width in pixels")
        strange = [m.scope for m in self.measurements if m.scope not in self.scopes]
        if strange:
            raise ArtifactError(
                f"{self.bundle}: a measurement has the scope {strange[0]}; this report's are session and {self.whole}"
            )

    @property
    def whole(self) -> Scope:
        """The scope that speeds are stated for: the whole way that users go."""
        return end_to_end(self.picture is not None)

    @property
    def scopes(self) -> dict[Scope, str]:
        """The scopes of this report -> what their time includes, in words."""
        return {scope: SCOPES[scope] for scope in ("session", self.whole)}

    def facts(self, backend: str) -> Facts:
        """About a backend that was measured."""
        return next(b.facts for b in self.backends if b.name == backend and b.facts is not None)

    def find(self, backend: str, batch: int, scope: Scope) -> Measurement | None:
        """The measurement of a case, or None."""
        key = (backend, batch, scope)
        return next((m for m in self.measurements if (m.backend, m.batch, m.scope) == key), None)

    @property
    def cases(self) -> list[tuple[str, int]]:
        """(backend, batch) of every case that was measured: batch by batch, fastest first."""
        ends = [m for m in self.measurements if m.scope == self.whole]
        return [(m.backend, m.batch) for m in sorted(ends, key=lambda m: (m.batch, m.latency.value))]

    def overhead(self, backend: str, batch: int) -> Estimate | None:
        """How many times as long the whole way takes as the bare session on the same inputs, in paired calls."""
        whole, session = self.find(backend, batch, self.whole), self.find(backend, batch, "session")
        return None if whole is None or session is None else statistics.paired_ratio(whole.rounds, session.rounds)

    def baseline(self, batch: int) -> str | None:
        """What the speeds at a batch size are compared with: PyTorch, or else the slowest that is not slow by
        design."""
        names = [name for name, size in self.cases if size == batch and not self.facts(name).slow]
        return BASELINE if BASELINE in names else (names[-1] if len(names) > 1 else None)

    def speedup(self, backend: str, batch: int, base: str | None = None, scope: Scope | None = None) -> Estimate | None:
        """How many times as fast as `base` (by default `baseline`), from rounds of the same sweeps, in a scope (by
        default `whole`); None where one of the two was not measured."""
        base, scope = base or self.baseline(batch), scope or self.whole
        top = base and self.find(base, batch, scope)
        bottom = self.find(backend, batch, scope)
        if not top or not bottom:
            return None
        ours, theirs = (dict(zip(m.sweeps, m.rounds, strict=True)) for m in (bottom, top))
        common = sorted(set(ours) & set(theirs))
        ratios = [float(np.median(theirs[s]) / np.median(ours[s])) for s in common]
        return statistics.quantile(ratios, 0.5) if ratios else None

    @property
    def warnings(self) -> list[str]:
        """Every reason to doubt a figure of this report, one line per kind."""
        cases: dict[str, dict[str, str]] = {}
        for m in self.measurements:
            for kind, amount in m.doubts.items():
                cases.setdefault(kind, {})[f"{m.backend} batch {m.batch}"] = amount
        kinds = (f"{kind}: " + ", ".join(f"{c} {a}".strip() for c, a in found.items()) for kind, found in cases.items())
        return [*self._warnings(), *kinds]

    def _warnings(self) -> Iterator[str]:
        for backend in self.backends:
            if backend.status == "failed":
                yield f"{backend.name} failed: {backend.reason}"
            if backend.facts is not None and backend.facts.slow:
                yield f"{backend.name} is slow by design: batch 1 and a few calls only, {backend.facts.samples} samples"
            if backend.facts is not None and (backend.facts.precision, backend.facts.device) == ("fp16", "cpu"):
                yield f"{backend.name} spells float16 out in float32 on the CPU: its times say nothing about fp16"
            if not backend.quiet:
                yield f"{backend.name} kept the processor busy while others were measured: their figures suffer"
        if self.environment.foreign_share > BUSY:
            yield f"other programs used {self.environment.foreign_share:.0%} of the processor: the figures suffer"

    def to_json(self) -> str:
        """The raw samples with the figures that follow from them, for readers of other tools, under `figures`."""
        figures = [self._figures(m) for m in self.measurements]
        return json.dumps(asdict(self) | {"figures": figures, "warnings": self.warnings}, allow_nan=False)

    def _figures(self, m: Measurement) -> dict[str, Any]:
        p90, p99 = m.tail(0.9), m.tail(0.99)
        return {
            "backend": m.backend,
            "batch": m.batch,
            "scope": m.scope,
            "calls": m.calls,
            "median_ms": asdict(m.latency),
            "p90_ms": p90 and asdict(p90),
            "p99_ms": p99 and asdict(p99),
            "images_per_second": asdict(m.images_per_second),
            "worst_psnr_db": self.facts(m.backend).worst_psnr,
        }

    @classmethod
    def from_json(cls, text: str | bytes, name: str = "the report") -> Report:
        """Read what `to_json` wrote; the figures are computed anew. Raises ArtifactError, with `name`, when it is
        anything else, or of a newer schema."""
        raw = parse_json(text.encode() if isinstance(text, str) else text, name)
        if isinstance(raw, dict):
            raw = {key: value for key, value in raw.items() if key not in ("figures", "warnings")}
            schema = raw.get("schema")
            if isinstance(schema, int) and schema > SCHEMA:
                raise ArtifactError(f"{name} has schema {schema}; this ganrt reads up to {SCHEMA}: update ganrt")
        report = decode(cls, raw, name)
        known = {b.name for b in report.backends if b.facts is not None}
        missing = sorted({m.backend for m in report.measurements} - known)
        if missing:
            raise ArtifactError(f"{name} has measurements of {missing[0]}, but nothing about that backend")
        return report

    def save(self, path: str | Path) -> None:
        """Write the JSON file, in one step. Raises MachineError when it cannot be written."""
        atomic.write_file(Path(path), self.to_json().encode() + b"\n")

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """Read a file that `save` wrote. Raises ArtifactError."""
        path = Path(path)
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise ArtifactError(f"{path} is larger than {_MAX_BYTES} bytes, which no report is")
            return cls.from_json(path.read_bytes(), str(path))
        except OSError as error:
            raise ArtifactError(f"{path} cannot be read: {error.strerror}") from error
