"""Fake worker processes for tests of the benchmark: they state their times, and a fake clock advances by them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from helpers.reports import make_facts

from ganrt.bench.cases import Setup
from ganrt.bench.process import WorkerFailed
from ganrt.bench.worker import Facts, Failure, Round, RoundRequest

SECOND = 1_000_000_000
"""Nanoseconds of a second."""


class FakeClock:
    """Time passes only while a fake worker works."""

    def __init__(self) -> None:
        self.time = 0
        """Nanoseconds."""

    def __call__(self) -> int:
        return self.time


@dataclass
class Behaviour:
    """How a setup behaves."""

    ms: float = 10.0
    """Milliseconds of a call at batch 1."""
    scale: float = 1.0
    """Time that each further image takes, as a share of the first."""
    psnr: float = 120.0
    """PSNR in dB of the worst golden sample."""
    noise: float = 0.02
    """Relative error of the time of a round."""
    disturbed: float = 1.0
    """Factor on the time of all calls of a round but the last."""
    load_s: float = 0.5
    """Seconds to load."""
    slow: bool = False
    """Whether the backend is slow by design."""
    failure: Failure | None = None
    """Why it cannot be loaded."""
    dies_after: int = 10**9
    """Rounds after which its process is killed."""
    peak_mib: float | None = 100.0
    """Peak memory of the process in MiB."""
    precision: str = "fp32"
    device: str = "cpu"


@dataclass
class FakeWorker:
    """A process that loads and times nothing."""

    setup: Setup
    behaviour: Behaviour
    clock: FakeClock
    closed: bool = False
    rounds: int = 0
    random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.setup.name)

    def wait_until_loaded(self) -> Facts:
        own = self.behaviour
        self.clock.time += round(own.load_s * SECOND)
        if own.failure is not None:
            raise WorkerFailed(own.failure)
        return replace(make_facts(own.slow), worst_psnr=own.psnr, precision=own.precision, device=own.device)

    def time_round(self, request: RoundRequest) -> Round:
        assert not self.closed, "a round was requested from a closed worker"
        self.rounds += 1
        own = self.behaviour
        if self.rounds > own.dies_after:
            raise WorkerFailed(Failure("Died", "its process was killed by SIGKILL"))
        mean = own.ms * 1e6 * (1 + own.scale * (request.batch - 1))
        error = 1 + self.random.uniform(-own.noise, own.noise)
        calls = (*[round(mean * error * own.disturbed)] * (request.pairs - 1), round(mean * error))
        self.clock.time += 2 * sum(calls)
        return Round(calls, calls, True, own.peak_mib)

    def close(self) -> None:
        self.closed = True


def fake_processes(
    clock: FakeClock, behave: Callable[[Setup], Behaviour]
) -> tuple[Callable[[Setup], FakeWorker], list[FakeWorker]]:
    """Return a function that starts fake workers, and the list of those that it started."""
    started: list[FakeWorker] = []

    def start(setup: Setup) -> FakeWorker:
        started.append(FakeWorker(setup, behave(setup), clock))
        return started[-1]

    return start, started
