"""Metadata as chunks of a PNG file, for files that Pillow does not write."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator

from ganrt.photos.metadata import XMP_KEYWORD, Metadata

_INCH = 0.0254
"""Meters."""
_PLAIN_TEXT = b"\0" * 5
"""Between keyword and text: the keyword's end, no compression, no language, no translated keyword."""
_HEADER_END = 8 + 12 + 13
"""Signature, frame of a chunk, header."""


def list_chunks(about: Metadata) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of the PNG chunks (PNG specification, third edition, section 11.3) of metadata."""
    if about.dpi:
        across, down = (round(side / _INCH) for side in about.dpi)
        yield b"pHYs", struct.pack(">IIB", across, down, 1)
    if about.exif:
        yield b"eXIf", about.exif.removeprefix(b"Exif\0\0")
    for keyword, value in about.text.items():
        yield b"iTXt", keyword.encode("latin-1", "replace") + _PLAIN_TEXT + value.encode()
    if about.xmp:
        yield b"iTXt", XMP_KEYWORD.encode() + _PLAIN_TEXT + about.xmp


def insert_chunks(png: bytes, chunks: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Put chunks after the header of a PNG file."""
    made = [png[:_HEADER_END]]
    for kind, content in chunks:
        checksum = zlib.crc32(kind + content)
        made.append(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum))
    return b"".join([*made, png[_HEADER_END:]])
