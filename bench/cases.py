"""What is measured: a bundle on some backends at some batch sizes, each call in two scopes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from ganrt.backend import backend_names, runs
from ganrt.bundle import FAITHFUL, Bundle
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
    variant: str
    device: str

    @property
    def name(self) -> str:
        """As tables have it: the backend, with the variant where that is not the model as it was traced."""
        return self.backend if self.variant == FAITHFUL else f"{self.backend} {self.variant}"


@dataclass(frozen=True)
class Case:
    """A setup at one batch size; it is measured in every scope."""

    setup: Setup
    batch: int
    slow: bool
    """Whether the backend is slow by design (`Session.slow`): then batch 1, and the few calls that time allows."""

    def __str__(self) -> str:
        return f"{self.setup.name}, batch {self.batch}"


def setups(bundle: Bundle, backends: Sequence[str] | None, variants: Sequence[str] | None, device: str) -> list[Setup]:
    """One per backend and variant that it runs; None stands for all there are. Raises RequestError for an unknown
    backend or variant, or when nothing is left."""
    known = backend_names()
    chosen = backend_names(device) if backends is None else list(dict.fromkeys(backends))
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        wrong = f"there is no backend {unknown[0]!r}" if unknown else "no backend was named"
        raise RequestError(f"{wrong}; choose from {', '.join(known)}")
    for variant in variants or ():
        bundle.variant(variant)
    pairs = [(name, variant) for name in chosen for variant in variants or bundle.variants]
    made = [Setup(bundle.folder, *pair, device) for pair in pairs if runs(pair[0], bundle, pair[1])]
    if not made:
        raise RequestError(f"none of {', '.join(chosen)} runs {', '.join(variants or bundle.variants)}")
    return made


def check_batches(batches: Sequence[int]) -> list[int]:
    """The batch sizes in order, each once. Raises RequestError unless they are whole numbers from 1, one at least."""
    if not batches or any(isinstance(b, bool) or not isinstance(b, int) or b < 1 for b in batches):
        raise RequestError(f"the batch sizes are {list(batches)}; give whole numbers from 1, one at least")
    return sorted(set(batches))
