"""Reports made from given times, for tests of tables, pages and figures."""

from collections.abc import Sequence
from typing import Literal

from ganrt.bench import BackendResult, Environment, Facts, Measurement, Report
from ganrt.bench.results import SCHEMA

ENVIRONMENT = Environment(
    processor="A processor",
    cores=2,
    memory_gib=4.0,
    governor=None,
    system="Linux x86_64",
    python="3.11.0",
    libraries={"numpy": "2.0"},
    gpus=(),
    load_before=0.1,
    load_after=0.5,
    foreign_share=0.01,
)
MS = 1_000_000
"""Nanoseconds of a millisecond."""
_SCOPES: tuple[tuple[Literal["session", "sample"], float], ...] = (("session", 1.0), ("sample", 1.04))


def make_facts(slow: bool = False) -> Facts:
    return Facts("cpu", "fp32", slow, {"library": "1.0"}, 12.5, 3.25, 123.456, 64, "aGVsbG8=")


def make_measurement(
    backend: str,
    batch: int,
    scope: Literal["session", "sample", "transform"],
    rounds: Sequence[Sequence[float]],
    sweeps: list[int] | None = None,
) -> Measurement:
    """`rounds` in milliseconds."""
    nanoseconds = tuple(tuple(round(ms * MS) for ms in calls) for calls in rounds)
    return Measurement(backend, batch, scope, nanoseconds, tuple(sweeps or range(len(rounds))), 9, True)


def make_report(
    measurements: list[Measurement], backends: list[BackendResult] | None = None, name: str = "faces.ganrt"
) -> Report:
    if backends is None:
        names = dict.fromkeys(m.backend for m in measurements)
        backends = [BackendResult(b, "measured", "", make_facts(), 100.0) for b in names]
    return Report(
        schema=SCHEMA,
        bundle=name,
        digest="0" * 64,
        family="dcgan",
        image="16 x 16 rgb",
        precision="fp32",
        date="2026-01-31T12:00:00+00:00",
        seconds=44.4,
        environment=ENVIRONMENT,
        backends=tuple(backends),
        measurements=tuple(measurements),
    )


def make_steady_report(backends: list[BackendResult] | None = None, name: str = "faces.ganrt") -> Report:
    """Two backends at two batch sizes: `quick` takes a third of the time of `pytorch`, and `sample` adds 4 %."""
    times = {("quick", 1): 1.0, ("pytorch", 1): 3.0, ("quick", 8): 5.0, ("pytorch", 8): 15.0}
    return make_report(
        [
            make_measurement(name, batch, scope, [[ms * factor] * 10] * 12)
            for (name, batch), ms in times.items()
            for scope, factor in _SCOPES
        ],
        backends,
        name,
    )
