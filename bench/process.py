"""The parent's side of a worker process."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from .cases import Setup
from .worker import Facts, Failure, Round, RoundRequest, serve

_TIMEOUT_S = 600.0
"""A worker that does not answer within this time hangs."""
_EXIT_TIMEOUT_S = 5.0
"""A worker that does not end within this time is killed."""

_Answer = TypeVar("_Answer")


class WorkerFailed(Exception):
    """A worker raised an error, died or hangs. `failure` has the reason."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class WorkerProcess:
    """A fresh process that answers requests through a pipe. `request` and `receive` raise WorkerFailed."""

    def __init__(self, serve: Callable[[Connection, Any], None], task: object, name: str) -> None:
        """Start it.

        Args:
            serve: function of a module; called in the process with its end of the pipe and the task. It returns when it
                receives None, or when this end is closed.
            task: what it gets, pickled.
            name: of the process.
        """
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, task), name=name, daemon=True)
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

    def request(self, request: object, kind: type[_Answer]) -> _Answer:
        """Send a request and wait for its answer, a `kind`."""
        try:
            self._connection.send(request)
        except OSError as error:
            raise WorkerFailed(self._describe_exit()) from error
        return self.receive(kind)

    def close(self) -> None:
        """Ask the process to end; kill it if it does not."""
        with contextlib.suppress(OSError):  # it may have ended already
            self._connection.send(None)
        self._connection.close()
        self._process.join(_EXIT_TIMEOUT_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def receive(self, kind: type[_Answer]) -> _Answer:
        """Wait for an answer, a `kind`."""
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


class Worker(WorkerProcess):
    """A fresh process that loads one setup. Every method but `close` raises WorkerFailed."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        super().__init__(serve, setup, f"ganrt-{setup.config.backend}")

    def wait_until_loaded(self) -> Facts:
        """Wait until the bundle is loaded and proven. Call it once, before the first round."""
        return self.receive(Facts)

    def time_round(self, request: RoundRequest) -> Round:
        """Time some calls."""
        return self.request(request, Round)


def _in_main_thread() -> bool:
    """Whether this thread may set signal handlers; only the main thread may."""
    return threading.current_thread() is threading.main_thread()
