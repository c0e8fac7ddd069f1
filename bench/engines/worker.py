"""The code of an engine's process: it prepares the engine's files, or loads the model and times calls on request."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from ganrt.agreement import Agreement, compare
from ganrt.backend import Session, library_version, open_session
from ganrt.batching import Batch, run_all, take_batch
from ganrt.bundle import Bundle
from ganrt.errors import GanrtError, UnprovenError
from ganrt.feeds import Feeds
from ganrt.images import Floats
from ganrt.levels import find_levels
from ganrt.trust import reject_refused, require_proof

from .. import calls, clock
from ..system import read_peak_mib
from ..worker import Failure, wait_until_idle
from .adapters import ENGINES, Call, Job, explain_missing

_LONGEST_REASON = 300


@dataclass(frozen=True)
class Prepared:
    """The answer of a process that has written an engine's files."""


@dataclass(frozen=True)
class Loaded:
    """The answer of a process that has loaded a model."""

    load_ms: float
    """Milliseconds to import the library and load the model, without preparation."""
    versions: dict[str, str]
    """Package -> version."""


@dataclass(frozen=True)
class RoundRequest:
    """A request for a round of calls."""

    first: int
    """Index of the first sample."""
    calls: int
    """Number of calls, each with new inputs."""


@dataclass(frozen=True)
class EngineRound:
    """Times of a round."""

    times: tuple[int, ...]
    """Nanoseconds of each call."""
    idle: bool
    """Whether the process stopped using the CPU after the round."""
    peak_mib: float | None
    """Peak resident memory of the process so far, in MiB; None where the system does not report it."""


@dataclass(frozen=True)
class CompareRequest:
    """A request to run the golden samples."""


@dataclass(frozen=True)
class Compared:
    """Agreement with the golden samples."""

    worst_psnr: float
    """PSNR in dB of the worst sample."""
    samples: int
    """Number of samples."""


def prepare_files(connection: Connection, job: Job) -> None:
    """Write an engine's files; send Prepared, or a Failure."""
    with _send_failures(connection, job):
        prepare = ENGINES[job.name].prepare
        if prepare is not None:
            prepare(Bundle.read(job.bundle), job)
        connection.send(Prepared())


def serve_rounds(connection: Connection, job: Job) -> None:
    """Send Loaded, then an answer for each request, until None arrives or the other side closes. An error ends it: it
    sends a Failure."""
    with _send_failures(connection, job):
        bundle = Bundle.read(job.bundle)
        started = clock.now_ns()
        call, session = _load(bundle, job)
        packages = ENGINES[job.name].packages if job.config is None else ()
        versions = {name: library_version(name) for name in packages} if session is None else dict(session.details)
        connection.send(Loaded((clock.now_ns() - started) / 1e6, versions))
        while (request := connection.recv()) is not None:
            if isinstance(request, RoundRequest):
                connection.send(time_calls(bundle, job, call, request))
            else:
                connection.send(_compare_images(bundle, job, call, session))


@contextmanager
def _send_failures(connection: Connection, job: Job) -> Iterator[None]:
    """Send an error of the block to the parent. What libraries print goes to standard error: standard output is for the
    table."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers itself
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(job.folder / "inductor")  # a cache of other runs would hide load times
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    try:
        yield
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:  # libraries raise any
        if isinstance(error, ImportError) and job.config is None:
            error = explain_missing(ENGINES[job.name], error)
        text = describe_error(error)
        for folder in (job.folder, Path(job.bundle).parent):  # reports are published
            text = text.replace(f"{folder}/", "")
        connection.send(Failure(type(error).__name__, text[:_LONGEST_REASON]))


def describe_error(error: Exception) -> str:
    """Return the message of an error as one line, with the name of its class if it is not one of ganrt."""
    text = " ".join(str(error).split())
    return text if isinstance(error, GanrtError) else f"{type(error).__name__}: {text}"


def _load(bundle: Bundle, job: Job) -> tuple[Call, Session | None]:
    if job.config is None:
        return ENGINES[job.name].load(bundle, job), None
    reject_refused(bundle, job.config)
    session = open_session(bundle, job.config)
    return make_call(bundle, session), session


def make_call(bundle: Bundle, session: Session) -> Call:
    """Return a call of a session of ganrt. It splits and pads batches that the session does not take as they are."""
    output = bundle.spec.output

    def call(given: Feeds) -> Floats:
        count = len(next(iter(given.values())))
        if not session.batch_sizes or count in session.batch_sizes:
            return session.submit(given).wait()[output.name]
        return run_all(session, output, given, max(session.batch_sizes))

    return call


def time_calls(bundle: Bundle, job: Job, call: Call, request: RoundRequest) -> EngineRound:
    """Time a round of calls. A round of several starts with one that is not counted, so that caches adapt."""
    times = []
    uncounted = int(request.calls > 1)
    for number in range(uncounted + request.calls):
        given = calls.draw_inputs(bundle.spec, request.first + number * job.batch, job.batch, job.size).feeds
        started = clock.now_ns()
        call(given)
        times.append(clock.now_ns() - started)
    return EngineRound(tuple(times[uncounted:]), wait_until_idle(), read_peak_mib())


def _compare_images(bundle: Bundle, job: Job, call: Call, session: Session | None) -> Compared:
    if session is not None and job.config is not None:
        proof = require_proof(bundle, job.config.variant, session)
        return Compared(proof.worst_psnr, proof.samples)
    return compare_with_golden(bundle, job.batch, call)


def compare_with_golden(bundle: Bundle, batch: int, call: Call) -> Compared:
    """Run the golden samples in batches of the size that was timed. Raises UnprovenError if there are none, or if
    images are not finite; BackendError if they have another shape than the originals."""
    golden = bundle.read_golden()
    if golden is None:
        raise UnprovenError(f"{bundle.path} has no golden samples to compare with: measure the bundle it came from")
    parts = []
    for group in golden.groups:
        given, count = group.draw_feeds(bundle.spec), len(group.images)
        for first in range(0, count, batch):
            rows = min(batch, count - first)
            made = call(take_batch(given, Batch(first, rows, batch)))[:rows]
            parts.append(compare(made, group.images[first : first + rows], find_levels(bundle.spec.output)))
    agreement = Agreement.join(parts)
    worst = float(agreement.psnr.min())
    if not np.isfinite(worst):
        raise UnprovenError("it makes images that are not finite")
    return Compared(worst, len(agreement.psnr))
