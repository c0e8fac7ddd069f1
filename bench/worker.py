"""The code of a worker process: it loads one bundle on one backend, proves it, and times calls on request.

Each backend gets a process of its own because the thread pools of different libraries disturb each other; some threads
even spin while idle. This module imports no library that the backend does not need, so that the reported memory is the
backend's.
"""

from __future__ import annotations

import base64
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from ganrt import images
from ganrt.backend import Session, open_session
from ganrt.bundle import Bundle
from ganrt.errors import GanrtError, UnprovenError
from ganrt.generator import Generator
from ganrt.images import Floats
from ganrt.levels import find_levels
from ganrt.proving import compare_with_golden
from ganrt.trust import require_proof

from . import calls, clock
from .cases import Setup, Size
from .system import read_peak_mib

_SHEET = 2
"""Pictures shown of each golden run."""
_IDLE_WAIT_S, _IDLE_SHARE, _IDLE_WAITS = 0.02, 0.1, 50
"""A process is idle when it uses less than _IDLE_SHARE of a wait; it gets _IDLE_WAITS of them."""


@dataclass(frozen=True)
class Facts:
    """The report of a worker that has loaded a bundle."""

    device: str
    """Where the session runs: `cpu`, `cuda:0` and so on."""
    precision: str
    """Precision of the session: `fp32`, `bf16`, `fp16`, `int8` or `fp8`."""
    slow: bool
    """Whether the backend is slow by design; then only a few golden samples are compared."""
    details: dict[str, str]
    """Library versions and options that the results depend on."""
    load_ms: float
    """Milliseconds to import the library and open the session."""
    first_call_ms: float
    """Milliseconds of the first call, with one image."""
    worst_psnr: float
    """PSNR in dB of the worst of `samples` golden samples against the PyTorch original."""
    samples: int
    """Number of golden samples that were compared."""
    sheet: str
    """The session's pictures of the first golden samples (`select_sheet`), as PNG in base64; empty where an existing
    proof was used."""


@dataclass(frozen=True)
class RoundRequest:
    """A request for a round: time `pairs` calls of each scope."""

    batch: int
    """Images per call."""
    pairs: int
    """Calls of each scope."""
    first: int
    """Index of the first sample."""


@dataclass(frozen=True)
class Round:
    """Times of a round. Call k of both scopes had the same inputs and ran right after the other."""

    session: tuple[int, ...]
    """Nanoseconds of each call of the bare session."""
    end_to_end: tuple[int, ...]
    """Nanoseconds of each call of `Generator.sample` or `Generator.transform`."""
    idle_after: bool
    """Whether the process stopped using the CPU after the round."""
    peak_mib: float | None
    """Peak resident memory of the process so far, in MiB; None where the system does not report it."""


@dataclass(frozen=True)
class Failure:
    """Why a worker stopped."""

    kind: str
    """Name of the exception, or `Died` or `Hung`."""
    reason: str
    """A sentence."""


def serve(connection: Connection, setup: Setup) -> None:
    """Send Facts, then a Round for each RoundRequest, until None arrives or the other side closes. An error ends it: it
    sends a Failure."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers itself
    try:
        with _load_generator(connection, setup) as generator:
            while (request := connection.recv()) is not None:
                connection.send(time_round(generator, request, setup.size))
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:
        reason = str(error) if isinstance(error, GanrtError) else f"{type(error).__name__}: {error}"
        connection.send(Failure(type(error).__name__, reason))


def select_sheet(made: Floats, runs: int) -> Floats:
    """Return the images of golden samples that a sheet shows: the first of each run, then the second of each.

    Args:
        made: images of the first group, run after run.
        runs: number of runs.
    """
    return made[np.arange(len(made)).reshape(runs, -1)[:, :_SHEET].T.ravel()]


def time_round(generator: Generator, request: RoundRequest, size: Size | None = None) -> Round:
    """Time a round of paired calls.

    A round of several pairs starts with one that is not counted, so that caches and buffers adapt to the batch size.

    Args:
        size: height and width in pixels of the pictures that the model is given; None for a model that takes none.

    Raises BackendError when both calls of a pair made different pictures.
    """
    uncounted = int(request.pairs > 1)
    session, end_to_end = [], []
    for k in range(-uncounted, request.pairs):
        first = request.first + (k + uncounted) * request.batch
        inputs = calls.draw_inputs(generator.spec, first, request.batch, size)
        pair = calls.time_pair(generator, inputs, session_first=k % 2 == 0)
        if k >= 0:
            session.append(pair[0])
            end_to_end.append(pair[1])
    return Round(tuple(session), tuple(end_to_end), wait_until_idle(), read_peak_mib())


def _load_generator(connection: Connection, setup: Setup) -> Generator:
    bundle = Bundle.read(setup.bundle)
    started = clock.now_ns()
    session = open_session(bundle, setup.config)
    load_ns = clock.now_ns() - started
    try:
        connection.send(_gather_facts(bundle, setup, session, load_ns))
    except BaseException:
        session.close()
        raise
    return Generator(bundle.spec, session)


def _gather_facts(bundle: Bundle, setup: Setup, session: Session, load_ns: int) -> Facts:
    """Raises UnprovenError when the session does not make the original's images: the speed of wrong images is of no
    use."""
    first_ns, _ = calls.time_session(session, calls.draw_inputs(bundle.spec, 0, 1, setup.size).feeds)
    if setup.reuse_proof:
        proof = require_proof(bundle, setup.config.variant, session)
        agreement: dict[str, Any] = {"worst_psnr": proof.worst_psnr, "samples": proof.samples, "sheet": ""}
    else:
        agreement = _compare(bundle, session)
    return Facts(
        device=session.device,
        precision=session.precision,
        slow=session.slow,
        details=dict(session.details),
        load_ms=load_ns / 1e6,
        first_call_ms=first_ns / 1e6,
        **agreement,
    )


def _compare(bundle: Bundle, session: Session) -> dict[str, Any]:
    """Compare the session with the golden samples. Returns the fields of Facts that follow from it."""
    golden = bundle.read_golden()
    if golden is None:
        raise UnprovenError(f"{bundle.path} has no golden samples to compare with: measure the bundle it came from")
    compared = compare_with_golden(session, bundle.spec, golden)
    if compared.failures:
        raise UnprovenError(f"it does not make the original's images: {compared.failures[0]}")
    shown = select_sheet(compared.found[0], len(compared.golden.groups[0].seeds))
    sheet = images.encode_png(
        images.make_grid(images.to_uint8(shown, find_levels(bundle.spec.output)), columns=len(shown))
    )
    return {
        "worst_psnr": float(compared.agreement.psnr.min()),
        "samples": len(compared.agreement.psnr),
        "sheet": base64.b64encode(sheet).decode(),
    }


def wait_until_idle() -> bool:
    """Wait until this process stops using the CPU: the threads of some libraries keep spinning after a call. Returns
    whether it did."""
    for _ in range(_IDLE_WAITS):
        used = clock.cpu_time_ns()
        clock.wait(_IDLE_WAIT_S)
        if clock.cpu_time_ns() - used < _IDLE_SHARE * _IDLE_WAIT_S * 1e9:
            return True
    return False
