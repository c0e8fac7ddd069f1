"""Run the HTTP server until it is told to stop."""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import tempfile
from collections.abc import Callable
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

_BACKLOG = 2048
"""Connections that may wait to be accepted."""


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises RequestError if the address is in use, or is none of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or error
        raise RequestError(
            f"cannot listen on port {port} of {host}: {reason}; choose another --port or --host"
        ) from error
    listening.set_inheritable(True)
    return listening


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
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
        self.should_exit = True


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
        supervisor = Multiprocess(configure(settings, partial(_make_worker_app, settings), workers), [listening])
        supervisor.run()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        raise MachineError("a worker could not load the models; its message is above")


def _make_worker_app(settings: Settings) -> FastAPI:
    """Return the application of a worker process, which ends if its models fail. The supervisor replaces a worker that
    ends, unless it could not start."""

    def notice(models: Models) -> None:
        log_failure(models)
        if models.state == "failed":
            os._exit(STARTUP_FAILURE if not models.was_ready else 1)

    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    _prepare_process(settings)
    forget_dead_processes(Path(os.environ[MULTIPROCESS]))
    return make_app(settings, notice)


def configure(settings: Settings, app: Callable[..., object], workers: int) -> uvicorn.Config:
    """Return the configuration of uvicorn for an application, or for a function that makes one in each of several
    workers."""
    _prepare_process(settings)
    return uvicorn.Config(
        app,
        factory=workers > 1,
        workers=workers,
        http=TimedProtocol,
        ws="none",
        lifespan="on",
        loop="asyncio",
        log_config=None,
        access_log=settings.access_log,
        server_header=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
    )


def _prepare_process(settings: Settings) -> None:
    """Set what belongs to a process and not to the configuration of uvicorn."""
    TimedProtocol.timeout_s = settings.read_timeout_s
    if settings.access_log:
        logging.getLogger("uvicorn.access").setLevel(logging.INFO)


def _allow_many_connections() -> None:
    """Raise the limit of open files, of which each connection is one, to what the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
