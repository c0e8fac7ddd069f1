"""Lines of the user's code: what a message names beside the path of a module, so that it says what to change."""

from __future__ import annotations

import linecache
import re
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NamedTuple

import torch

import ganrt

_LONGEST = 100
_PRINTED = re.compile(r'File "([^"\n]+)", line ([0-9]+)')
_STANDARD = Path(sysconfig.get_path("stdlib")).resolve()
_INSTALLED = tuple({Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")})
_OTHERS = ("numpy", "torchvision", "einops", "sympy", "mpmath", "optree", "typing_extensions.py")
"""Installed packages that are called by forward, or call it, and are not what a user changes."""
_NOT_USERS = (
    Path(torch.__file__).resolve().parent,
    Path(ganrt.__file__).resolve().parent,
    Path(__file__).resolve().parent,  # beside the package in a checkout
    *(folder / name for folder in _INSTALLED for name in _OTHERS),
)


class SourceLine(NamedTuple):
    """A line of a file."""

    file: str
    number: int

    def __str__(self) -> str:
        """Name of the file, without its folder, and number: `networks.py:66`."""
        return f"{Path(self.file).name}:{self.number}"

    def read(self) -> str:
        """The code of the line."""
        return linecache.getline(self.file, self.number).strip()

    def quote(self) -> str:
        """The place and the code: `networks.py:66, index = range(len(x))`."""
        code = self.read()
        return f"{self}, {code if len(code) <= _LONGEST else code[:_LONGEST] + '...'}"


def quote_line(line: SourceLine | None) -> str:
    """`SourceLine.quote`; empty where there is no line."""
    return line.quote() if line else ""


def quote_error_line(error: BaseException) -> str:
    """The innermost line of the user's code that an exception came through, quoted; empty where there is none."""
    return quote_line(find_error_line(error))


def find_running_line(outside: FrameType) -> SourceLine | None:
    """The innermost line of the user's code that is being run.

    Args:
        outside: the function that called the user's code: what called it is not looked at.
    """
    return _find_in_callers(sys._getframe(1), outside)


def find_error_line(error: BaseException) -> SourceLine | None:
    """The innermost line of the user's code that an exception came through, or one that it was raised for."""
    while error.__cause__ is not None:
        error = error.__cause__
    found, place = None, error.__traceback__
    while isinstance(place, TracebackType):
        if _is_users(place.tb_frame.f_code.co_filename):
            found = SourceLine(place.tb_frame.f_code.co_filename, place.tb_lineno)
        place = place.tb_next
    return found


def find_recorded_line(stack: str) -> SourceLine | None:
    """The innermost line of the user's code in a stack as Python prints it, outermost call first."""
    lines = [SourceLine(file, int(number)) for file, number in _PRINTED.findall(stack)]
    return next((line for line in reversed(lines) if _is_users(line.file)), None)


@contextmanager
def watch_lines(observe: Callable[[SourceLine | None], None]) -> Iterator[None]:
    """Inside, call a function after each line of the user's code, and before what the line calls runs.

    Args:
        observe: gets the line that ran; None before the first one.
    """
    watch, before = _Watch(observe, sys._getframe(2)), sys.gettrace()  # beyond contextlib's own function
    sys.settrace(watch.enter)
    try:
        yield
    finally:
        sys.settrace(before)


class _Watch:
    def __init__(self, observe: Callable[[SourceLine | None], None], outside: FrameType) -> None:
        self._observe, self._outside = observe, outside
        self._last: SourceLine | None = None

    def enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Python calls this for each function."""
        if not _is_users(frame.f_code.co_filename):
            return None
        self._observe(self._last)
        return self._step

    def _step(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Python calls this before each line of a function, and when it returns."""
        if event in ("line", "return"):
            self._observe(self._last)
            self._last = _find_in_callers(frame if event == "line" else frame.f_back, self._outside)
        return self._step


def _find_in_callers(frame: FrameType | None, outside: FrameType) -> SourceLine | None:
    while frame is not None and frame is not outside:
        if _is_users(frame.f_code.co_filename):
            return SourceLine(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return None


@lru_cache(maxsize=4096)
def _is_users(file: str) -> bool:
    """Whether a file is neither of Python's library nor of a package that ganrt or PyTorch consists of. What is no
    file, such as code that PyTorch generates, is not the user's."""
    if file.startswith("<"):
        return False
    path = Path(file).resolve()
    if any(path.is_relative_to(folder) for folder in _INSTALLED):
        return not any(path.is_relative_to(folder) for folder in _NOT_USERS)
    return not any(path.is_relative_to(folder) for folder in (_STANDARD, *_NOT_USERS))
