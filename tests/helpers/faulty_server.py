"""`FAULT=KIND python faulty_server.py ARGUMENTS`: `ganrt serve` with models of fakes/sessions.py, which have a fault.

Worker processes import this file too, and so have the same models. Without a fault, a picture shows in which process it
was made.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from fakes.sessions import SPEC, FakeSession

import ganrt
from ganrt.cli.main import main
from ganrt.errors import BackendError, DeviceLostError
from ganrt.feeds import Array, Feeds

FAULT = os.environ.get("FAULT", "")
BATCH_S = 1.0
"""How long a slow batch takes."""


class FaultySession(FakeSession):
    """Its first two batches are those of the warm-up, with `--max-batch 1`."""

    def run(self, feeds: Feeds) -> Array:
        made = super().run(feeds)
        if FAULT == "warm-up" and len(made) == 4:
            raise BackendError("an operator failed")
        if FAULT == "slow" and len(self.batches) > 2:
            time.sleep(BATCH_S)
        if FAULT == "lost" and len(self.batches) > 2:
            raise DeviceLostError("the device failed")
        return np.full_like(made, show_process(os.getpid()) / 127.5 - 1)


def show_process(pid: int) -> int:
    """Return the value of all pixels of a process."""
    return pid * 101 % 256  # those of neighbours differ


def load(path: str, **_: Any) -> ganrt.Generator:
    if FAULT == "loading":
        time.sleep(600)
    return ganrt.Generator(SPEC, FaultySession())


if __name__ in ("__main__", "__mp_main__"):  # the latter in workers; tests import this file too
    ganrt.load = load  # type: ignore[assignment]

if __name__ == "__main__":
    main(["serve", *sys.argv[1:]])
