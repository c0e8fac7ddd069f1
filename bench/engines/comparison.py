"""Run the engines: one process each, all rounds in shuffled order, one process computing at a time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from ganrt.backend import backend_table
from ganrt.bundle import Bundle
from ganrt.choosing import backends_to_try
from ganrt.errors import RequestError
from ganrt.session_config import SessionConfig

from ..cases import Size, list_setups
from ..process import WorkerFailed, WorkerProcess
from .adapters import ENGINES, PLAIN, Job
from .results import EngineResult
from .worker import Compared, CompareRequest, EngineRound, Loaded, Prepared, RoundRequest, prepare_files, serve_rounds

OWN = "ganrt"
"""Name of all configurations of ganrt together."""
_WARM_UP_CALLS, _ROUND_NS, _MOST_CALLS = 3, 0.4e9, 50
"""A round has as many calls as take _ROUND_NS, by the median of the warm-up, but at most _MOST_CALLS."""

_NOT_YET = "it was not measured"

_Answer = TypeVar("_Answer")
Log = Callable[[str], None]
"""Receives a line of progress."""


class EngineProcess(Protocol):
    """A process that runs one engine: a `WorkerProcess`, or a fake. Raises WorkerFailed."""

    def receive(self, kind: type[_Answer]) -> _Answer: ...

    def request(self, request: object, kind: type[_Answer]) -> _Answer: ...

    def close(self) -> None: ...


def start_process(job: Job) -> EngineProcess:
    """Prepare the engine's files in a process that ends, and start the one that loads them. Raises WorkerFailed."""
    job.folder.mkdir(parents=True)
    if job.config is None and ENGINES[job.name].prepare is not None:
        preparing = WorkerProcess(prepare_files, job, f"prepare {job.name}")
        try:
            preparing.receive(Prepared)
        finally:
            preparing.close()
    return WorkerProcess(serve_rounds, job, job.name)


@dataclass
class Contender:
    """An engine and what was measured of it so far."""

    job: Job
    """What it runs."""
    result: EngineResult
    """Its row: a failure until it has figures."""
    process: EngineProcess | None = None
    """Its process; None before it has loaded, and after a failure."""
    calls: int = 1
    """Calls of a round."""
    rounds: list[EngineRound] = field(default_factory=list)
    """What its rounds found."""


def list_jobs(bundle: Bundle, names: Sequence[str], folder: Path, batch: int, size: Size | None) -> list[Job]:
    """Return the jobs of the engines that were named; of all, if none was.

    Args:
        names: keys of ENGINES, or OWN for every configuration of ganrt. PLAIN is always among them.
        folder: for files of the engines.
        size: as `cases.check_size` returns it.

    Raises RequestError for an unknown name.
    """
    known = (*ENGINES, OWN)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise RequestError(f"there is no engine {unknown[0]!r}; choose from {', '.join(known)}")
    chosen = {PLAIN, *names} if names else set(known)
    jobs = [Job(name, bundle.path, folder / name, batch, size) for name in ENGINES if name in chosen]
    if OWN in chosen:
        for number, config in enumerate(list_configs(bundle, size)):
            own = Job(f"{OWN} {config}", bundle.path, folder / f"{OWN}-{number}", batch, size, config)
            jobs.append(own)
    return jobs


def list_configs(bundle: Bundle, size: Size | None) -> list[SessionConfig]:
    """Return the configurations of ganrt that run a bundle on the CPU: every variant on every backend that `tune`
    tries but the one that runs the PyTorch original, with and without `spin` where the backend has it."""
    table = backend_table()
    backends = [name for name in backends_to_try("cpu") if table[name].graphs and not table[name].slow]
    configs = []
    for setup in list_setups(bundle, backends, None, "cpu", size):
        configs.append(setup.config)
        if table[setup.config.backend].spin:
            configs.append(replace(setup.config, options={"spin": True}))
    return configs


def run_engines(
    jobs: Sequence[Job], rounds: int, start: Callable[[Job], EngineProcess], log: Log, seed: int = 0
) -> tuple[list[EngineResult], list[tuple[str, ...]]]:
    """Measure engines. One that fails has a result with its reason.

    Args:
        rounds: of each engine.
        start: starts the process of a job.
        seed: of the shuffled order.

    Returns the results in the order of the jobs, and the names in the order in which they ran in each round.
    """
    contenders = [Contender(job, EngineResult(job.name, job.config is not None, failure=_NOT_YET)) for job in jobs]
    orders: list[tuple[str, ...]] = []
    with ExitStack() as stack:
        for contender in contenders:
            log(f"loading {contender.job.name}")
            _attempt(contender, lambda c: _warm_up(c, start, stack))
        generate = random.Random(seed)
        for number in range(rounds):
            live = [contender for contender in contenders if contender.process is not None]
            generate.shuffle(live)
            log(f"round {number + 1} of {rounds}: {', '.join(contender.job.name for contender in live)}")
            for contender in live:
                _attempt(contender, _run_round)
            orders.append(tuple(contender.job.name for contender in live))
        for contender in contenders:
            if contender.process is not None:
                log(f"comparing {contender.job.name} with the golden samples")
                _attempt(contender, _finish)
    return [contender.result for contender in contenders], orders


def _attempt(contender: Contender, step: Callable[[Contender], None]) -> None:
    """Run a step. If the process fails, the engine is left out of later ones."""
    try:
        step(contender)
    except WorkerFailed as error:
        contender.process = None
        contender.result = replace(contender.result, failure=error.failure.reason)


def _warm_up(contender: Contender, start: Callable[[Job], EngineProcess], stack: ExitStack) -> None:
    process = start(contender.job)
    stack.callback(process.close)
    loaded = process.receive(Loaded)
    warm = process.request(RoundRequest(0, _WARM_UP_CALLS), EngineRound)
    contender.process = process
    contender.calls = round(float(np.clip(_ROUND_NS / np.median(warm.times), 1, _MOST_CALLS)))
    contender.result = replace(contender.result, load_ms=loaded.load_ms, versions=loaded.versions)


def _run_round(contender: Contender) -> None:
    assert contender.process is not None, "it takes part"
    first = len(contender.rounds) * (1 + _MOST_CALLS) * contender.job.batch  # the same inputs for every engine
    request = RoundRequest(first, contender.calls)
    contender.rounds.append(contender.process.request(request, EngineRound))


def _finish(contender: Contender) -> None:
    """Compare with the golden samples, and stop the process, so that its memory is free."""
    assert contender.process is not None, "it takes part"
    compared = contender.process.request(CompareRequest(), Compared)
    contender.process.close()
    rounds = contender.rounds
    contender.result = replace(
        contender.result,
        rounds=tuple(made.times for made in rounds),
        worst_psnr=compared.worst_psnr,
        samples=compared.samples,
        peak_mib=rounds[-1].peak_mib,
        idle=all(made.idle for made in rounds),
        failure="",
    )
