"""What runs in a worker process: one bundle on one backend, checked against its golden samples, then timed on order.

A process of its own, because thread pools of different libraries (and the spinning threads of some) disturb each other.
Nothing here imports a library that the backend does not need, so that the memory reported is the backend's.
"""

from __future__ import annotations

import base64
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from ganrt import images
from ganrt.agreement import THRESHOLDS, compare
from ganrt.backend import Session, backend_module
from ganrt.batching import run_all
from ganrt.bundle import Bundle
from ganrt.errors import GanrtError, UnprovenError
from ganrt.generator import Generator
from ganrt.golden import Golden
from ganrt.trust import require_proof

from . import calls, clock
from .cases import Setup, Size

_PROOF_BATCH = 8
_SHEET = 2
"""Pictures shown of each golden run."""
_REST_S, _QUIET_SHARE, _RESTS = 0.02, 0.1, 50


@dataclass(frozen=True)
class Facts:
    """What a worker found out while it loaded a bundle."""

    device: str
    precision: str
    slow: bool
    """Whether the backend is slow by design; then only a few golden samples are compared."""
    details: dict[str, str]
    """Library versions and options that results depend on."""
    load_ms: float
    """Importing the library and opening the session."""
    first_call_ms: float
    """The first call, one image."""
    worst_psnr: float
    """dB, of the worst of `samples` golden samples against the PyTorch original."""
    samples: int
    sheet: str
    """PNG, base64: its pictures of the first golden samples (`sheet_of`); empty where a known proof did."""


@dataclass(frozen=True)
class Order:
    """Time `pairs` calls of each scope, on the samples from `first` on."""

    batch: int
    pairs: int
    first: int


@dataclass(frozen=True)
class Round:
    """Nanoseconds of each call; call k of both scopes had the same inputs, one right after the other."""

    session: tuple[int, ...]
    whole: tuple[int, ...]
    """Of `Generator.sample` or `Generator.transform`."""
    quiet: bool
    """Whether the process stopped using the processor after the round."""
    peak_mib: float | None
    """Most memory the process has used so far; None where the system does not tell."""


@dataclass(frozen=True)
class Failure:
    """Why a worker gave up: the name of the exception, or `Died` or `Hung`, and a sentence."""

    kind: str
    reason: str


def serve(connection: Connection, setup: Setup) -> None:
    """Send Facts, then a Round for each Order until None arrives or the other side is gone. A Failure ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the harness ends its workers itself
    try:
        with _load(connection, setup) as generator:
            while (order := connection.recv()) is not None:
                connection.send(time_round(generator, order, setup.size))
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:
        reason = str(error) if isinstance(error, GanrtError) else f"{type(error).__name__}: {error}"
        connection.send(Failure(type(error).__name__, reason))


def sheet_of(golden: Golden) -> Golden:
    """The golden samples that a sheet shows: the first of each run, then the second of each."""
    runs = len(golden.seeds)
    per_run = len(golden.images) // runs
    order = np.arange(len(golden.images)).reshape(runs, per_run)[:, :_SHEET].T.ravel()
    return Golden(golden.seeds, golden.starts, golden.images[order])


def _load(connection: Connection, setup: Setup) -> Generator:
    bundle = Bundle.read(setup.bundle)
    started = clock.now_ns()
    session = backend_module(setup.backend).open(bundle, setup.variant, setup.device, **dict(setup.options))
    load_ns = clock.now_ns() - started
    try:
        connection.send(_facts(bundle, setup, session, load_ns))
    except BaseException:
        session.close()
        raise
    return Generator(bundle.spec, session)


def _facts(bundle: Bundle, setup: Setup, session: Session, load_ns: int) -> Facts:
    """Raises UnprovenError when the session does not make the original's images, because the speed of wrong pictures
    is worth nothing."""
    first_ns, _ = calls.time_session(session, calls.draw(bundle.spec, 0, 1, setup.size).feeds)
    if setup.known:
        proof = require_proof(bundle, setup.variant, session)
        found: dict[str, Any] = {"worst_psnr": proof.worst_psnr, "samples": proof.samples, "sheet": ""}
    else:
        found = _compared(bundle, session)
    return Facts(
        device=session.device,
        precision=session.precision,
        slow=session.slow,
        details=dict(session.details),
        load_ms=load_ns / 1e6,
        first_call_ms=first_ns / 1e6,
        **found,
    )


def _compared(bundle: Bundle, session: Session) -> dict[str, Any]:
    """Compare the session with the golden samples: what Facts says of that."""
    golden = bundle.golden()
    if golden is None:
        raise UnprovenError(f"{bundle.folder} has no golden samples to compare with: measure the bundle it came from")
    if session.slow:
        golden = golden.subset(1)
    found = run_all(session, bundle.spec.output, golden.feeds(bundle.spec), _PROOF_BATCH)
    agreement = compare(found, golden.images, bundle.spec.output.range)
    failures = agreement.failures(THRESHOLDS[session.precision])
    if failures:
        raise UnprovenError(f"it does not make the original's images: {failures[0]}")
    shown = sheet_of(Golden(golden.seeds, golden.starts, found)).images
    sheet = images.encode_png(images.grid(images.to_uint8(shown, bundle.spec.output.range), columns=len(shown)))
    return {
        "worst_psnr": float(agreement.psnr.min()),
        "samples": len(found),
        "sheet": base64.b64encode(sheet).decode(),
    }


def time_round(generator: Generator, order: Order, size: Size | None = None) -> Round:
    """A round of several pairs starts with one that is not counted: caches and buffers get back to this batch size.
    `size`: of the pictures that the model is given."""
    extra = int(order.pairs > 1)
    session, whole = [], []
    for k in range(-extra, order.pairs):
        inputs = calls.draw(generator.spec, order.first + (k + extra) * order.batch, order.batch, size)
        pair = calls.time_pair(generator, inputs, whole_first=bool(k % 2))
        if k >= 0:
            session.append(pair[0])
            whole.append(pair[1])
    return Round(tuple(session), tuple(whole), _rest(), _peak_mib())


def _rest() -> bool:
    """Wait until this process leaves the processor alone; the threads of some libraries spin on for a while."""
    for _ in range(_RESTS):
        used = clock.processor_ns()
        clock.wait(_REST_S)
        if clock.processor_ns() - used < _QUIET_SHARE * _REST_S * 1e9:
            return True
    return False


def _peak_mib() -> float | None:
    """From the kernel's own record: getrusage also counts the process that started this one."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    peak = next((line.split()[1] for line in lines if line.startswith("VmHWM:")), None)
    return None if peak is None else int(peak) / 1024
