"""What `load` tries, in which order, and why: the tuned record of this machine first, then stated rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ganrt import tuned
from ganrt.backend import backend_names, runs
from ganrt.bundle import Bundle
from ganrt.errors import RequestError
from ganrt.machine import has_nvidia_gpu, parse_device
from ganrt.tuned import Choice

RULE = "not tuned on this machine: the first that is installed and proven to make the original's images"
"""Why one of `by_rules` is chosen."""


@dataclass(frozen=True)
class Wish:
    """What the caller of `load` asked for; `auto` leaves it open."""

    backend: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    variant: str | None = None
    batch: int | None = None
    """How many pictures will be asked for at a time; None: all sizes alike."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the backend."""

    def allows(self, choice: Choice) -> bool:
        """Whether a measured choice is what was asked for."""
        kind, number = parse_device(self.device)
        place = self.device if ":" in self.device else kind
        return (
            self.backend in ("auto", choice.backend)
            and (kind == "auto" or choice.device == place or (number == 0 and choice.device == f"{kind}:0"))
            and (self.variant in (None, choice.variant))
            and (self.variant is not None or self.precision in ("auto", choice.precision))
            and all(choice.options.get(name) == value for name, value in self.options.items())
        )


@dataclass(frozen=True)
class Candidate:
    """One way to open a bundle."""

    backend: str
    variant: str
    device: str
    options: Mapping[str, Any]
    reason: str
    """Why it is tried now."""
    seconds: Mapping[int, float] = field(default_factory=dict)
    """Batch size -> what it was measured to take; empty where it was not."""

    def __str__(self) -> str:
        return f"{self.backend} with {self.variant}"


def candidates(bundle: Bundle, wish: Wish) -> Iterator[Candidate]:
    """In the order in which to try them: what was tuned, if it is what was asked for, then `by_rules`. Raises
    RequestError for a wish that no bundle or this one does not fulfil."""
    batch = wish.batch
    if batch is not None and (isinstance(batch, bool) or not isinstance(batch, int | np.integer) or batch < 1):
        raise RequestError(f"batch is {batch!r}; it must be a whole number from 1")
    rules = by_rules(bundle, wish)
    record = tuned.find(bundle)
    picked = record and record.pick(batch, wish.allows)
    if picked:
        choice, reason = picked
        yield Candidate(choice.backend, choice.variant, choice.device, choice.options, reason, choice.seconds)
    yield from rules


def by_rules(bundle: Bundle, wish: Wish) -> list[Candidate]:
    """Without measurements: float32 if no precision was asked for; backends in the order of their table, and of each
    the variants in the order of `Bundle.in_precision`. Of a backend that was named, those that it does not run are left
    in where there is no other, so that the error says why."""
    precision = "fp32" if wish.precision == "auto" else wish.precision
    variants = bundle.in_precision(precision) if wish.variant is None else [wish.variant]
    backends = backends_here(wish.device) if wish.backend == "auto" else [wish.backend]
    made = [Candidate(b, v, wish.device, wish.options, RULE) for b in backends for v in variants]
    return [c for c in made if runs(c.backend, bundle, c.variant)] or made


def backends_here(device: str) -> list[str]:
    """What is tried on a device when no backend is named; without a GPU none that needs one."""
    return backend_names("cpu" if device == "auto" and not has_nvidia_gpu() else device)
