"""The harness's side of a worker process."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from typing import TypeVar

from .cases import Setup
from .worker import Facts, Failure, Order, Round, serve

_PATIENCE_S = 600.0
"""A worker that is silent for longer hangs."""
_FAREWELL_S = 5.0

_Answer = TypeVar("_Answer", Facts, Round)


class WorkerFailed(Exception):
    """A worker gave up, died or hangs."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class Worker:
    """One fresh process that loads one setup. Every method raises WorkerFailed when it gives up or dies."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, setup), name=f"ganrt-{setup.backend}", daemon=True)
        # Ctrl-C reaches every process of the terminal; this one ends the others, so they need not hear of it.
        heard = signal.signal(signal.SIGINT, signal.SIG_IGN) if _in_main_thread() else None
        try:
            self._process.start()
        finally:
            if heard is not None:
                signal.signal(signal.SIGINT, heard)
        theirs.close()

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def facts(self) -> Facts:
        """Wait until the bundle is loaded and checked; once, before the first round."""
        return self._answer(Facts)

    def round(self, order: Order) -> Round:
        """Time some calls."""
        try:
            self._connection.send(order)
        except OSError as error:
            raise WorkerFailed(self._death()) from error
        return self._answer(Round)

    def close(self) -> None:
        """End the process, kindly at first."""
        with contextlib.suppress(OSError):  # it may be gone already
            self._connection.send(None)
        self._connection.close()
        self._process.join(_FAREWELL_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _answer(self, wanted: type[_Answer]) -> _Answer:
        try:
            if not self._connection.poll(_PATIENCE_S):
                raise WorkerFailed(Failure("Hung", f"it gave no answer in {_PATIENCE_S:.0f} s"))
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise WorkerFailed(self._death()) from error
        if isinstance(answer, Failure):
            raise WorkerFailed(answer)
        if not isinstance(answer, wanted):
            raise WorkerFailed(Failure("BackendError", f"it answered {type(answer).__name__}, not {wanted.__name__}"))
        return answer

    def _death(self) -> Failure:
        self._process.join(_FAREWELL_S)
        code = self._process.exitcode
        if code is not None and code < 0:
            return Failure("Died", f"its process was killed by {signal.Signals(-code).name}")
        return Failure("Died", f"its process ended with exit code {code}")


def _in_main_thread() -> bool:
    """The only one that may set signal handlers."""
    return threading.current_thread() is threading.main_thread()
