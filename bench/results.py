"""The report of a measurement: raw samples, and the figures and warnings that follow from them. To and from JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ganrt import atomic
from ganrt.errors import ArtifactError
from ganrt.json_reader import decode, parse_json

from . import statistics
from .cases import SCOPES, Scope, Size, end_to_end_scope
from .context import Context
from .environment import Environment
from .statistics import Estimate
from .worker import Facts

SCHEMA = 3
"""Version of the JSON. 1 had no `picture` and no `context`; 2 had other names in `context` (`_OLD_CONTEXT_KEYS`)."""
BASELINE = "pytorch"
"""Speeds are relative to this backend where it was measured."""
BUSY = 0.1
"""Share of the CPU that other programs may use before a report warns about it."""

_OLD_CONTEXT_KEYS = {"multiplications": "macs", "refused": "missing_precisions"}
"""Name in schema 2 -> name now."""
_MAX_BYTES = 2**28


@dataclass(frozen=True)
class Measurement:
    """The times of one backend at one batch size in one scope."""

    backend: str
    """Name of the setup: the backend, with the variant and the options where they differ from the defaults."""
    batch: int
    """Images per call."""
    scope: Scope
    """The part of a call that was timed."""
    rounds: tuple[tuple[int, ...], ...]
    """Nanoseconds of every counted call, round by round."""
    sweeps: tuple[int, ...]
    """For each round, the number of its sweep over all cases. Rounds of one sweep are close in time."""
    warm_up_calls: int
    """Calls before the first round, which are not counted."""
    steady: bool
    """Whether the last windows of the warm-up agreed."""

    def __post_init__(self) -> None:
        if self.batch < 1 or not self.rounds or len(self.rounds) != len(self.sweeps):
            raise ArtifactError(f"{self.backend}: a measurement needs a batch of at least 1, and rounds with sweeps")
        if not all(calls and min(calls) > 0 for calls in self.rounds):
            raise ArtifactError(f"{self.backend}: a round is empty, or one of its calls has no positive time")

    @property
    def calls(self) -> int:
        """Number of counted calls."""
        return sum(map(len, self.rounds))

    @property
    def latency(self) -> Estimate:
        """Median milliseconds of a call."""
        return statistics.median(self.rounds).scale(1e-6)

    def tail(self, q: float) -> Estimate | None:
        """Return the q-quantile in milliseconds; None with fewer calls than `statistics.calls_needed(q)`."""
        found = statistics.tail(self.rounds, q)
        return found and found.scale(1e-6)

    @property
    def images_per_second(self) -> Estimate:
        """Throughput at the median latency."""
        return self.latency.invert(1e3 * self.batch)

    @property
    def warnings(self) -> dict[str, str]:
        """Warning -> how much, as text (`statistics.find_warnings`)."""
        return statistics.find_warnings(self.rounds) | ({} if self.steady else {"not steady after the warm-up": ""})


@dataclass(frozen=True)
class BackendResult:
    """The outcome of one setup over all batch sizes."""

    name: str
    """Name of the setup, as in `Measurement.backend`."""
    status: Literal["measured", "failed", "not installed"]
    """`not installed` only where no backend was named; otherwise a missing library is a failure."""
    reason: str = ""
    """Why it failed, or what installs it; empty when it was measured."""
    facts: Facts | None = None
    """Its worker's report after loading; None unless it was measured."""
    peak_mib: float | None = None
    """Peak resident memory of its process in MiB, libraries included; None where the system does not report it."""
    quiet: bool = True
    """Whether its process was idle while others were measured."""


@dataclass(frozen=True)
class Report:
    """A complete measurement. Figures are computed from the raw samples on request."""

    schema: int
    """Version of the JSON (`SCHEMA`)."""
    bundle: str
    """Name of the bundle's folder."""
    digest: str
    """SHA-256 of the measured graph and weights (`Bundle.digest`)."""
    family: str
    """Family of the generator."""
    image: str
    """Width, height and colours of one image: `32 x 32 grey`."""
    precision: str
    """Precisions that were measured, separated by commas."""
    date: str
    """End of the measurement, in UTC."""
    seconds: float
    """Duration of the measurement, loading included."""
    environment: Environment
    """The machine."""
    backends: tuple[BackendResult, ...]
    """Every setup that was asked for."""
    measurements: tuple[Measurement, ...]
    """Two of every case: in scope `session`, and in the scope `end_to_end`."""
    picture: Size | None = None
    """Height and width of the pictures that an image-to-image model was given; None for one that takes none."""
    context: Context | None = None
    """The suite's additions; None for a report of `measure`."""

    def __post_init__(self) -> None:
        if self.picture is not None and (len(self.picture) != 2 or min(self.picture) < 1):
            raise ArtifactError(f"{self.bundle}: picture is {self.picture}; it must be a height and a width in pixels")
        foreign = [m.scope for m in self.measurements if m.scope not in self.scopes]
        if foreign:
            raise ArtifactError(
                f"{self.bundle}: a measurement has the scope {foreign[0]}; "
                f"this report's scopes are session and {self.end_to_end}"
            )

    @property
    def end_to_end(self) -> Scope:
        """The scope of a user's call; speeds refer to it."""
        return end_to_end_scope(self.picture is not None)

    @property
    def scopes(self) -> dict[Scope, str]:
        """The scopes of this report -> what their time includes, in words."""
        return {scope: SCOPES[scope] for scope in ("session", self.end_to_end)}

    def facts(self, backend: str) -> Facts:
        """Return what the worker process of a measured setup reported."""
        return next(b.facts for b in self.backends if b.name == backend and b.facts is not None)

    def find(self, backend: str, batch: int, scope: Scope) -> Measurement | None:
        """Return the measurement of a case, or None."""
        key = (backend, batch, scope)
        return next((m for m in self.measurements if (m.backend, m.batch, m.scope) == key), None)

    @property
    def cases(self) -> list[tuple[str, int]]:
        """(backend, batch) of every measured case, by batch size, the fastest first."""
        measured = [m for m in self.measurements if m.scope == self.end_to_end]
        return [(m.backend, m.batch) for m in sorted(measured, key=lambda m: (m.batch, m.latency.value))]

    def overhead(self, backend: str, batch: int) -> Estimate | None:
        """Return how many times as long the end-to-end call takes as the bare session, in paired calls on the same
        inputs; None where the case was not measured."""
        ours, session = self.find(backend, batch, self.end_to_end), self.find(backend, batch, "session")
        return None if ours is None or session is None else statistics.paired_ratio(ours.rounds, session.rounds)

    def baseline(self, batch: int) -> str | None:
        """Return the backend that speeds at a batch size are relative to: PyTorch, or else the slowest of at least two,
        without those that are slow by design."""
        names = [name for name, size in self.cases if size == batch and not self.facts(name).slow]
        return BASELINE if BASELINE in names else (names[-1] if len(names) > 1 else None)

    def speedup(self, backend: str, batch: int, base: str | None = None, scope: Scope | None = None) -> Estimate | None:
        """Return how many times as fast a backend is as another, from rounds of the same sweeps.

        Args:
            base: the other backend; None: `baseline(batch)`.
            scope: None: `end_to_end`.

        Returns None where one of the two was not measured.
        """
        base, scope = base or self.baseline(batch), scope or self.end_to_end
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
        """Every reason why a figure of this report may be unreliable, one line per kind."""
        lines, cases = [*self._list_backend_warnings()], dict[str, dict[str, str]]()
        for m in self.measurements:
            for kind, amount in m.warnings.items():
                cases.setdefault(kind, {})[f"{m.backend} batch {m.batch}"] = amount
        for kind, found in cases.items():
            where = (f"{case} ({amount})" if amount else case for case, amount in found.items())
            lines.append(f"{kind}: {', '.join(where)}")
        return lines

    def _list_backend_warnings(self) -> Iterator[str]:
        for backend in self.backends:
            if backend.status == "failed":
                yield f"{backend.name} failed: {backend.reason}"
            if backend.facts is not None and backend.facts.slow:
                yield f"{backend.name} is slow by design: batch 1, few calls, {backend.facts.samples} samples only"
            if backend.facts is not None and (backend.facts.precision, backend.facts.device) == ("fp16", "cpu"):
                yield f"{backend.name} computes fp16 in float32 on the CPU: its times are not those of fp16"
            if not backend.quiet:
                yield f"{backend.name} kept the CPU busy while others were measured: their figures are too slow"
        if self.environment.foreign_share > BUSY:
            share = f"{self.environment.foreign_share:.0%}"
            yield f"other programs used {share} of the CPU: the figures are less reliable"

    def to_json(self) -> str:
        """Return the raw samples as JSON. For other tools, `figures` and `warnings` hold what follows from them."""
        figures = [self._to_figures(m) for m in self.measurements]
        return json.dumps(asdict(self) | {"figures": figures, "warnings": self.warnings}, allow_nan=False)

    def _to_figures(self, m: Measurement) -> dict[str, Any]:
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
        """Read what `to_json` wrote, in this schema or an older one. The figures are computed again.

        Raises ArtifactError, which begins with `name`, for anything else and for a newer schema.
        """
        raw = parse_json(text.encode() if isinstance(text, str) else text, name)
        report = decode(cls, _upgrade(raw, name) if isinstance(raw, dict) else raw, name)
        known = {b.name for b in report.backends if b.facts is not None}
        missing = sorted({m.backend for m in report.measurements} - known)
        if missing:
            raise ArtifactError(f"{name} has measurements of {missing[0]}, but that backend is not in its backends")
        return report

    def save(self, path: str | Path) -> None:
        """Write the JSON file atomically. Raises MachineError when it cannot be written."""
        atomic.write_file(Path(path), self.to_json().encode() + b"\n")

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """Read a file that `save` wrote. Raises ArtifactError."""
        path = Path(path)
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise ArtifactError(f"{path} is larger than {_MAX_BYTES} bytes; no report is that large")
            return cls.from_json(path.read_bytes(), str(path))
        except OSError as error:
            raise ArtifactError(f"{path} cannot be read: {error.strerror}") from error


def _upgrade(raw: dict[str, Any], name: str) -> dict[str, Any]:
    """The fields of a report of any schema up to SCHEMA, with the names of SCHEMA."""
    fields = {key: value for key, value in raw.items() if key not in ("figures", "warnings")}
    schema, context = fields.get("schema"), fields.get("context")
    if type(schema) is not int:
        return fields
    if schema > SCHEMA:
        raise ArtifactError(f"{name} has schema {schema}; this ganrt reads up to {SCHEMA}: update ganrt")
    if schema < SCHEMA and isinstance(context, dict):
        fields["context"] = {_OLD_CONTEXT_KEYS.get(key, key): value for key, value in context.items()}
    return fields | {"schema": SCHEMA}
