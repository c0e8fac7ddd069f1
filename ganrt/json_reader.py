"""Read untrusted JSON into dataclasses, with every field checked against its annotation.

Manifests, Specs, proofs, tuned records, training runs and benchmark reports are all read with this module. Nothing is
executed, sizes are checked before parsing, and errors name the field.
"""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from ganrt.checks import is_finite
from ganrt.errors import ArtifactError, RequestError

_T = TypeVar("_T")
_WHOLE = re.compile(r"0|[1-9][0-9]{0,18}")


def read_json(path: Path, limit: int, error: type[ArtifactError] = ArtifactError) -> object:
    """Read and parse a JSON file of at most `limit` bytes.

    Raises `error` if the file is larger, is not JSON, or cannot be read.
    """
    return parse_json(read_bytes(path, limit, error), str(path), error)


def read_bytes(path: Path, limit: int, error: type[ArtifactError] = ArtifactError) -> bytes:
    """Read a file of at most `limit` bytes. Raises `error` if it is larger or cannot be read."""
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as reason:
        raise error(f"{path} cannot be read: {reason.strerror or reason}") from reason
    if len(content) > limit:
        raise error(f"{path} is larger than {limit} bytes, the limit for such a file")
    return content


def parse_json(content: bytes, name: str, error: type[ArtifactError] = ArtifactError) -> object:
    """Parse JSON. Raises `error`, with `name`, if it is damaged, nested too deeply, or contains NaN or infinity."""

    def reject(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(content, parse_constant=reject)
    except (ValueError, RecursionError) as reason:
        raise error(f"{name} is damaged: {reason or 'nested too deeply'}") from reason


def decode(kind: type[_T], raw: object, where: str, error: type[ArtifactError] = ArtifactError) -> _T:
    """Build `kind` from parsed JSON.

    Args:
        kind: a dataclass, a NamedTuple, or a type of their fields: `int`, `float`, `str`, `bool`, a Literal, a union, a
            tuple, or a Mapping with `str` or `int` keys. NamedTuples and tuples are lists in JSON.
        raw: the parsed JSON.
        where: name of the value in errors, such as `spec.output`.
        error: the class to raise.

    Raises `error`, naming the field, if a field is missing, unknown or of another type, or if the dataclass rejects a
    value with RequestError.
    """
    try:
        value: _T = _decode_value(kind, raw, where)
    except _MismatchError as mismatch:
        raise error(str(mismatch)) from mismatch.__cause__
    return value


class _MismatchError(Exception):
    """A value that does not fit its annotation."""


def _decode_value(kind: Any, raw: object, where: str) -> Any:
    if kind is Any:
        return raw
    if isinstance(kind, type) and is_dataclass(kind):
        return _decode_dataclass(kind, raw, where)
    if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields"):
        parts = [_type_hints(kind)[name] for name in kind._fields]
        return kind(*_decode_items(parts, raw, where))
    origin, parts = typing.get_origin(kind), list(typing.get_args(kind))
    if origin in (types.UnionType, typing.Union):
        return _decode_union(parts, raw, where)
    if origin is typing.Literal and any(raw == part and type(raw) is type(part) for part in parts):
        return raw
    if origin is tuple:
        endless = len(parts) == 2 and parts[1] is Ellipsis
        return tuple(_decode_items(parts[:1] * len(raw) if endless and isinstance(raw, list) else parts, raw, where))
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(raw, dict):
        return {
            _decode_key(parts[0], key, where): _decode_value(parts[1], item, f"{where}.{key}")
            for key, item in raw.items()
        }
    if kind is float and is_finite(raw):
        return float(raw)
    if kind in (int, str, bool) and type(raw) is kind:
        return raw
    raise _mismatch(raw, where, str(kind) if origin else kind.__name__)


def _decode_union(parts: list[Any], raw: object, where: str) -> Any:
    """Decode as the first alternative that fits; if none does, raise the error of the last."""
    if raw is None and types.NoneType in parts:
        return None
    others = [part for part in parts if part is not types.NoneType]
    for part in others[:-1]:
        try:
            return _decode_value(part, raw, where)
        except _MismatchError:
            continue
    return _decode_value(others[-1], raw, where)


def _decode_items(parts: list[Any], raw: object, where: str) -> list[Any]:
    if not isinstance(raw, list) or len(raw) != len(parts):
        raise _mismatch(raw, where, f"a list of {len(parts)}" if isinstance(raw, list) else "a list")
    return [_decode_value(part, item, f"{where}[{k}]") for k, (part, item) in enumerate(zip(parts, raw, strict=True))]


def _decode_key(kind: type, key: str, where: str) -> Any:
    """Decode a key of a mapping. JSON keys are strings, also for whole numbers."""
    if kind is int:
        if not _WHOLE.fullmatch(key):
            raise _mismatch(key, f"a key of {where}", "a whole number")
        return int(key)
    return key


def _decode_dataclass(kind: Any, raw: object, where: str) -> Any:
    if not isinstance(raw, dict):
        raise _mismatch(raw, where, "an object")
    hints = _type_hints(kind)
    known = {f.name: f for f in fields(kind) if f.init}
    missing = [n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING and n not in raw]
    if missing:
        raise _MismatchError(f"{where} lacks {', '.join(missing)}")
    if unknown := sorted(set(raw) - set(known)):
        raise _MismatchError(f"{where} has the unknown keys {unknown!r:.200}; a newer ganrt may have written it")
    try:
        return kind(**{name: _decode_value(hints[name], item, f"{where}.{name}") for name, item in raw.items()})
    except RequestError as reason:
        raise _MismatchError(f"{where} is not valid: {reason}") from reason


@cache
def _type_hints(kind: Any) -> dict[str, Any]:
    """Type of each field; cached, because annotations are text and evaluating them takes most of the time of a load."""
    return typing.get_type_hints(kind)


def _mismatch(raw: object, where: str, wanted: str) -> _MismatchError:
    return _MismatchError(f"{where} is {raw!r:.100}, where {wanted} is expected")
