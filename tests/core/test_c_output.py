"""What C prints is caught; what Python and C++ print is not."""

import ctypes
import os
import subprocess
import sys
import threading

import pytest

from ganrt.c_output import catch_c_output

libc = ctypes.CDLL(None)


def test_what_c_prints_is_caught_and_what_python_prints_is_not(capfd: pytest.CaptureFixture[str]) -> None:
    with catch_c_output() as printed:
        libc.printf(b"%d of C\n", 7)
        os.write(1, b"of Python\n")
        assert printed == []
    libc.puts(b"afterwards")
    libc.fflush(None)
    assert printed == ["7 of C\n"]
    assert capfd.readouterr().out == "of Python\nafterwards\n"


def test_a_text_does_not_keep_the_end_of_a_longer_one() -> None:
    found = []
    for text in (b"a long text", b"short", b""):
        with catch_c_output() as printed:
            libc.printf(text)
        found += printed
    assert found == ["a long text", "short", ""]


def test_output_returns_after_an_error_and_is_there_to_be_read(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError), catch_c_output() as printed:
        libc.printf(b"before")
        raise ValueError
    libc.puts(b"after")
    libc.fflush(None)
    assert printed == ["before"] and capfd.readouterr().out == "after\n"


def test_threads_get_their_own_text() -> None:
    found: dict[int, list[str]] = {}

    def catch(number: int) -> None:
        for _ in range(50):
            with catch_c_output() as printed:
                libc.printf(b"%d", number)
            found.setdefault(number, []).extend(printed)

    threads = [threading.Thread(target=catch, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: [str(number)] * 50 for number in range(4)}


def test_a_cpp_library_that_is_loaded_inside_keeps_the_real_output() -> None:
    code = """
import ctypes
from ganrt.c_output import catch_c_output
with catch_c_output() as printed:
    library = ctypes.CDLL("libstdc++.so.6")
    put, flush = library._ZNSo3putEc, library._ZNSo5flushEv  # std::ostream::put, flush
    cout = ctypes.addressof(ctypes.c_char.in_dll(library, "_ZSt4cout"))
    put.argtypes, flush.argtypes = [ctypes.c_void_p, ctypes.c_char], [ctypes.c_void_p]
put(cout, b"x")
flush(cout)
assert printed == [""]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "x", "")


def test_too_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from ganrt import c_output

    class Full:
        @staticmethod
        def open_memstream(*_: object) -> None:
            return None

    monkeypatch.setattr("ctypes.CDLL", lambda *_: Full)
    with pytest.raises(MemoryError, match="to catch what a library prints"):
        c_output._open_stream.__wrapped__()
