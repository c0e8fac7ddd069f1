"""`Gate`: what every HTTP request passes first: the token, the memory that it may use, the count of its answer."""

from __future__ import annotations

import hmac

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ganrt.errors import OverloadedError
from ganrt.serve.clock import now
from ganrt.serve.desk import IMAGES_PATH, Desk
from ganrt.serve.problems import answer_problem

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
        if answer := self._reject(request):
            await answer(scope, receive, send_counted)
            return
        with self._desk.budget.reserve() as reservation:
            request.state.reservation, request.state.model = reservation, None
            path = scope["path"]
            wants_pictures = scope["method"] == "POST" and (path == IMAGES_PATH or path.endswith("/infer"))
            try:
                if wants_pictures:
                    self._desk.reject_if_full(path)
                await self._app(scope, receive, send_counted)
            except OverloadedError as error:
                await answer_problem(request, error)(scope, receive, send_counted)
            except Exception:
                status = 500  # it is answered outside of this
                raise
            finally:
                if wants_pictures:
                    model = request.state.model
                    self._desk.metrics.count_request(model.labels if model else ("", ""), status, now() - started)

    def _reject(self, request: Request) -> JSONResponse | None:
        """Return the answer to a request that goes no further."""
        if not self._is_allowed(request):
            answer = {"error": "send the token of this server: Authorization: Bearer TOKEN"}
            return JSONResponse(answer, 401, {"WWW-Authenticate": "Bearer"})
        if {"content-length", "transfer-encoding"} <= {*request.headers.keys()}:
            answer = {"error": "the request has both Content-Length and Transfer-Encoding: send one of them"}
            return JSONResponse(answer, 400, {"Connection": "close"})
        if request.scope["path"].endswith("\n"):  # the pattern of a route would fit: `$` ignores this line feed
            return answer_problem(request, HTTPException(404))
        return None

    def _is_allowed(self, request: Request) -> bool:
        # The path that is routed: that of `request.url` depends on the header Host, which clients choose.
        token, path = self._desk.settings.token, request.scope["path"]
        if token is None or path in _OPEN or path.startswith(_PAGE):
            return True
        headers = request.headers.getlist("authorization")  # a proxy may have checked another one than the first
        kind, _, given = (headers[0] if len(headers) == 1 else "").partition(" ")
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
