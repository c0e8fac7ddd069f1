"""Read the metadata of an ONNX file without the onnx package, which production does not install.

An ONNX file is a protobuf message (ModelProto, onnx.proto): a sequence of tagged values. Values that are not needed,
such as the graph, are skipped by their length without being read.
"""

from __future__ import annotations

from collections.abc import Iterator

from ganrt.errors import BundleError

_METADATA_PROPS = 14
_KEY, _VALUE = 1, 2
_EMPTY = memoryview(b"")  # default of a missing field
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read_metadata(content: bytes, name: str) -> dict[str, str]:
    """Return the `metadata_props` of a serialised ModelProto.

    Args:
        content: the ONNX file.
        name: what it is called in errors.

    Raises BundleError if it is not a valid ModelProto.
    """
    try:
        entries = [
            dict(_read_fields(value)) for field, value in _read_fields(memoryview(content)) if field == _METADATA_PROPS
        ]
        return {_read_text(entry.get(_KEY, _EMPTY)): _read_text(entry.get(_VALUE, _EMPTY)) for entry in entries}
    except (ValueError, IndexError) as error:
        raise BundleError(f"{name} is not an ONNX model, or is damaged: {error}") from error


def _read_fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield (field number, value) of every length-delimited field; others are skipped."""
    offset = 0
    while offset < len(message):
        tag, offset = _read_varint(message, offset)
        field, kind = tag >> 3, tag & 7
        if kind == _BYTES:
            size, offset = _read_varint(message, offset)
            if offset + size > len(message):
                raise ValueError(f"field {field} ends beyond the end of the file")
            yield field, message[offset : offset + size]
            offset += size
        elif kind == _VARINT:
            _, offset = _read_varint(message, offset)
        elif kind in (_FIXED64, _FIXED32):
            offset += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"field {field} has the unknown wire type {kind}")
    if offset != len(message):
        raise ValueError("the last field ends beyond the end of the file")


def _read_varint(message: memoryview, offset: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, offset
    raise ValueError("a number is longer than 64 bits")


def _read_text(value: memoryview) -> str:
    return bytes(value).decode()
