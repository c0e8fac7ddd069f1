"""Worker processes that are none, for tests of what is done with their times: they state times, and a clock obeys."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from helpers.reports import facts

from ganrt.bench.cases import Setup
from ganrt.bench.process import WorkerFailed
from ganrt.bench.worker import Facts, Failure, Order, Round

SECOND = 1_000_000_000


class Clock:
    """Time passes only while a worker works."""

    def __init__(self) -> None:
        self.time = 0

    def __call__(self) -> int:
        return self.time


@dataclass
class Model:
    """How a candidate behaves."""

    ms: float = 10.0
    """Of a call at batch 1."""
    scale: float = 1.0
    """How many times as long each further picture takes, as a share of the first."""
    psnr: float = 120.0
    noise: float = 0.02
    """Share of its time by which a call may be off."""
    disturbed: float = 1.0
    """How many times as long all calls of a round take but for its last."""
    load_s: float = 0.5
    slow: bool = False
    failure: Failure | None = None
    """Why it cannot be loaded."""
    dies_after: int = 10**9
    """Rounds after which its process is killed."""
    peak_mib: float | None = 100.0
    precision: str = "fp32"
    device: str = "cpu"


@dataclass
class Pretended:
    """One process. `started` of its world remembers it."""

    setup: Setup
    model: Model
    clock: Clock
    closed: bool = False
    rounds: int = 0
    random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.setup.name)

    def facts(self) -> Facts:
        self.clock.time += round(self.model.load_s * SECOND)
        if self.model.failure is not None:
            raise WorkerFailed(self.model.failure)
        found = facts(self.model.slow)
        return replace(found, worst_psnr=self.model.psnr, precision=self.model.precision, device=self.model.device)

    def round(self, order: Order) -> Round:
        assert not self.closed, "a process that was ended is asked for a round"
        self.rounds += 1
        if self.rounds > self.model.dies_after:
            raise WorkerFailed(Failure("Died", "its process was killed by SIGKILL"))
        middle = self.model.ms * 1e6 * (1 + self.model.scale * (order.batch - 1))
        off = 1 + self.random.uniform(-self.model.noise, self.model.noise)
        long = round(middle * off * self.model.disturbed)
        calls = (*(long for _ in range(order.pairs - 1)), round(middle * off))
        self.clock.time += 2 * sum(calls)
        return Round(calls, calls, True, self.model.peak_mib)

    def close(self) -> None:
        self.closed = True


def world(clock: Clock, behaviour: Callable[[Setup], Model]) -> tuple[Callable[[Setup], Pretended], list[Pretended]]:
    """What starts processes, and the list of those that it started."""
    started: list[Pretended] = []

    def start(setup: Setup) -> Pretended:
        started.append(Pretended(setup, behaviour(setup), clock))
        return started[-1]

    return start, started
