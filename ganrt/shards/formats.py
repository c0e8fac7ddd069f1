"""What a shard is as a file: one encoder per format.

The same pictures give the same bytes: nothing here writes a time, a user or the name of a machine.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ganrt.errors import MissingLibraryError
from ganrt.images import Pictures, encode_png
from ganrt.sample_request import Draw
from ganrt.shards.rows import Rows

_BLOCK = tarfile.BLOCKSIZE
_HEADER = tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT)
_SIZE, _CHECKSUM = slice(124, 136), slice(148, 156)
"""Fields of a header."""
PNG_MARK = b"tEXtbundle\0"
"""In the first kilobytes of each picture that is written as a file of its own: the head of the chunk that names the
bundle."""

Content: TypeAlias = bytes | Mapping[str, bytes]
"""Of a shard: a file, or the files of a folder by their names."""


@dataclass(frozen=True)
class ShardFormat:
    """How a shard is written. Pictures are encoded as they are made, some rows at a time, and packed in the end."""

    suffix: str
    """Of a shard's file; empty for a folder."""
    encode: Callable[[Rows, Pictures], Sequence[Any]]
    """Encodes the pictures of some rows, uint8 NHWC: one entry each. Threads may call it at the same time."""
    pack: Callable[[Rows, Sequence[Any]], Content]
    """Makes the content of a shard of all its rows and encoded pictures, at least one."""
    is_flat: bool = False
    """True if the files of all shards are in one folder."""


def _list_pictures(rows: Rows, pictures: Pictures) -> list[Pictures]:
    return list(pictures)


def _pack_npz(rows: Rows, encoded: Sequence[Pictures]) -> bytes:
    return pack_arrays(np.stack(encoded), rows.draw, rows.digest)


def _encode_plain(rows: Rows, pictures: Pictures) -> list[bytes]:
    return [encode_png(picture, smallest=False) for picture in pictures]


def _encode_described(rows: Rows, pictures: Pictures) -> list[bytes]:
    """PNG files that say in text chunks what they were drawn from."""

    def encode(row: int, picture: Pictures) -> bytes:
        text = {name: str(value) for name, value in rows.describe(row).items()}
        return encode_png(picture, {**text, "bundle": rows.digest}, smallest=False)

    return [encode(row, picture) for row, picture in enumerate(pictures)]


def pack_arrays(pictures: Pictures, draw: Draw, digest: str) -> bytes:
    """Make an .npz file of pictures, uint8 NHWC: the arrays `images`, `bundle` (the digest), and the fields of the draw
    that are there."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {"images": pictures, "bundle": np.array(digest), **draw.list_columns()}
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _pack_tar(rows: Rows, encoded: Sequence[bytes]) -> bytes:
    """A tar file as the webdataset library reads it: the files of a sample have one name and different suffixes, and
    follow each other."""
    made: list[bytes] = []
    for row, content in enumerate(encoded):
        about = rows.describe(row)
        files = {"png": content, "json": json.dumps(about).encode()}
        if "label" in about:
            files["cls"] = str(about["label"]).encode()
        for suffix, part in files.items():
            made += [_make_header(f"{rows.numbers[row]:09d}.{suffix}", len(part)), part, bytes(-len(part) % _BLOCK)]
    size = sum(map(len, made)) + 2 * _BLOCK
    return b"".join([*made, bytes(2 * _BLOCK + -size % tarfile.RECORDSIZE)])


def _make_header(name: str, size: int) -> bytes:
    """The header of a file in a tar file (POSIX.1-1988, ustar), whose time, user and group are 0. `tarfile` takes as
    long to make it as the network takes for a small picture."""
    header = bytearray(_HEADER)
    header[: len(name)] = name.encode()
    header[_SIZE] = b"%011o\0" % size
    header[_CHECKSUM] = b" " * 8
    header[_CHECKSUM] = b"%06o\0 " % sum(header)
    return bytes(header)


def _pack_files(rows: Rows, encoded: Sequence[bytes]) -> dict[str, bytes]:
    return {name_picture(int(number)): content for number, content in zip(rows.numbers, encoded, strict=True)}


def name_picture(number: int) -> str:
    """Return the name of a picture's file in a folder."""
    return f"{number:08d}.png"


FLAT = ShardFormat("", _encode_described, _pack_files, is_flat=True)
"""A folder of pictures, as `ganrt sample --out FOLDER` writes it."""
FORMATS = ("npz", "webdataset", "parquet", "png")
"""Names, as `--format` takes them."""


def open_format(name: str) -> ShardFormat:
    """Return the format of a name in FORMATS. Raises MissingLibraryError if its library is not installed."""
    if name == "parquet":
        try:
            from ganrt.shards.parquet import pack_table
        except ImportError as error:
            raise MissingLibraryError("pyarrow", "parquet", "the format parquet") from error
        return ShardFormat(".parquet", _encode_plain, pack_table)
    return {
        "npz": ShardFormat(".npz", _list_pictures, _pack_npz),
        "webdataset": ShardFormat(".tar", _encode_plain, _pack_tar),
        "png": ShardFormat("", _encode_described, _pack_files),
    }[name]
