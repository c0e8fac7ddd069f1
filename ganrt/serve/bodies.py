"""Read the body of a request with limits: of its size on the wire and decompressed, and of the time that it takes."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import aclosing

import anyio
from starlette.requests import Request

from ganrt.errors import MediaTypeError, RequestError, TooLargeError

_SLICE = 2**16
"""Bytes that are decompressed at a time: what zlib leaves over is copied."""
_MOST_MEMBERS = 1000
"""Most gzip members of a body; each takes 20 bytes and the time of setting up a decompressor."""
_GZIP, _ZLIB, _RAW_DEFLATE = 31, 15, -15
"""Values of zlib's argument wbits."""


class SlowBodyError(RequestError):
    """A body that did not arrive in time: HTTP 408."""


async def read_body(
    request: Request, limit: int, timeout_s: float, reserve: Callable[[int], None] = lambda _: None
) -> bytes:
    """Read and decompress the body of a request.

    Args:
        limit: most bytes, on the wire as well as decompressed. Not much more than that is held at any time.
        timeout_s: seconds in which the whole body must arrive.
        reserve: is told how many bytes of memory the body takes, as it grows; what it raises ends the reading.

    Raises TooLargeError for a larger body, as soon as that is known; MediaTypeError for a Content-Encoding other than
    gzip or deflate; RequestError for damaged or incomplete data; SlowBodyError; and starlette's ClientDisconnect.
    """
    decoder = _make_decoder(request.headers.getlist("content-encoding"), limit)
    _check_length(request.headers.get("content-length"), limit)
    received = 0
    with anyio.move_on_after(timeout_s) as scope:
        async with aclosing(request.stream()) as stream:
            async for chunk in stream:
                received += len(chunk)
                if received > limit:
                    raise _make_size_error(limit)
                reserve(decoder.add_bytes(chunk))
    if scope.cancelled_caught:
        raise SlowBodyError(f"the body did not arrive within {timeout_s:g} seconds; {received} bytes did")
    return decoder.finish()


def _check_length(text: str | None, limit: int) -> None:
    """Check the header Content-Length, which a request in chunks lacks."""
    if text is None:
        return
    if not (text.isascii() and text.isdigit()):
        raise RequestError(f"the header Content-Length is {text!r:.100}; it must be a number of bytes")
    digits = text.lstrip("0")
    if len(digits) > 18 or int(digits or "0") > limit:
        raise _make_size_error(limit)


def _make_size_error(limit: int) -> TooLargeError:
    return TooLargeError(f"the body is larger than {limit} bytes, the limit of this server")


def _make_decoder(headers: list[str], limit: int) -> _Plain | _Compressed:
    """Return the decoder for all Content-Encoding headers of a request."""
    encoding = ",".join(headers).strip().lower()
    if encoding in ("", "identity"):
        return _Plain()
    if encoding in ("gzip", "x-gzip"):
        return _Compressed("gzip", limit)
    if encoding == "deflate":
        return _Compressed("deflate", limit)
    raise MediaTypeError(f"the body has the Content-Encoding {encoding!r:.100}; gzip or deflate is read, or none")


class _Plain:
    """A body as it comes."""

    def __init__(self) -> None:
        self._body = bytearray()  # a list of chunks would take many times the memory of chunks of one byte

    def add_bytes(self, chunk: bytes) -> int:
        self._body += chunk
        return len(chunk)

    def finish(self) -> bytes:
        return bytes(self._body)


class _Compressed:
    """A body in gzip (RFC 1952, one or more members) or deflate (RFC 1950, or RFC 1951 as some clients send it).

    Args:
        encoding: gzip or deflate.
        limit: most bytes decompressed.
    """

    def __init__(self, encoding: str, limit: int) -> None:
        self._encoding, self._limit = encoding, limit
        self._body = bytearray()
        self._members = 0
        self._inflater = zlib.decompressobj(_GZIP) if encoding == "gzip" else None

    def add_bytes(self, chunk: bytes) -> int:
        """Decompress more of the body. Returns by how many bytes it grew. Raises TooLargeError or RequestError."""
        before = len(self._body)
        for first in range(0, len(chunk), _SLICE):
            self._add_slice(chunk[first : first + _SLICE])
        return len(self._body) - before

    def finish(self) -> bytes:
        """Return the body. Raises RequestError if its end is missing."""
        if self._inflater is None or not self._inflater.eof:
            raise RequestError(f"the body ends in the middle of its {self._encoding} data")
        return bytes(self._body)

    def _add_slice(self, data: bytes) -> None:
        if self._inflater is None:  # deflate, whose format the first byte tells
            self._inflater = zlib.decompressobj(_ZLIB if _is_zlib(data) else _RAW_DEFLATE)
        while data:
            if self._inflater.eof:
                self._inflater = self._open_member()
            room = self._limit + 1 - len(self._body)
            try:
                self._body += self._inflater.decompress(data, room)
            except zlib.error as reason:
                raise RequestError(f"the {self._encoding} data of the body are damaged: {reason}") from reason
            if len(self._body) > self._limit:
                raise TooLargeError(
                    f"the body is larger than {self._limit} bytes when it is decompressed, the limit of this server"
                )
            data = self._inflater.unused_data

    def _open_member(self) -> zlib._Decompress:
        """Return the inflater of the next member of gzip. Other data end with the first."""
        if self._encoding != "gzip":
            raise RequestError("bytes follow the end of the deflate data of the body")
        self._members += 1
        if self._members >= _MOST_MEMBERS:
            raise RequestError(f"the body has more than {_MOST_MEMBERS} gzip members")
        return zlib.decompressobj(_GZIP)


def _is_zlib(data: bytes) -> bool:
    """Return whether data begin with a zlib header: it names method 8 in the lower half of its first byte (RFC 1950,
    2.2). Deflate data do not begin so: that would be a stored block whose padding is not zero (RFC 1951, 3.2.4)."""
    return data[0] & 0x0F == 8
