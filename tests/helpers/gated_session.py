"""A session whose batches wait until a test lets them go, or fail as it says."""

import threading
from collections.abc import Callable

from fakes.sessions import SPEC, images

from ganrt.backend import HostSession
from ganrt.feeds import Array, Feeds
from ganrt.spec import Spec

WAIT_S = 20.0
"""A test that waits longer for anything has failed."""


class GatedSession(HostSession):
    """The fake model of a Spec, whose first batches are held until `open_gate`."""

    def __init__(
        self,
        spec: Spec = SPEC,
        *,
        is_open: bool = True,
        batch_sizes: tuple[int, ...] = (),
        fault: Callable[[Feeds], Array | None] = lambda feeds: None,
    ) -> None:
        """Args: fault: raises an error, or returns other images, for the batches that it chooses."""
        super().__init__("fake", "fp32", spec, {})
        self.batch_sizes = batch_sizes
        self.batches: list[int] = []
        """Sizes of the batches that were started."""
        self._fault = fault
        self._entered = threading.Semaphore(0)
        self._gate = threading.Event()
        if is_open:
            self._gate.set()

    def run(self, feeds: Feeds) -> Array:
        self.batches.append(len(next(iter(feeds.values()))))
        self._entered.release()
        assert self._gate.wait(WAIT_S), "the test never opened the gate"
        other = self._fault(feeds)
        return images(self._spec, feeds) if other is None else other

    def await_batch(self) -> None:
        """Wait until one more batch was started."""
        assert self._entered.acquire(timeout=WAIT_S), "no batch was started"

    def shut_gate(self) -> None:
        """Hold the batches from now on."""
        self._gate.clear()
        while self._entered.acquire(blocking=False):  # forget those that were started before
            pass

    def open_gate(self) -> None:
        """Let all batches go."""
        self._gate.set()

    def release(self) -> None:
        pass
