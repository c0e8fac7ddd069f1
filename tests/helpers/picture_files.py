"""Picture files of rare kinds, written as their specifications say."""

import io
import struct
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageCms

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_AND_OPACITY, RGBA = 0, 2, 3, 4, 6
"""Color types of PNG."""


def save(values: np.ndarray | PIL.Image.Image, form: str = "PNG", **settings: Any) -> bytes:
    buffer = io.BytesIO()
    image = values if isinstance(values, PIL.Image.Image) else PIL.Image.fromarray(values)
    image.save(buffer, form, **settings)
    return buffer.getvalue()


def make_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def make_png(values: np.ndarray, bits: int, kind: int, chunks: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """A PNG file of any depth and color type, with chunks before the pixels."""
    height, width = values.shape[:2]
    lines = []
    for row in values:
        if bits < 8:
            spread = np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - bits :]
            lines.append(np.packbits(spread.reshape(-1)).tobytes())
        else:
            lines.append(row.astype(">u2" if bits == 16 else np.uint8).tobytes())
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + line for line in lines))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    return SIGNATURE + b"".join(make_chunk(*part) for part in parts)


def make_profile(swap: bool) -> bytes:
    """The profile of sRGB, or one with red and green exchanged."""
    made = bytearray(PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes())
    if swap:
        red, green = made.find(b"rXYZ"), made.find(b"gXYZ")
        made[red : red + 4], made[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(made)


def turn(values: np.ndarray, orientation: int) -> np.ndarray:
    """What the EXIF orientations (1 to 8) mean, one by one."""
    turned = [
        values,
        values[:, ::-1],
        values[::-1, ::-1],
        values[::-1],
        values.swapaxes(0, 1),
        np.rot90(values, -1),
        values[::-1, ::-1].swapaxes(0, 1),
        np.rot90(values),
    ]
    return turned[orientation - 1]
