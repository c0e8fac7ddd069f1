"""Parsed JSON from anybody -> the dataclass that it claims to be, every field checked against its annotation."""

from __future__ import annotations

import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar

from ganrt.errors import ArtifactError

_T = TypeVar("_T")


def decode(kind: type[_T], raw: object, where: str) -> _T:
    """Raises ArtifactError naming the field when something is missing, unknown or of another type."""
    value: _T = _value(kind, raw, where)
    return value


def _value(kind: Any, raw: object, where: str) -> Any:
    if is_dataclass(kind) and isinstance(kind, type):
        return _dataclass(kind, raw, where)
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return None if raw is None else _value(parts[0], raw, where)
    if origin is typing.Literal and raw in parts:
        return raw
    if origin is tuple and isinstance(raw, list):
        return tuple(_value(parts[0], item, f"{where}[{k}]") for k, item in enumerate(raw))
    if origin is dict and isinstance(raw, dict):
        return {key: _value(parts[1], item, f"{where}.{key}") for key, item in raw.items()}
    if kind is float and type(raw) in (int, float):
        return float(typing.cast(float, raw))
    if kind in (int, str, bool) and type(raw) is kind:
        return raw
    wanted = str(kind) if origin else kind.__name__
    raise ArtifactError(f"{where} is {str(raw)[:60]!r}, where {wanted} belongs: it is no report of ganrt bench")


def _dataclass(kind: type[Any], raw: object, where: str) -> Any:
    if not isinstance(raw, dict):
        raise ArtifactError(f"{where} is {type(raw).__name__}, not an object: it is no report of ganrt bench")
    hints = typing.get_type_hints(kind)
    needed = {f.name for f in fields(kind) if f.default is MISSING}
    if not needed <= set(raw) <= set(hints):
        odd = sorted((needed - set(raw)) | (set(raw) - set(hints)))
        raise ArtifactError(f"{where} lacks, or should not have, {', '.join(odd)[:200]}")
    return kind(**{name: _value(hints[name], item, f"{where}.{name}") for name, item in raw.items()})
