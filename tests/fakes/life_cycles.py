"""Backends whose sessions make the right images and break one promise about their process."""

from __future__ import annotations

import atexit
import os
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np

from ganrt import forking
from ganrt.backend import HostSession, Session
from ganrt.bundle import Bundle
from ganrt.feeds import Array, Feeds


class Faultless(HostSession):
    """Returns the images of the golden samples."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__("fake", "fp32", bundle.spec, {})
        golden = bundle.read_golden()
        assert golden is not None
        self.images = golden.groups[0].images
        feeds = golden.groups[0].draw_feeds(bundle.spec)
        self.name, self.rows = bundle.spec.inputs[0].name, feeds[bundle.spec.inputs[0].name]

    @classmethod
    def open(cls, bundle: Bundle, variant: str, device: str, **options: Any) -> Session:
        return cls(bundle)

    def run(self, feeds: Feeds) -> Array:
        given = feeds[self.name]
        if given.shape[1:] != self.rows.shape[1:]:
            return np.zeros((len(given), 1, 1, 1), np.float32)
        return np.stack([self.images[[np.array_equal(row, one) for one in self.rows].index(True)] for row in given])

    def release(self) -> None:
        pass


class Inherits(Faultless):
    """Computes in a forked child as if nothing had happened."""

    @property
    def is_inherited(self) -> bool:
        return False


class HangsInTheChild(Inherits):
    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.process = os.getpid()

    def run(self, feeds: Feeds) -> Array:
        if os.getpid() != self.process:
            threading.Event().wait()
        return super().run(feeds)


class WrongInTheChild(Inherits):
    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.process = os.getpid()

    def run(self, feeds: Feeds) -> Array:
        return super().run(feeds) * np.float32(1 if os.getpid() == self.process else 0.5)


class HangsWhenTheChildEnds(Faultless):
    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        process = os.getpid()
        atexit.register(lambda: os.getpid() == process or threading.Event().wait())


class CrashesWhenTheChildEnds(Faultless):
    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        process = os.getpid()
        atexit.register(lambda: os.getpid() == process or os.abort())


class HangsWhenClosedInTheChild(Inherits):
    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.process = os.getpid()

    def release(self) -> None:
        if os.getpid() != self.process:
            threading.Event().wait()


class HoldsALock(Inherits):
    """Forks are not kept from its lock, which another thread may hold."""

    lock = threading.Lock()

    def submit(self, feeds: Feeds) -> Any:
        with self.lock:
            pending = super().submit(feeds)
            threading.Event().wait(0.2)
            return pending


class OpensOnceOnly(Faultless):
    """A library that cannot be used by a child of a process that used it, and hangs."""

    opened_in = 0

    def __init__(self, bundle: Bundle) -> None:
        if OpensOnceOnly.opened_in not in (0, os.getpid()):
            threading.Event().wait()
        OpensOnceOnly.opened_in = os.getpid()
        super().__init__(bundle)


class LeaksThreads(Faultless):
    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        threading.Thread(target=threading.Event().wait, daemon=True).start()


class LeaksFiles(Faultless):
    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        os.open("/", os.O_RDONLY)


class GrowsWithBatches(Faultless):
    def run(self, feeds: Feeds) -> Array:
        self.kept = [*getattr(self, "kept", []), np.ones(2**17, np.uint8)]
        return super().run(feeds)


class GrowsWithSizes(Faultless):
    def run(self, feeds: Feeds) -> Array:
        self.kept = getattr(self, "kept", {})
        self.kept.setdefault(feeds[self.name].shape, np.ones(2**20, np.uint8))
        return super().run(feeds)


class WritesIntoHome(Faultless):
    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        if "HOME" in os.environ:
            Path("~/.fake").expanduser().mkdir(exist_ok=True)


class LeavesTemporaryFiles(Faultless):
    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        (Path(os.environ["TMPDIR"]) / "scratch").touch()


class WritesIntoTheCurrentFolder(Faultless):
    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        Path("fake.log").touch()


class NeedsAHome(Faultless):
    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        if "HOME" not in os.environ:
            raise RuntimeError("Could not determine home directory.")


class AsksForAName(Faultless):
    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        socket.getaddrinfo("127.0.0.1", 443)


class PrintsToStandardOutput(Faultless):
    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        os.write(1, b"loading\n")


class EndsTheProcessBadly(Faultless):
    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        process = os.getpid()
        atexit.register(lambda: os.getpid() != process or forking.generation() or os.abort())
