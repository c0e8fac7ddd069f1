"""What is measured: a bundle on some backends at some batch sizes, each call in two scopes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from ganrt.backend import backend_names
from ganrt.errors import RequestError

Scope: TypeAlias = Literal["session", "sample"]

SCOPES: dict[Scope, str] = {
    "session": "inputs ready on the host to float32 images on the host: one submit() and wait() of the bare session",
    "sample": "a seed to uint8 pictures on the host: Generator.sample(batch), which draws the inputs, runs the "
    "session, checks the values and converts them",
}
"""What the time of each scope includes, in words; every report prints them."""

METHOD = (
    "One fresh process per backend; the others are idle, checked, while one runs. Rounds of all cases in shuffled "
    "order, both scopes call by call in turn, every call on new inputs. The first call of a round of several, loading "
    "and warm-up are not counted; no sample is discarded. The median and its 95 % interval are those of the rounds' "
    "medians."
)


@dataclass(frozen=True)
class Setup:
    """What one worker process loads."""

    bundle: Path
    backend: str
    precision: str
    device: str


@dataclass(frozen=True)
class Case:
    """A setup at one batch size; it is measured in every scope."""

    setup: Setup
    batch: int
    slow: bool
    """Whether the backend is slow by design (`Session.slow`): then batch 1, and the few calls that time allows."""

    def __str__(self) -> str:
        return f"{self.setup.backend}, batch {self.batch}"


def setups(bundle: Path, backends: Sequence[str] | None, precision: str, device: str) -> list[Setup]:
    """One per backend; None stands for all there are. Raises RequestError for an unknown one, or for none."""
    known = backend_names()
    chosen = backend_names(device) if backends is None else list(dict.fromkeys(backends))
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        wrong = f"there is no backend {unknown[0]!r}" if unknown else "no backend was named"
        raise RequestError(f"{wrong}; choose from {', '.join(known)}")
    return [Setup(bundle, name, precision, device) for name in chosen]


def check_batches(batches: Sequence[int]) -> list[int]:
    """The batch sizes in order, each once. Raises RequestError unless they are whole numbers from 1, one at least."""
    if not batches or any(isinstance(b, bool) or not isinstance(b, int) or b < 1 for b in batches):
        raise RequestError(f"the batch sizes are {list(batches)}; give whole numbers from 1, one at least")
    return sorted(set(batches))
