"""The ASGI application: the routes, what every request passes, and the models behind it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
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
from ganrt.serve.problems import STATUSES, answer_problem
from ganrt.serve.settings import Settings


def make_app(settings: Settings, on_change: Callable[[Models], None] = log_failure) -> FastAPI:
    """Return the application. It loads the models in a thread once it is started, and answers meanwhile that it is not
    ready.

    Args:
        settings: what is served, and its limits.
        on_change: called when the models are ready, could not be loaded, or lost their device; by default, the error is
            logged.
    """
    metrics = Metrics()
    models = Models(settings, metrics, on_change)
    desk = Desk(settings, models, metrics)

    @asynccontextmanager
    async def run_models(app: FastAPI) -> AsyncIterator[None]:
        loading = threading.Thread(target=models.load, name="ganrt-load", daemon=True)
        loading.start()
        yield
        await asyncio.to_thread(models.close)

    gates = [Middleware(Gate, desk=desk)]
    if settings.origins:
        headers = ["Server-Timing", "X-Ganrt-Model", "X-Ganrt-Batch", "X-Ganrt-Seed", "X-Ganrt-Index", "X-Ganrt-Label"]
        cors = Middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=("GET", "POST"),
            allow_headers=("Authorization", "Content-Type"),
            expose_headers=headers,
        )
        gates.insert(0, cors)  # a browser asks without the token whether it may send it
    handlers = dict.fromkeys([*STATUSES, GanrtError, HTTPException, ClientDisconnect, Exception], answer_problem)
    app = FastAPI(
        title="ganrt",
        version=__version__,
        description="Pictures of image generators, by seed or of other pictures.",
        lifespan=run_models,
        middleware=gates,
        exception_handlers=handlers,  # type: ignore[arg-type]
        docs_url=None,  # FastAPI's pages load scripts from elsewhere
        redoc_url=None,
    )
    app.state.models = models
    app.include_router(images_api.make_router(desk))
    app.include_router(v2_api.make_router(desk))
    app.include_router(page_files.make_router())

    @app.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def write_metrics(request: Request) -> Response:
        return Response(metrics.write(), media_type=metrics.content_type)

    return app
