"""The blocks of a GIF file: whether all are there. Pillow takes the end of a file for the end of its animation."""

from __future__ import annotations

from typing import IO

_END, _PICTURE, _EXTENSION = 0x3B, 0x2C, 0x21


def has_gif_end(file: IO[bytes]) -> bool:
    """Whether a file of GIF blocks (GIF89a, sections 17 to 27) has its end mark."""
    file.seek(10)
    _skip(file, 2 + _count_palette_bytes(_read_byte(file)))
    while (kind := _read_byte(file)) in (_PICTURE, _EXTENSION):
        if kind == _PICTURE:
            _skip(file, 8)
            _skip(file, _count_palette_bytes(_read_byte(file)))
        _skip(file, 1)  # least size of a code, or the label of an extension
        while size := _read_byte(file):
            if size < 0:
                return False
            _skip(file, size)
    return kind == _END


def _count_palette_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _read_byte(file: IO[bytes]) -> int:
    """-1 at the end of the file."""
    return next(iter(file.read(1)), -1)


def _skip(file: IO[bytes], size: int) -> None:
    file.seek(size, 1)
