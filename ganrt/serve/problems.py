"""What goes wrong with a request, as an HTTP status and a sentence."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

from ganrt.errors import (
    ArtifactError,
    ClosedError,
    DeadlineError,
    DeviceLostError,
    DeviceMemoryError,
    MediaTypeError,
    OverloadedError,
    RequestError,
    TooLargeError,
)
from ganrt.serve.bodies import SlowBodyError
from ganrt.serve.models import UnknownModelError

_log = logging.getLogger(__name__)


class NotAcceptableError(RequestError):
    """The client accepts no format in which the server answers."""


STATUSES: Mapping[type[Exception], int] = {
    UnknownModelError: 404,
    NotAcceptableError: 406,
    SlowBodyError: 408,
    TooLargeError: 413,
    MediaTypeError: 415,
    RequestError: 400,
    ArtifactError: 400,
    OverloadedError: 429,
    ClosedError: 503,
    DeviceLostError: 503,
    DeviceMemoryError: 503,
    DeadlineError: 504,
}
"""Error -> status; the first that fits. Others are defects of the server or the model: 500."""
_CLIENT_GONE = 499
"""nginx's status for a request whose client went away; nobody reads it, but it is counted."""
_PHRASES = {
    400: "The request is wrong",
    401: "The token is missing or wrong",
    404: "There is no such model",
    406: "No accepted format",
    408: "The body came too slowly",
    413: "Above a limit of the server",
    415: "Unsupported media type or encoding",
    429: "Overloaded; `Retry-After` says when to try again",
    503: "Not ready, or shutting down",
    504: "Not done before the timeout",
}


class Problem(BaseModel):
    """The body of every answer that is an error."""

    error: str


def describe_problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the entry `responses` of a route for these statuses, for OpenAPI."""
    return {status: {"model": Problem, "description": _PHRASES[status]} for status in statuses}


def answer_problem(request: Request, error: Exception) -> JSONResponse:
    """Return the answer to a request that raised an error. What is no fault of the client's is logged."""
    if isinstance(error, HTTPException):
        detail = {
            404: f"there is nothing at {request.scope['path']!r:.100}",
            405: f"{request.method} is not allowed here",
        }
        return JSONResponse({"error": detail.get(error.status_code, error.detail)}, error.status_code, error.headers)
    if isinstance(error, ClientDisconnect):
        return JSONResponse({"error": "the client is gone"}, _CLIENT_GONE)
    status = next((status for kind, status in STATUSES.items() if isinstance(error, kind)), 500)
    if status == 500:
        _log.error("%s %.100r failed", request.method, request.scope["path"], exc_info=error)
        return JSONResponse({"error": "the server failed to compute this; its log says why"}, 500)
    headers = {}
    if isinstance(error, OverloadedError):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    return JSONResponse({"error": str(error)}, status, headers)
