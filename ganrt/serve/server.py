"""Run the HTTP server until it is told to stop."""

from __future__ import annotations

import logging
import multiprocessing
import os
import resource
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from ganrt.errors import MachineError, RequestError
from ganrt.machine import usable_cores
from ganrt.serve.app import make_app
from ganrt.serve.connections import TimedProtocol
from ganrt.serve.metrics import MULTIPROCESS, forget_dead_processes
from ganrt.serve.models import Models, log_failure, spread_threads
from ganrt.serve.settings import Settings

_log = logging.getLogger(__name__)

_BACKLOG = 2048
"""Connections that may wait to be accepted."""
_START_S = 120
"""Seconds in which a worker process must import its libraries and answer its supervisor; uvicorn's 5 are few on a small
or busy machine, where it would kill and start workers for ever."""


def bind(host: str, port: int, workers: int = 1) -> socket.socket:
    """Return a socket that listens. For several workers, it only keeps the address, at which each of them listens with
    a socket of its own. Raises RequestError if the address is in use, or is none of this machine."""
    listening = _open_socket(host)
    try:
        listening.bind((host, port))
        listening.listen(_BACKLOG)  # from now on the address is in use
        if workers > 1:
            address = listening.getsockname()
            listening.close()  # it would get its share of the connections
            listening = _open_shared(*address[:2])
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or error
        raise RequestError(
            f"cannot listen on port {port} of {host}: {reason}; choose another --port or --host"
        ) from error
    return listening


def _open_socket(host: str) -> socket.socket:
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return listening


def _open_shared(host: str, port: int) -> socket.socket:
    """Return a socket at an address that other sockets of this user may have too."""
    shared = _open_socket(host)
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    shared.bind((host, port))
    return shared


class _Share(socket.socket):
    """Becomes a socket at the same address in the worker that gets it. The system distributes connections evenly over
    such sockets; of one socket that workers share, the first that wakes up takes all connections that wait."""

    def __reduce__(self) -> tuple[Callable[[str, int], socket.socket], tuple[str, int]]:
        host, port = self.getsockname()[:2]
        return _open_shared, (host, port)


def run_server(settings: Settings, listening: socket.socket, workers: int, on_ready: Callable[[Models], None]) -> None:
    """Serve until SIGTERM or SIGINT. The server then accepts no more connections, answers the requests that it has, and
    this function returns; a second signal ends the process at once.

    Args:
        settings: what is served, and its limits.
        listening: from `bind`; it is closed at the end.
        workers: number of processes, each with the models in its own memory and its part of the processors.
        on_ready: called when the models are ready, with one worker.

    Raises the error of models that cannot be loaded, or that lost their device; MachineError if a worker cannot start.
    """
    _allow_many_connections()
    with listening:
        if workers == 1:
            _run_alone(settings, listening, on_ready)
        else:
            _run_workers(settings, listening, workers)


class _Server(uvicorn.Server):
    """Ends with exit code 0 after a signal, where uvicorn ends by the signal once its work is done."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            _end_by(sig)
        self.should_exit = True


class _Supervisor(Multiprocess):
    """Kills its workers at a second signal, where uvicorn waits for them."""

    killed_by: int | None = None
    """The second signal."""

    def join_all(self) -> None:
        for sig in (signal.SIGINT, signal.SIGTERM):
            signal.signal(sig, self._kill_all)
        super().join_all()

    def _kill_all(self, sig: int, frame: FrameType | None) -> None:
        self.killed_by = sig
        for worker in self.processes:
            worker.process.kill()


def _end_by(sig: int) -> None:
    """End the process as the signal would have done."""
    signal.signal(sig, signal.SIG_DFL)
    signal.raise_signal(sig)


def _run_alone(settings: Settings, listening: socket.socket, on_ready: Callable[[Models], None]) -> None:
    def notice(models: Models) -> None:
        if models.state == "ready":
            on_ready(models)
        elif models.state == "failed":
            server.should_exit = True

    app = make_app(settings, notice)
    server = _Server(configure(settings, app, 1))
    server.run([listening])
    models: Models = app.state.models
    if models.error is not None:
        raise models.error
    if models.is_loading:
        logging.shutdown()
        os._exit(0)  # a proof that is being computed cannot be stopped


def _run_workers(settings: Settings, listening: socket.socket, workers: int) -> None:
    threads = max(1, usable_cores() // workers)
    settings = settings.change_models(partial(spread_threads, threads=threads))
    with tempfile.TemporaryDirectory(prefix="ganrt-metrics-") as folder:
        os.environ[MULTIPROCESS] = folder
        with _Share(listening.family, listening.type, fileno=listening.detach()) as share:
            supervisor = _Supervisor(configure(settings, partial(_make_worker_app, settings), workers), [share])
            supervisor.run()
    if supervisor.killed_by is not None:
        _end_by(supervisor.killed_by)
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        raise MachineError("a worker could not load the models; its message is above")


def _make_worker_app(settings: Settings) -> FastAPI:
    """Return the application of a worker process, which ends if its models fail. The supervisor replaces a worker that
    ends, unless it could not start. Until the new one is ready, the others get all connections."""

    def notice(models: Models) -> None:
        log_failure(models)
        if models.state == "failed":
            os._exit(STARTUP_FAILURE if not models.was_ready else 1)

    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    _prepare_process(settings)
    forget_dead_processes(Path(os.environ[MULTIPROCESS]))
    threading.Thread(target=_follow_parent, name="ganrt-parent", daemon=True).start()
    return make_app(settings, notice, _end_by_signals())


@contextmanager
def _end_by_signals() -> Iterator[None]:
    """Let signals end a process at once that has nothing to answer yet."""
    handlers = {sig: signal.signal(sig, signal.SIG_DFL) for sig in (signal.SIGINT, signal.SIGTERM)}
    yield
    for sig, handler in handlers.items():
        signal.signal(sig, handler)


def _follow_parent() -> None:
    """Stop this worker once its supervisor is gone, however that ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a supervisor"
    parent.join()
    signal.raise_signal(signal.SIGTERM)


def configure(settings: Settings, app: Callable[..., object], workers: int) -> uvicorn.Config:
    """Return the configuration of uvicorn for an application, or for a function that makes one in each of several
    workers."""
    _prepare_process(settings)
    return uvicorn.Config(
        app,
        factory=workers > 1,
        workers=workers,
        http=partial(TimedProtocol, settings.read_timeout_s),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        loop="asyncio",
        log_config=None,
        access_log=settings.access_log,
        server_header=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
        timeout_worker_healthcheck=_START_S,
    )


def _prepare_process(settings: Settings) -> None:
    """Set what belongs to a process and not to the configuration of uvicorn."""
    if settings.access_log:
        logging.getLogger("uvicorn.access").setLevel(logging.INFO)


def _allow_many_connections() -> None:
    """Raise the limit of open files, of which each connection is one, to what the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
