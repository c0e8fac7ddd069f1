"""Make forking safe: a child process never hangs in a session that its parent opened.

A fork copies the memory of a process but only the thread that forks. What the inference libraries hold then refers to
threads that do not exist in the child, which hangs when it computes with such a session (PyTorch), when it frees it
(ONNX Runtime), or when it ends (OpenVINO, whose static destructors wait for its threads). Therefore:

- A fork waits until no batch is being computed, so that no library is copied with a lock held.
- In the child, an inherited session rejects work and is never freed. A Generator opens a new one.
- A child of a process that has opened sessions ends without the exit handlers and static destructors of C libraries, as
  children of `multiprocessing` do. Python's own cleanup takes place.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from types import TracebackType

_REST_S = 0.005
"""How long a fork waits after the last batch. When a batch is done, the threads of a library may still hold locks; a
thread that ends may too."""
_tracked: weakref.WeakValueDictionary[int, object] = weakref.WeakValueDictionary()
"""Sessions by their id; they need not be hashable."""
_has_tracked = False
_locks: weakref.WeakSet[Lock] = weakref.WeakSet()
_generation = 0


class Lock(Protocol):
    """A lock that another thread may hold while this one forks."""

    def start_child(self) -> None:
        """Called in the child, where only the thread that forked exists."""


def renew_in_child(lock: Lock) -> None:
    """Call `start_child` of a lock in every forked child."""
    _locks.add(lock)


def track(session: object) -> int:
    """Register a session when it is created: in a forked child it will never be freed. Returns the generation of this
    process, to be compared with `generation()` later."""
    global _has_tracked
    _has_tracked = True
    _tracked[id(session)] = session
    return _generation


def generation() -> int:
    """Return how often this process and its ancestors were forked after a session had been opened. Above 0, libraries
    may have been copied with threads missing."""
    return _generation


class _Computing:
    """Context manager around every computation; `os.fork` waits until no other thread is inside. Reentrant."""

    def __init__(self) -> None:
        self._depths: dict[int, int] = {}
        """Thread -> how many times it is inside."""
        self._forks = 0
        """Threads that are about to fork."""
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        me = threading.get_ident()
        with self._changed:
            while self._forks and me not in self._depths:
                self._changed.wait()
            self._depths[me] = self._depths.get(me, 0) + 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        me = threading.get_ident()
        with self._changed:
            self._depths[me] -= 1
            if not self._depths[me]:
                del self._depths[me]
                self._changed.notify_all()

    def start_fork(self) -> None:
        """Wait until no other thread is inside. A thread that is inside itself forks in a signal handler."""
        me = threading.get_ident()
        with self._changed:
            self._forks += 1
            while self._depths.keys() - {me}:
                self._changed.wait()
        if _has_tracked:
            threading.Event().wait(_REST_S)

    def end_fork(self) -> None:
        """Let other threads in again."""
        with self._changed:
            self._forks -= 1
            self._changed.notify_all()

    def start_child(self) -> None:
        me = threading.get_ident()
        self._depths = {me: self._depths[me]} if me in self._depths else {}
        self._forks = 0
        self._changed = threading.Condition()


computing = _Computing()
renew_in_child(computing)


def _start_child() -> None:
    global _generation
    for lock in list(_locks):
        lock.start_child()
    if _has_tracked:
        _generation += 1
        for session in list(_tracked.values()):
            keep_forever(session)
        _skip_exit_handlers()


def keep_forever(thing: object) -> None:
    """Never free an object, not even when the interpreter ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _skip_exit_handlers() -> None:
    """End the process, when it ends, before the exit handlers that are registered so far. glibc calls handlers in
    reverse order: first `fcloseall`, which writes what C streams hold, then `_exit` with the exit status. Other C
    libraries lack `on_exit`; the inference libraries come for glibc alone."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):
        libc.on_exit(libc._exit, None)
        libc.on_exit(libc.fcloseall, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=computing.start_fork, after_in_parent=computing.end_fork, after_in_child=_start_child)
