"""Parse JSON from clients that are not trusted.

Files of ganrt are read by `ganrt.json_reader`. A request is stricter: a key that is there twice is an error, and what
JSON text may cost is bounded before anything is built from it. Long strings are allowed, because pictures come as
base64; many numbers are not, because tensors have a binary form.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np

from ganrt.errors import RequestError, TooLargeError

_MAX_SKELETON = 2**20
"""Most bytes of JSON without the contents of its strings; also most backslashes, each of which takes long to read."""
_MAX_DEPTH = 100
"""Most lists and objects inside each other."""
_MAX_DIGITS = 1000
"""Most digits in a row; Python takes quadratic time to read a whole number."""
_LONG_NUMBER = re.compile(rb"(?<![0-9])[0-9]{%d}" % (_MAX_DIGITS + 1))
_LONE_SURROGATE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
"""Half of a character: such a string cannot be written as UTF-8, in an answer or a log."""


def parse_json(body: bytes) -> object:
    """Parse the JSON text of a request: UTF-8, any value. Takes time linear in the length, whatever the text is.

    Raises TooLargeError if the text is longer than 1 MiB without the contents of its strings, or has as many
    backslashes. Raises RequestError if it is empty, not UTF-8, not JSON, nested deeper than 100, has a number of more
    than 1000 digits in a row or beyond the range of float64, NaN or Infinity, a key twice in an object, or half of a
    surrogate pair.
    """
    if not body:
        raise RequestError("JSON is expected, but the request has none")
    try:
        text = body.decode()
    except UnicodeDecodeError as reason:
        raise RequestError(f"the JSON of the request is not UTF-8: {reason.reason} at byte {reason.start}") from reason
    _check_costs(body)
    try:
        return json.loads(
            text, parse_float=_parse_float, parse_constant=_reject_constant, object_pairs_hook=_build_object
        )
    except json.JSONDecodeError as reason:
        raise RequestError(f"the request is not JSON: {reason}") from reason


def _check_costs(body: bytes) -> None:
    """Check what can be seen without parsing: size without strings, depth, digits, and escapes of half characters."""
    if body.count(b"\\") > _MAX_SKELETON:
        raise TooLargeError(f"the JSON of the request has more than {_MAX_SKELETON} backslashes")
    plain = body.replace(rb"\\", b"..").replace(rb"\"", b"..")  # what is left of `"` begins or ends a string
    if plain.count(b'"') > _MAX_SKELETON:  # each is in the skeleton: so a split stays small
        raise _make_size_error()
    skeleton = b'""'.join(plain.split(b'"')[::2])
    if len(skeleton) > _MAX_SKELETON:
        raise _make_size_error()
    codes = np.frombuffer(skeleton, np.uint8)
    opened, closed = ((codes == ord(a)) | (codes == ord(b)) for a, b in ("[{", "]}"))
    depth = np.cumsum(opened.astype(np.int32) - closed).max(initial=0)
    if depth > _MAX_DEPTH:
        raise RequestError(f"the JSON of the request is nested {depth} deep; {_MAX_DEPTH} is the limit")
    if _LONG_NUMBER.search(skeleton):
        raise RequestError(f"the JSON of the request has a number of more than {_MAX_DIGITS} digits")
    if found := _LONE_SURROGATE.search(plain):
        raise RequestError(f"the JSON of the request has {found[0].decode()} without its other half: it is not text")


def _make_size_error() -> TooLargeError:
    return TooLargeError(
        f"the JSON of the request is longer than {_MAX_SKELETON} bytes without its strings; use binary tensors for "
        "many numbers, or send fewer"
    )


def _parse_float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise RequestError(f"the JSON of the request has the number {digits:.40}, which float64 cannot hold")
    return value


def _reject_constant(constant: str) -> None:
    raise RequestError(f"the request is not JSON: {constant} is not a JSON number")


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built = dict(pairs)
    if len(built) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise RequestError(f"the JSON of the request has the key {twice!r:.100} twice in an object")
    return built
