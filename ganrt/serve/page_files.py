"""The files of the page, read once."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import Response

_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""The page runs its own scripts alone, and shows pictures that it was sent."""


@cache
def read_page() -> dict[str, tuple[str, bytes]]:
    """Return name -> (media type, content) of every file of the page."""
    found = [file for file in files("ganrt.serve").joinpath("page").iterdir() if file.is_file()]
    return {file.name: (_KINDS["." + file.name.rpartition(".")[2]], file.read_bytes()) for file in found}


def make_router() -> APIRouter:
    """Return the routes of the page. A name is looked up among its files; no path is made of it."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def send_page() -> Response:
        return _answer("index.html")

    @router.get("/page/{name}")
    async def send_file(name: str) -> Response:
        return _answer(name)

    return router


def _answer(name: str) -> Response:
    if name not in read_page():
        raise HTTPException(404)
    kind, content = read_page()[name]
    return Response(content, media_type=kind, headers=_HEADERS)
