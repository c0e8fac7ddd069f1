"""`Gate`: what every HTTP request passes first: the token, the memory that it may use, the count of its answer."""

from __future__ import annotations

import hmac

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ganrt.serve.clock import now
from ganrt.serve.desk import Desk

_OPEN = ("/", "/v2/health/live", "/v2/health/ready")
"""Paths that need no token, as the files of the page below do."""
_PAGE = "/page/"
_CHUNK = 2**16
"""Bytes that are sent at a time. The server waits for the client to take them before it sends more, so that it knows
how long an answer occupies memory."""


class Gate:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, desk: Desk) -> None:
        self._app, self._desk = app, desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = now(), 499  # of clients that went away

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await _send_in_chunks(message, send)

        request = Request(scope)
        if not self._is_allowed(request):
            answer = JSONResponse({"error": "send the token of this server: Authorization: Bearer TOKEN"}, 401)
            answer.headers["WWW-Authenticate"] = "Bearer"
            await answer(scope, receive, send_counted)
            return
        with self._desk.budget.reserve() as reservation:
            request.state.reservation, request.state.model = reservation, None
            try:
                await self._app(scope, receive, send_counted)
            finally:
                if scope["path"] == "/v1/images" or scope["path"].endswith("/infer"):
                    model = request.state.model
                    self._desk.metrics.count_request(model.labels if model else ("", ""), status, now() - started)

    def _is_allowed(self, request: Request) -> bool:
        token, path = self._desk.settings.token, request.url.path
        if token is None or path in _OPEN or path.startswith(_PAGE):
            return True
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())


async def _send_in_chunks(message: Message, send: Send) -> None:
    body = message.get("body", b"")
    if len(body) <= _CHUNK:
        await send(message)
        return
    view = memoryview(body)
    for first in range(0, len(body), _CHUNK):
        await send({"type": "http.response.body", "body": bytes(view[first : first + _CHUNK]), "more_body": True})
    await send({**message, "body": b""})
