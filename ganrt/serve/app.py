"""The ASGI application: the routes, what every request passes, and the models behind it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

from ganrt import __version__
from ganrt.errors import GanrtError
from ganrt.serve import images_api, page_files, v2_api
from ganrt.serve.desk import Desk
from ganrt.serve.gate import Gate
from ganrt.serve.metrics import Metrics
from ganrt.serve.models import Models, log_failure
from ganrt.serve.open_api import make_document
from ganrt.serve.problems import STATUSES, answer_problem, describe_problems
from ganrt.serve.settings import Settings


def make_app(
    settings: Settings,
    on_change: Callable[[Models], None] = log_failure,
    wait: AbstractContextManager[None] | None = None,
) -> FastAPI:
    """Return the application. It loads the models in a thread once it is started.

    Args:
        settings: what is served, and its limits.
        on_change: called when the models are ready, could not be loaded, or lost their device; by default, the error is
            logged.
        wait: held while the models are loaded, before any connection is accepted; with None, requests are answered
            meanwhile that the server is not ready.
    """
    metrics = Metrics()
    models = Models(settings, metrics, on_change)
    desk = Desk(settings, models, metrics)

    @asynccontextmanager
    async def run_models(app: FastAPI) -> AsyncIterator[None]:
        loading = threading.Thread(target=models.load, name="ganrt-load", daemon=True)
        loading.start()
        if wait is not None:
            with wait:
                await asyncio.to_thread(loading.join)
        yield
        await asyncio.to_thread(models.close)

    handlers = dict.fromkeys([*STATUSES, GanrtError, HTTPException, ClientDisconnect, Exception], answer_problem)
    app = FastAPI(
        title="ganrt",
        version=__version__,
        description="Pictures of image generators, by seed or of other pictures.",
        lifespan=run_models,
        middleware=_list_gates(settings, desk),
        exception_handlers=handlers,  # type: ignore[arg-type]
        docs_url=None,  # FastAPI's pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # it would redirect to the host that the client names
    )
    app.state.models = models
    app.include_router(images_api.make_router(desk))
    app.include_router(v2_api.make_router(desk))
    app.include_router(page_files.make_router())

    @app.get(
        "/metrics", summary="Prometheus metrics", response_class=PlainTextResponse, responses=describe_problems(401)
    )
    async def write_metrics(request: Request) -> Response:
        return Response(metrics.write(), media_type=metrics.content_type)

    app.openapi = make_document(app, settings.token is not None)  # type: ignore[method-assign]
    return app


def _list_gates(settings: Settings, desk: Desk) -> list[Middleware]:
    """Return what every request passes, from the outermost inwards."""
    gates = [Middleware(Gate, desk=desk)]
    if settings.origins:
        names = ("Model", "Batch", "Seed", "Index", "Label")
        cors = Middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=("GET", "POST"),
            allow_headers=("Authorization", "Content-Type"),
            expose_headers=["Retry-After", "Server-Timing", *(f"X-Ganrt-{name}" for name in names)],
        )
        gates.insert(0, cors)  # a browser asks without the token whether it may send it
    return gates
