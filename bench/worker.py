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

import numpy as np

from ganrt import feeds, images
from ganrt.agreement import THRESHOLDS, compare
from ganrt.backend import Session, backend_module
from ganrt.batching import run_all
from ganrt.bundle import Bundle
from ganrt.errors import BackendError, GanrtError, UnprovenError
from ganrt.generator import Generator
from ganrt.golden import Golden

from . import clock
from .cases import Setup

SEED = 0
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
    """PNG, base64: its pictures of the first golden samples (`sheet_of`)."""


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
    sample: tuple[int, ...]
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
                connection.send(time_round(generator, order))
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
    session = backend_module(setup.backend).open(bundle, setup.variant, setup.device)
    load_ns = clock.now_ns() - started
    try:
        connection.send(_facts(bundle, session, load_ns))
    except BaseException:
        session.close()
        raise
    return Generator(bundle.spec, session)


def _facts(bundle: Bundle, session: Session, load_ns: int) -> Facts:
    """Compare the session with the golden samples. Raises UnprovenError when it does not make the original's images,
    because the speed of wrong pictures is worth nothing."""
    golden = bundle.golden()
    if golden is None:
        raise UnprovenError(f"{bundle.folder} has no golden samples to compare with: measure the bundle it came from")
    if session.slow:
        golden = golden.subset(1)
    first_ns, _ = _timed_call(session, feeds.draw(bundle.spec, SEED, 0, 1))
    found = run_all(session, bundle.spec.output, golden.feeds(bundle.spec), _PROOF_BATCH)
    agreement = compare(found, golden.images, bundle.spec.output.range)
    failures = agreement.failures(THRESHOLDS[session.precision])
    if failures:
        raise UnprovenError(f"it does not make the original's images: {failures[0]}")
    shown = sheet_of(Golden(golden.seeds, golden.starts, found)).images
    sheet = images.encode_png(images.grid(images.to_uint8(shown, bundle.spec.output.range), columns=len(shown)))
    return Facts(
        device=session.device,
        precision=session.precision,
        slow=session.slow,
        details=dict(session.details),
        load_ms=load_ns / 1e6,
        first_call_ms=first_ns / 1e6,
        worst_psnr=float(agreement.psnr.min()),
        samples=len(found),
        sheet=base64.b64encode(sheet).decode(),
    )


def time_round(generator: Generator, order: Order) -> Round:
    """A round of several pairs starts with one that is not counted: caches and buffers get back to this batch size."""
    extra = int(order.pairs > 1)
    session, sample = [], []
    for k in range(-extra, order.pairs):
        inputs = feeds.draw(generator.spec, SEED, order.first + (k + extra) * order.batch, order.batch)
        pair = _pair(generator, inputs, order.first + (k + extra) * order.batch, sample_first=bool(k % 2))
        if k >= 0:
            session.append(pair[0])
            sample.append(pair[1])
    return Round(tuple(session), tuple(sample), _rest(), _peak_mib())


def _pair(generator: Generator, inputs: feeds.Feeds, first: int, sample_first: bool) -> tuple[int, int]:
    """Time both scopes on the same inputs, in either order, and check that they made the same pictures."""
    batch = len(next(iter(inputs.values())))
    if sample_first:
        sample_ns, pictures = _timed_sample(generator, batch, first)
        session_ns, raw = _timed_call(generator.session, inputs)
    else:
        session_ns, raw = _timed_call(generator.session, inputs)
        sample_ns, pictures = _timed_sample(generator, batch, first)
    same = images.to_uint8(raw[generator.spec.output.name], generator.spec.output.range)
    if same.shape != pictures.shape or int(np.abs(same.astype(np.int16) - pictures).max()) > 1:
        raise BackendError("the session and Generator.sample made different pictures of the same inputs while timed")
    return session_ns, sample_ns


def _timed_call(session: Session, inputs: feeds.Feeds) -> tuple[int, dict[str, feeds.Array]]:
    started = clock.now_ns()
    outputs = session.submit(inputs).wait()
    return clock.now_ns() - started, outputs


def _timed_sample(generator: Generator, batch: int, first: int) -> tuple[int, images.Pictures]:
    started = clock.now_ns()
    pictures = generator.sample(batch, SEED, first)
    return clock.now_ns() - started, pictures


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
