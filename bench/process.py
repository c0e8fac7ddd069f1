"""The parent's side of a worker process."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from typing import TypeVar

from .cases import Setup
from .worker import Facts, Failure, Round, RoundRequest, serve

_TIMEOUT_S = 600.0
"""A worker that does not answer within this time hangs."""
_EXIT_TIMEOUT_S = 5.0
"""A worker that does not end within this time is killed."""

_Answer = TypeVar("_Answer", Facts, Round)


class WorkerFailed(Exception):
    """A worker raised an error, died or hangs. `failure` has the reason."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class Worker:
    """A fresh process that loads one setup. Every method but `close` raises WorkerFailed."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=serve, args=(theirs, setup), name=f"ganrt-{setup.config.backend}", daemon=True
        )
        # Ctrl-C interrupts every process of the terminal. This process ends its workers itself, so they ignore it.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if _in_main_thread() else None
        try:
            self._process.start()
        finally:
            if handler is not None:
                signal.signal(signal.SIGINT, handler)
        theirs.close()

    @property
    def pid(self) -> int | None:
        """Process id."""
        return self._process.pid

    def wait_until_loaded(self) -> Facts:
        """Wait until the bundle is loaded and proven. Call it once, before the first round."""
        return self._receive(Facts)

    def time_round(self, request: RoundRequest) -> Round:
        """Time some calls."""
        try:
            self._connection.send(request)
        except OSError as error:
            raise WorkerFailed(self._describe_exit()) from error
        return self._receive(Round)

    def close(self) -> None:
        """Ask the process to end; kill it if it does not."""
        with contextlib.suppress(OSError):  # it may have ended already
            self._connection.send(None)
        self._connection.close()
        self._process.join(_EXIT_TIMEOUT_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _receive(self, kind: type[_Answer]) -> _Answer:
        try:
            if not self._connection.poll(_TIMEOUT_S):
                raise WorkerFailed(Failure("Hung", f"it gave no answer in {_TIMEOUT_S:.0f} s"))
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise WorkerFailed(self._describe_exit()) from error
        if isinstance(answer, Failure):
            raise WorkerFailed(answer)
        if not isinstance(answer, kind):
            raise WorkerFailed(Failure("BackendError", f"it answered {type(answer).__name__}, not {kind.__name__}"))
        return answer

    def _describe_exit(self) -> Failure:
        self._process.join(_EXIT_TIMEOUT_S)
        code = self._process.exitcode
        if code is not None and code < 0:
            return Failure("Died", f"its process was killed by {signal.Signals(-code).name}")
        return Failure("Died", f"its process ended with exit code {code}")


def _in_main_thread() -> bool:
    """Whether this thread may set signal handlers; only the main thread may."""
    return threading.current_thread() is threading.main_thread()
