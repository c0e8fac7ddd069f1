"""Many candidates, one winner per batch size: those that cannot win leave early, so that the time goes to the others.

First each candidate is loaded in turn and timed for a moment; one that takes several times as long as the best at every
batch size is dropped at once. The others take turns, round by round. At each batch size a candidate is measured until
taking the best in its place would cost next to nothing, as far as the interval of their ratio in rounds near in time
tells: on a machine that others use as well, the intervals of the two times would overlap for long.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
import psutil

from . import schedule, statistics
from .cases import Case, Setup
from .process import WorkerFailed
from .schedule import Clock, Track
from .statistics import Estimate
from .worker import Facts, Order, Round

Progress: TypeAlias = Callable[[float, str], None]
"""Gets the share of the time that is over, and what is being done."""

REGRET = 0.02
"""By how much of its time another may be the better choice, as far as the intervals tell, when one is beaten."""
HOPELESS = 2.0
"""A candidate that took this many times as long as the best at first sight, at every batch size, is dropped."""

_CLEARLY = 3
"""Rounds after which a candidate is dropped that took HOPELESS times as long as the best in each of them."""

_GLANCE_NS, _LONG_NS = 30e6, 300e6
_LOADING_SHARE = 0.5
"""Of the time; candidates that were not loaded by then are left out."""
_ROOM = 1.3
"""Another worker is started when this many times the memory of the largest one so far is free."""


class Started(Protocol):
    """A Worker, or a pretended one. Its methods raise WorkerFailed."""

    def facts(self) -> Facts: ...
    def round(self, order: Order) -> Round: ...
    def close(self) -> None: ...


@dataclass
class Entrant:
    """A candidate that was loaded."""

    setup: Setup
    worker: Started
    facts: Facts
    tracks: dict[int, Track]
    """Batch size -> its track."""
    eligible: bool
    """Whether it may win; else it is measured for comparison only."""
    baseline: bool
    """What the winner is to be compared with: it is never dropped."""
    glances: dict[int, float] = field(default_factory=dict)
    """Batch size -> nanoseconds of the quickest call at first sight: what disturbs a call only makes it longer."""
    beaten: set[int] = field(default_factory=set)
    """Batch sizes at which another was found to be faster, or as good."""

    def estimate(self, batch: int) -> Estimate | None:
        """Median seconds of a batch, the whole way; None without a round."""
        rounds = self.tracks[batch].rounds.values()
        return statistics.median([r.whole for r in rounds]).map(1e-9) if rounds else None

    @property
    def failed(self) -> str:
        """Why its worker gave up; empty when it did not."""
        return next((t.failure.reason for t in self.tracks.values() if t.failure is not None), "")


class Contest:
    """Candidates enter one by one (`enter`), then `decide`; then every batch size has a `winner`."""

    def __init__(
        self,
        batches: Sequence[int],
        quality: float,
        span: tuple[int, int],
        tell: Progress,
        now: Clock,
        start: Callable[[Setup], Started],
    ) -> None:
        """
        Args:
            quality: dB that the worst golden sample must reach.
            span: from when to when it may take, on the clock `now`.
        """
        self.batches, self.quality, self.now, self._start = tuple(batches), quality, now, start
        self.began, self.deadline = span
        self._tell = tell
        self.entrants: list[Entrant] = []
        self.left_out: dict[str, str] = {}
        """Name of a candidate -> why it takes no part any more."""
        self._peak_mib = 0.0

    def tell(self, text: str) -> None:
        """Report progress."""
        self._tell(min(1.0, (self.now() - self.began) / (self.deadline - self.began)), text)

    def enter(self, setup: Setup, eligible: bool = True, baseline: bool = False) -> Entrant | None:
        """Load a candidate and look at its speed; None, with the reason in `left_out`, when it takes no part."""
        enough = any(entrant.eligible for entrant in self.entrants)
        if enough and self.now() - self.began > _LOADING_SHARE * (self.deadline - self.began):
            self.left_out[setup.name] = "not tried: the time was up"
            return None
        if enough and psutil.virtual_memory().available < _ROOM * 2**20 * self._peak_mib:
            self.left_out[setup.name] = "not tried: there is not enough memory for one more process"
            return None
        self.tell(f"loading {setup.name}")
        worker = self._start(setup)
        try:
            entrant = self._admit(setup, worker, eligible, baseline)
        except WorkerFailed as error:
            missing = error.failure.kind == "MissingLibraryError"
            self.left_out[setup.name] = ("not installed: " if missing else "failed: ") + error.failure.reason
            entrant = None
        if entrant is None:
            worker.close()
        self._cull()
        return entrant

    def _admit(self, setup: Setup, worker: Started, eligible: bool, baseline: bool) -> Entrant | None:
        facts = worker.facts()
        if facts.slow:
            self.left_out[setup.name] = "slow by design"
            return None
        enough = facts.worst_psnr >= self.quality
        if eligible and not enough:
            self.left_out[setup.name] = f"{facts.worst_psnr:.1f} dB, where {self.quality:g} dB are asked for"
        if not (eligible and enough) and not baseline:
            return None
        tracks = {b: Track(Case(setup, b, False), worker, round_ns=_GLANCE_NS) for b in self.batches}
        entrant = Entrant(setup, worker, facts, tracks, eligible and enough, baseline)
        for batch, track in tracks.items():
            found, took_ns = track.time(1)
            if took_ns < _LONG_NS:  # the first call at a batch size prepares it, which is little of a long one
                found, _ = track.time(track.pairs)
            entrant.glances[batch] = min(found.whole)
            self._peak_mib = max(self._peak_mib, found.peak_mib or 0.0)
        self.entrants.append(entrant)
        return entrant

    def lag(self, entrant: Entrant) -> float:
        """How many times as long as the best it took at first sight, at the batch size where that is least."""
        rivals = [rival for rival in self.entrants if rival.eligible] or [entrant]
        return min(entrant.glances[b] / min(r.glances[b] for r in rivals) for b in self.batches)

    def _cull(self) -> None:
        """Drop those that are hopeless at every batch size."""
        for entrant in [e for e in self.entrants if not e.baseline]:
            if (lag := self.lag(entrant)) > HOPELESS:
                entrant.worker.close()
                self.entrants.remove(entrant)
                self.left_out[entrant.setup.name] = f"at first sight at least {lag:.1f} times as slow as the best"

    def decide(self) -> None:
        """Measure until every batch size is decided or the time is up."""
        tracks = [track for entrant in self.entrants for track in entrant.tracks.values()]
        schedule.run(tracks, self.deadline, self.now, self.tell, settle=self._settle)

    def winner(self, batch: int) -> tuple[Entrant, str] | None:
        """The fastest at a batch size and how sure that is; None when nothing eligible was measured."""
        best = self._best(batch)
        if best is None:
            return None
        rivals = [e for e in self._measured(batch) if e is not best]
        unsure = [e.setup.name for e in rivals if batch not in e.beaten]
        regrets = {e.setup.name: _regret(best, e, batch) for e in rivals}
        near = {name: regret for name, regret in regrets.items() if 0 < regret < math.inf}
        if unsure:
            return best, f"the time was up before it was told apart from {', '.join(unsure)}"
        if near:
            return best, f"{', '.join(near)} may be faster, by {max(near.values()):.1%} at most"
        return best, "every other is slower" if rivals else "nothing else came near"

    def _settle(self) -> None:
        """Ask no more of what is decided, and end the workers of whom nothing is asked any more."""
        states = [f"batch {batch}: {self._settled(batch) or 'decided'}" for batch in self.batches]
        for entrant in self.entrants:
            if all(track.done for track in entrant.tracks.values()):
                entrant.worker.close()
        self.tell("candidates left: " + ", ".join(states))

    def _settled(self, batch: int) -> int:
        """Mark those that need no more rounds at a batch size; how many may still win, 0 when it is decided."""
        best = self._best(batch)
        if best is None:
            return len(self.entrants)
        others = [e for e in self.entrants if e is not best and not e.failed and not e.tracks[batch].done]
        for entrant in others:
            if _regret(best, entrant, batch) <= REGRET or (
                _clearly_slower(entrant, best, batch) and not entrant.baseline
            ):
                entrant.beaten.add(batch)
            compared = not entrant.eligible and _enough(entrant, batch)
            entrant.tracks[batch].done = batch in entrant.beaten or compared
        left = [e for e in others if not e.tracks[batch].done]
        best.tracks[batch].done = not left and _enough(best, batch)
        return 0 if best.tracks[batch].done else 1 + sum(e.eligible for e in left)

    def _measured(self, batch: int) -> list[Entrant]:
        return [e for e in self.entrants if e.eligible and not e.failed and e.tracks[batch].rounds]

    def _best(self, batch: int) -> Entrant | None:
        """The one with the least median of those that are not beaten there, if any of those still lives."""
        measured = self._measured(batch)
        left = [e for e in measured if batch not in e.beaten] or measured
        return min(left, key=lambda e: _median(e, batch), default=None)


def _median(entrant: Entrant, batch: int) -> float:
    estimate = entrant.estimate(batch)
    return math.inf if estimate is None else estimate.value


def _enough(entrant: Entrant, batch: int) -> bool:
    """Whether there are rounds enough for an interval."""
    return len(entrant.tracks[batch].rounds) >= statistics.MIN_ROUNDS


def ratios(slower: Entrant, faster: Entrant, batch: int) -> list[float]:
    """How many times as long one takes as the other, sweep by sweep: rounds of one sweep are near in time, so that a
    machine that others use as well hurts both alike."""
    one, two = slower.tracks[batch].rounds, faster.tracks[batch].rounds
    return [float(np.median(one[s].whole) / np.median(two[s].whole)) for s in sorted(one.keys() & two.keys())]


def _regret(best: Entrant, other: Entrant, batch: int) -> float:
    """By how much of its time `other` may be faster than `best`, as far as the interval of their ratio tells; infinite
    where there is none yet."""
    found = ratios(other, best, batch)
    low = statistics.quantile(found, 0.5).low if found else None
    return math.inf if low is None else 1 / low - 1


def _clearly_slower(entrant: Entrant, best: Entrant, batch: int) -> bool:
    """Whether it is too far behind for an interval to matter."""
    found = ratios(entrant, best, batch)
    return len(found) >= _CLEARLY and min(found) > HOPELESS
