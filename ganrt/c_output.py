"""Catch what C code prints to standard output, which belongs to the results of a command (`--json`)."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

_lock = threading.RLock()


class _Stream(NamedTuple):
    """C's stream into memory. It is never closed, because other code may be printing to it at that moment."""

    handle: ctypes.c_void_p
    buffer: ctypes.c_void_p
    size: ctypes.c_size_t


@contextmanager
def catch_c_output() -> Iterator[list[str]]:
    """Catch what C's `printf` prints in this block. Yields a list that holds the text, as one string, after the block.

    C's variable `stdout` is replaced, not the file descriptor, so what Python prints in other threads meanwhile arrives
    where it should. C++ streams and programs that are started are not caught. Only one thread is inside at a time, so
    the block must be short.
    """
    library = ctypes.CDLL(None)
    text: list[str] = []
    with _lock:
        stream = _open_stream()
        stdout = ctypes.c_void_p.in_dll(library, "stdout")
        library.rewind(stream.handle)
        kept, stdout.value = stdout.value, stream.handle.value
        try:
            yield text
        finally:
            stdout.value = kept
            library.fflush(stream.handle)
            text.append(ctypes.string_at(stream.buffer, stream.size.value).decode(errors="replace"))


@cache
def _open_stream() -> _Stream:
    library = ctypes.CDLL(None)
    library.open_memstream.restype = ctypes.c_void_p
    buffer, size = ctypes.c_void_p(), ctypes.c_size_t()
    handle = ctypes.c_void_p(library.open_memstream(ctypes.byref(buffer), ctypes.byref(size)))
    if not handle:
        raise MemoryError("too little memory to catch what a library prints")
    _initialize_cpp_streams()
    return _Stream(handle, buffer, size)


def _initialize_cpp_streams() -> None:
    """Bind `std::cout` to the real `stdout`, as the first C++ library that is loaded does, lest it keeps a stream of
    `catch_c_output`."""
    library, place = ctypes.CDLL("libstdc++.so.6"), ctypes.create_string_buffer(8)
    for method in ("_ZNSt8ios_base4InitC1Ev", "_ZNSt8ios_base4InitD1Ev"):  # std::ios_base::Init, made and destroyed
        library[method](place)
