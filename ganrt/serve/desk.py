"""`Desk`: what the handlers of all requests share: reading a body within limits, placing an order, waiting for its
answer while the client is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import ParamSpec, TypeVar

import anyio
import anyio.to_thread
from starlette.requests import ClientDisconnect, Request

from ganrt.errors import DeadlineError, DeviceLostError
from ganrt.machine import usable_cores
from ganrt.serve.bodies import read_body
from ganrt.serve.byte_budget import ByteBudget
from ganrt.serve.jobs import Answer
from ganrt.serve.metrics import Metrics
from ganrt.serve.models import Model, Models
from ganrt.serve.order import Order, place_order
from ganrt.serve.settings import Settings

_P = ParamSpec("_P")
_T = TypeVar("_T")

IMAGES_PATH = "/v1/images"
"""Path of requests for pictures of any model."""


class Desk:
    """One per server."""

    def __init__(self, settings: Settings, models: Models, metrics: Metrics) -> None:
        self.settings, self.models, self.metrics = settings, models, metrics
        self.budget = ByteBudget()
        """Memory of all requests."""
        self._threads = anyio.CapacityLimiter(usable_cores())

    def reject_if_full(self, path: str) -> None:
        """Raise OverloadedError if every model that a request to a path can mean is full. This is done before the body
        is read: what is spent on requests that are rejected is missing for the others."""
        if self.models.state != "ready":
            return
        meant = [m for m in self.models if path == IMAGES_PATH or path.startswith(f"/v2/models/{m.name}/")]
        errors = [model.batcher.find_overload() for model in meant]
        found = [error for error in errors if error is not None]
        if found and len(found) == len(errors):
            meant[0].batcher.monitor.rows_dropped("full", 1)
            raise min(found, key=lambda error: error.retry_after_s)

    async def read_body(self, request: Request) -> bytes:
        """Read the body of a request, whose bytes are reserved as they come. Raises what `ganrt.serve.bodies.read_body`
        and `Reservation.grow` raise."""
        settings = self.settings
        return await read_body(request, settings.max_body, settings.read_timeout_s, request.state.reservation.grow)

    async def run(self, is_quick: bool, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Do some work: here if it takes less time than to hand it over, else in one of as many threads as there are
        processors, so that others are served meanwhile."""
        if is_quick:
            return work(*args, **kwargs)
        return await anyio.to_thread.run_sync(lambda: work(*args, **kwargs), limiter=self._threads)

    async def answer(self, request: Request, model: Model, order: Order) -> Answer:
        """Place an order and wait for its answer. If the client goes away meanwhile, its rows are dropped.

        Raises what `place_order` and the future of the answer raise; DeadlineError after the timeout, ClientDisconnect.
        """
        timeout_s = min(order.timeout_s or self.settings.timeout_s, self.settings.timeout_s)
        order = replace(order, timeout_s=timeout_s)
        limits = (self.settings.max_pixels, request.state.reservation.grow)
        try:
            future = await self.run(not order.pictures, place_order, model, order, *limits)
            return await _await_answer(request, future, timeout_s)
        except DeviceLostError as error:  # maybe in a batch of others, whose clients are gone
            self.models.lose_device(error)
            raise


async def _await_answer(request: Request, future: Future[Answer], timeout_s: float) -> Answer:
    """Wait for an answer while the client is there, or cancel it."""
    answered: asyncio.Future[Answer] = asyncio.wrap_future(future)
    gone: asyncio.Future[None] = asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        await asyncio.wait((answered, gone), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if answered.done():
            return answered.result()
        if gone.done():
            raise ClientDisconnect
        raise DeadlineError(f"the pictures were not made within {timeout_s:g} seconds")
    finally:
        answered.cancel()
        gone.cancel()


async def _wait_for_disconnect(request: Request) -> None:
    """Return when the client is gone. The body has been read, so that no other message comes."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
