"""Color spaces that files name by numbers, in PNG chunks (cICP, gAMA, cHRM) and in AVIF's `colr` box, as color
profiles.

Source of the numbers: Rec. ITU-T H.273, tables 2 and 3; PNG specification, third edition, section 11.3.2. Source of the
profile's layout: ICC.1:2010, sections 7 and 10.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

import numpy as np

from ganrt.errors import ArtifactError

if TYPE_CHECKING:
    import PIL.Image

_SRGB_PRIMARIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
_PRIMARIES = {
    1: _SRGB_PRIMARIES,
    2: _SRGB_PRIMARIES,
    9: (0.3127, 0.329, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    12: (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
"""Number -> x and y of white, red, green and blue: BT.709, unspecified, BT.2020, P3. Others are taken as sRGB's."""
_EXPONENTS = {4: 2.2, 5: 2.8, 8: 1.0}
"""Transfer characteristics that are powers. Others, but for HDR, are taken as sRGB's, as browsers do with BT.709's."""
_HDR = {16: "PQ", 18: "HLG"}
_SAME_GAMMA, _SAME_PLACE = 0.01, 0.002
"""Differences up to which gamma and chromaticities are those of sRGB."""
_SRGB_GAMMA = 0.45455
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D50 = np.array([0.9642, 1.0, 0.8249])
"""White of profiles."""
_VERSION = 0x04200000
_HEAD = 2**16
"""Bytes of an AVIF file in which its properties are looked for."""


def make_profile(image: PIL.Image.Image, file: IO[bytes]) -> bytes:
    """The color profile of a PNG or AVIF file that names its color space; empty if that is sRGB, or not named.

    Args:
        image: grey or RGB, opened and not yet read.
        file: of the image.

    Raises ArtifactError for HDR, whose values need a choice of brightness to be shown.
    """
    numbers = _find_numbers(image, file)
    grey = image.mode in ("1", "L", "LA") or image.mode.startswith("I")
    if numbers is not None:
        primaries, transfer = numbers
        if transfer in _HDR:
            raise ArtifactError(f"its values are HDR ({_HDR[transfer]}); convert it to SDR first")
        return _build(grey, _PRIMARIES.get(primaries, _SRGB_PRIMARIES), _EXPONENTS.get(transfer))
    if image.format != "PNG" or image.info.get("icc_profile") or "srgb" in image.info:
        return b""
    gamma, places = image.info.get("gamma"), image.info.get("chromaticity") or _SRGB_PRIMARIES
    exponent = 1 / gamma if gamma and abs(gamma - _SRGB_GAMMA) >= _SAME_GAMMA else None
    return _build(grey, tuple(places), exponent)


def _find_numbers(image: PIL.Image.Image, file: IO[bytes]) -> tuple[int, int] | None:
    """Primaries and transfer characteristics, if the file says them."""
    if image.format == "PNG":
        content = _find_chunk(file, b"cICP")
        return (content[0], content[1]) if len(content) == 4 else None
    if image.format != "AVIF" or image.info.get("icc_profile"):
        return None
    content = _find_box(file, b"colrnclx", 4)
    return struct.unpack(">HH", content) if len(content) == 4 else None


def is_deep_avif(file: IO[bytes]) -> bool:
    """Whether an AVIF file has 10 or 12 bits a value (AV1-ISOBMFF, section 2.3.3)."""
    flags = _find_box(file, b"av1C", 3)[2:]
    return bool(flags) and bool(flags[0] & 0x40)


def _find_box(file: IO[bytes], name: bytes, size: int) -> bytes:
    """First bytes of a property of an AVIF file."""
    file.seek(0)
    _, found, content = file.read(_HEAD).partition(name)
    return content[:size] if found else b""


def _find_chunk(file: IO[bytes], wanted: bytes) -> bytes:
    """Content of a short chunk before the pixels; empty if there is none."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == wanted:
            return file.read(min(length, 64))
        if kind in (b"IDAT", b"IEND"):
            break
        file.seek(length + 4, 1)
    return b""


def _build(grey: bool, places: Sequence[float], exponent: float | None) -> bytes:
    """A profile of primaries and an exponent, None for the curve of sRGB; empty if it is sRGB's, or makes no sense."""
    same = max(abs(a - b) for a, b in zip(places, _SRGB_PRIMARIES, strict=True)) < _SAME_PLACE
    if exponent is None and (same or grey):
        return b""
    curve = b"para" + bytes(4) + (_pack_curve(3, _SRGB_CURVE) if exponent is None else _pack_curve(0, [exponent]))
    if grey:
        return _pack(b"GRAY", [(b"wtpt", _pack_place(_D50)), (b"kTRC", curve)])
    columns = _compute_columns(places)
    if columns is None:
        return b""
    tags = [(b"wtpt", _pack_place(_D50))]
    tags += [(name + b"XYZ", _pack_place(column)) for name, column in zip((b"r", b"g", b"b"), columns.T, strict=True)]
    return _pack(b"RGB ", tags + [(name + b"TRC", curve) for name in (b"r", b"g", b"b")])


def _compute_columns(places: Sequence[float]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]] | None:
    """XYZ of red, green and blue under D50; None for chromaticities that are of no color space."""
    pairs = np.array(places, float).reshape(4, 2)
    if (pairs[:, 1] <= 0).any():
        return None
    points = np.column_stack([pairs[:, 0] / pairs[:, 1], np.ones(4), (1 - pairs.sum(1)) / pairs[:, 1]])
    white, colors = points[0], points[1:].T
    try:
        columns = colors * np.linalg.solve(colors, white)
    except np.linalg.LinAlgError:
        return None
    adapt = np.linalg.solve(_BRADFORD, np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white)) @ _BRADFORD)
    made: np.ndarray[tuple[int, int], np.dtype[np.float64]] = adapt @ columns
    return made


def _pack_fixed(values: Sequence[float]) -> bytes:
    return b"".join(struct.pack(">i", round(max(-32768.0, min(32767.0, value)) * 65536)) for value in values)


def _pack_curve(kind: int, values: Sequence[float]) -> bytes:
    return struct.pack(">HH", kind, 0) + _pack_fixed(values)


def _pack_place(values: Sequence[float] | np.ndarray[tuple[int], np.dtype[np.float64]]) -> bytes:
    return b"XYZ " + bytes(4) + _pack_fixed([float(value) for value in values])


def _pack(space: bytes, tags: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Header, table of tags and tags."""
    place = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags:
        table += struct.pack(">4sII", name, place + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    size = place + len(body)
    head = struct.pack(">I4sI4s4s4s", size, bytes(4), _VERSION, b"mntr", space, b"XYZ ") + bytes(12) + b"acsp"
    return (head.ljust(68, b"\0") + _pack_fixed(_D50.tolist())).ljust(128, b"\0") + table + body
