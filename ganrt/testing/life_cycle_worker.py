"""The process that `ganrt.testing.check_life_cycle` starts: opens sessions, and reports the first broken promise."""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from ganrt.agreement import THRESHOLDS, compare
from ganrt.backend import BackendModule, Session, backend_table, import_backend
from ganrt.bundle import Bundle
from ganrt.errors import ContractError, GanrtError
from ganrt.feeds import Array, Feeds
from ganrt.levels import find_levels
from ganrt.testing.memory_growth import describe_growth, read_resident_bytes

_FORKS = 3
_CYCLES = 8
_SLACK = 16 * 2**20
"""Bytes by which memory may grow: allocators do not return everything."""
_MOST_BATCHES = 500
_LOOKUPS = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.connect")


@dataclass
class _Case:
    """What the checks share."""

    module: BackendModule
    bundle: Bundle
    request: dict[str, Any]
    feeds: Feeds
    """Golden samples, as many as the session takes at a time."""
    expected: Array
    """The right images of them."""

    def open(self) -> Session:
        request = self.request
        return self.module.open(self.bundle, request["variant"], request["device"], **request["options"])

    def compute(self, session: Session) -> Array:
        """Compute the golden samples. Raises ContractError if the images are wrong."""
        images = session.submit(self.feeds).wait()[self.bundle.spec.output.name]
        limit = THRESHOLDS[self.bundle.variant(self.request["variant"]).precision]
        if reasons := compare(images, self.expected, find_levels(self.bundle.spec.output)).failures(limit):
            raise ContractError("the images are right", reasons[-1])
        return images

    def fork(self, act: Callable[[], object]) -> str | None:
        """Let a forked child act, and then end as any Python program does. A GanrtError is a right answer.

        Returns what went wrong; None if nothing did.
        """
        receiving, sending = os.pipe()
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(self.request["deadline"])
            try:
                act()
            except ContractError as error:
                os.write(sending, error.found.encode()[:4000])
            except GanrtError:
                pass
            except Exception as error:
                os.write(sending, f"it raised {type(error).__name__}: {error}".encode()[:4000])
            os.write(sending, b"\0")
            sys.exit(0)
        os.close(sending)
        _, status = os.waitpid(child, 0)
        with os.fdopen(receiving, "rb") as pipe:
            said = pipe.read().decode(errors="replace")
        doing = "ending" if said.endswith("\0") else "computing"
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            return f"it hung while {doing}" if number == signal.SIGALRM else f"signal {number} ended it while {doing}"
        reason = said.rstrip("\0")
        return reason or (f"it ended with status {os.WEXITSTATUS(status)}" if status else None)


def _check_home(case: _Case) -> str | None:
    """A session opens and computes in any environment."""
    with case.open() as session:
        case.compute(session)
    return None


def _check_fork(case: _Case) -> str | None:
    """In a child forked after a session was opened, `submit` makes the right images or raises a GanrtError, and the
    child ends."""
    session = case.open()
    case.compute(session)

    def use_and_close() -> None:
        try:
            case.compute(session)
        finally:
            session.close()

    for act in (lambda: None, lambda: case.compute(session), use_and_close):
        if found := case.fork(act):
            return found
    session.close()
    found = case.fork(lambda: None)
    return found and f"after the session was closed, {found}"


def _check_opening_in_a_child(case: _Case) -> str | None:
    """A child forked after a session was opened can open its own, which makes the right images or raises a
    GanrtError."""

    def open_another() -> None:
        with case.open() as another:
            case.compute(another)

    with case.open() as session:
        case.compute(session)
        return case.fork(open_another)


def _check_fork_while_computing(case: _Case) -> str | None:
    """In a child forked while another thread computes, nothing hangs, and the images of the other thread stay right."""
    session, done = case.open(), threading.Event()
    failures: list[Exception] = []

    def keep_computing() -> None:
        try:
            while not done.is_set():
                case.compute(session)
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=keep_computing)
    thread.start()
    found = [case.fork(lambda: case.compute(session)) for _ in range(_FORKS)]
    done.set()
    thread.join()
    session.close()
    found += [f"in the parent it raised {type(error).__name__}: {error}" for error in failures]
    return next(filter(None, found), None)


def _check_leaks(case: _Case) -> str | None:
    """A session that is closed, or forgotten, leaves no thread and no open file behind."""
    for forget in (False, True):
        before: tuple[int, int] = (0, 0)
        for cycle in range(2 + _CYCLES):
            session: Session | None = case.open()
            assert session is not None
            case.compute(session)
            if not forget:
                session.close()
            session = None
            gc.collect()
            if cycle < 2:
                before = _count_threads_and_files()
        how = "forgotten" if forget else "closed"
        for what, old, new in zip(("threads", "files"), before, _count_threads_and_files(), strict=True):
            if new - old >= _CYCLES:
                return f"after {_CYCLES} sessions that were {how} there are {new - old} more open {what}"
    return None


def _count_threads_and_files() -> tuple[int, int]:
    return len(list(Path("/proc/self/task").iterdir())), len(list(Path("/proc/self/fd").iterdir()))


def _check_memory_over_samples(case: _Case) -> str | None:
    """Memory does not grow with the number of batches."""
    with case.open() as session:
        if session.slow:
            return None
        count = min(_MOST_BATCHES, 2 * _SLACK // case.expected.nbytes + 20)
        grown = _measure_growth(lambda: session.submit(case.feeds).wait(), count)
    return f"{count} batches of {len(case.expected)} took {grown / 2**20:.0f} MiB" if grown > _SLACK else None


def _check_memory_over_sizes(case: _Case) -> str | None:
    """Memory does not grow with the number of different picture sizes."""
    with case.open() as session:
        return None if session.slow else describe_growth(session, case.bundle.spec, case.feeds)


def _measure_growth(act: Callable[[], object], count: int) -> int:
    """Bytes of resident memory that `count` calls take, after as many calls to warm up."""
    for _ in range(count):
        act()
    before = read_resident_bytes()
    for _ in range(count):
        act()
    return read_resident_bytes() - before


_PROMISES = (
    _check_home,
    _check_fork,
    _check_opening_in_a_child,
    _check_fork_while_computing,
    _check_leaks,
    _check_memory_over_samples,
    _check_memory_over_sizes,
)


def main(report: str) -> None:
    """Read a request from standard input and write what was found to the file `report`."""
    asked: list[str] = []

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event in _LOOKUPS:
            asked.append(f"{event}({arguments[-1 if event == 'socket.connect' else 0]!r:.100})")

    sys.addaudithook(watch)
    request = json.loads(sys.stdin.read())
    found = _find_broken_promise(request)
    if not found and asked:
        found = {"promise": "no name server is asked, and nothing is connected to", "found": asked[0]}
    Path(report).write_text(json.dumps(found or {"kept": True}))


def _find_broken_promise(request: dict[str, Any]) -> dict[str, str]:
    case: _Case | None = None
    for check in _PROMISES[:1] if request["homeless"] else _PROMISES:
        promise = " ".join(str(check.__doc__).rstrip(".").split())
        try:
            case = case or _make_case(request)
            found = check(case)
        except ContractError as error:
            found = error.found
        except Exception as error:
            found = f"it raised {type(error).__name__}: {error}"
        if found is not None:
            return {"promise": promise, "found": found}
    return {}


def _make_case(request: dict[str, Any]) -> _Case:
    bundle = Bundle.read(request["bundle"])
    golden = bundle.read_golden()
    assert golden is not None, "a bundle has golden samples"
    module = _import(request["backend"])
    with module.open(bundle, request["variant"], request["device"], **request["options"]) as session:
        size = min(session.batch_sizes, default=2)
    rows = np.arange(size) % len(golden.groups[0].images)
    feeds = {
        name: np.ascontiguousarray(array[rows]) for name, array in golden.groups[0].draw_feeds(bundle.spec).items()
    }
    return _Case(module, bundle, request, feeds, golden.groups[0].images[rows])


def _import(name: str) -> BackendModule:
    if name in backend_table():
        return import_backend(name)
    module, _, attribute = name.partition(":")
    found = importlib.import_module(module)
    return cast(BackendModule, getattr(found, attribute) if attribute else found)
