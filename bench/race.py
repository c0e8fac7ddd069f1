"""Find the fastest of many setups at each batch size. Setups that cannot win leave early, so that the time goes to the
others.

First, each setup is loaded in turn and timed briefly. A setup that takes several times as long as the best at every
batch size is dropped at once. The others take turns, round by round. At each batch size, a setup is measured until the
regret of taking the best instead is next to nothing. The regret is bounded by the confidence interval of the ratio of
their times in rounds of the same sweep. On a machine with other load, the intervals of the two times alone would
overlap for much longer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np

from . import schedule, statistics
from .cases import Case, Setup
from .process import WorkerFailed
from .schedule import Clock, Track
from .statistics import Estimate
from .system import read_memory
from .worker import Facts, Round, RoundRequest

OnProgress: TypeAlias = Callable[[float, str], None]
"""Receives the share of the time that has passed, 0 to 1, and what is being done."""

REGRET = 0.02
"""A setup is beaten when it may be faster than the best by at most this share of its time."""
HOPELESS = 2.0
"""A setup is dropped when its first calls took this many times as long as the best's at every batch size."""

_HOPELESS_ROUNDS = 3
"""Rounds after which a setup is beaten that took HOPELESS times as long as the best in each of them."""
_FIRST_ROUND_NS, _LONG_CALL_NS = 30e6, 300e6
_LOADING_SHARE = 0.5
"""Share of the time after which no further setup is loaded."""
_MEMORY_MARGIN = 1.3
"""A further worker starts only if this many times the memory of the largest one so far is free."""


class RaceWorker(Protocol):
    """A `Worker`, or a fake. Its methods raise WorkerFailed."""

    def wait_until_loaded(self) -> Facts: ...
    def time_round(self, request: RoundRequest) -> Round: ...
    def close(self) -> None: ...


@dataclass
class Racer:
    """A setup that was loaded and takes part."""

    setup: Setup
    """The session that was opened."""
    worker: RaceWorker
    """The process that it runs in."""
    facts: Facts
    """The worker's report after loading."""
    tracks: dict[int, Track]
    """Batch size -> its track."""
    eligible: bool
    """Whether it may win; otherwise it is measured for comparison only."""
    baseline: bool
    """Whether the winner is compared with it; then it is never dropped."""
    first_ns: dict[int, float] = field(default_factory=dict)
    """Batch size -> nanoseconds of the fastest of its first calls: disturbances only make a call longer."""
    beaten: set[int] = field(default_factory=set)
    """Batch sizes at which another was found to be faster, or as fast."""

    def estimate_seconds(self, batch: int) -> Estimate | None:
        """Return the median seconds of an end-to-end call; None before the first round."""
        rounds = self.tracks[batch].rounds.values()
        return statistics.median([r.end_to_end for r in rounds]).scale(1e-9) if rounds else None

    @property
    def failure_reason(self) -> str:
        """Why its worker stopped; empty when it did not."""
        return next((t.failure.reason for t in self.tracks.values() if t.failure is not None), "")


class Winner(NamedTuple):
    """The fastest setup at a batch size."""

    racer: Racer
    """The setup."""
    decided: bool
    """False if more time might find another."""
    reason: str
    """How certain it is, as text."""


class Race:
    """Measures setups against each other: `enter` them one by one, then `decide`, then `find_winner`."""

    def __init__(
        self,
        batches: Sequence[int],
        quality: float,
        span: tuple[int, int],
        on_progress: OnProgress,
        now: Clock,
        start_worker: Callable[[Setup], RaceWorker],
    ) -> None:
        """Prepare a race without racers.

        Args:
            batches: batch sizes, each with a winner of its own.
            quality: PSNR in dB that the worst golden sample of a winner must reach.
            span: start and end of the time that it may take, on the clock `now`.
        """
        self.batches, self.quality, self.now, self._start_worker = tuple(batches), quality, now, start_worker
        self.began, self.deadline = span
        self._on_progress = on_progress
        self.racers: list[Racer] = []
        self.left_out: dict[str, str] = {}
        """Name of a setup -> why it takes no part, or no longer."""
        self._all_tried = True
        self._peak_mib = 0.0

    def report(self, text: str) -> None:
        """Report progress."""
        self._on_progress(min(1.0, (self.now() - self.began) / (self.deadline - self.began)), text)

    def enter(self, setup: Setup, eligible: bool = True, baseline: bool = False) -> Racer | None:
        """Load a setup and time its first calls. Returns None, with the reason in `left_out`, when it takes no part.

        Args:
            eligible: whether it may win.
            baseline: whether the winner is compared with it.
        """
        may_skip = any(racer.eligible for racer in self.racers)
        if may_skip and self.now() - self.began > _LOADING_SHARE * (self.deadline - self.began):
            self.left_out[setup.name] = "not tried: no time left"
            self._all_tried = False
            return None
        if may_skip and read_memory("MemAvailable") < _MEMORY_MARGIN * 2**20 * self._peak_mib:
            self.left_out[setup.name] = "not tried: there is not enough memory for another process"
            return None
        self.report(f"loading {setup.name}")
        worker = self._start_worker(setup)
        try:
            racer = self._admit(setup, worker, eligible, baseline)
        except WorkerFailed as error:
            missing = error.failure.kind == "MissingLibraryError"
            self.left_out[setup.name] = ("not installed: " if missing else "failed: ") + error.failure.reason
            racer = None
        if racer is None:
            worker.close()
        self._drop_hopeless()
        return racer

    def _admit(self, setup: Setup, worker: RaceWorker, eligible: bool, baseline: bool) -> Racer | None:
        facts = worker.wait_until_loaded()
        if facts.slow:
            self.left_out[setup.name] = "slow by design"
            return None
        good_enough = facts.worst_psnr >= self.quality
        if eligible and not good_enough:
            self.left_out[setup.name] = f"{facts.worst_psnr:.1f} dB, but {self.quality:g} dB are required"
        if not (eligible and good_enough) and not baseline:
            return None
        tracks = {b: Track(Case(setup, b, False), worker, round_ns=_FIRST_ROUND_NS) for b in self.batches}
        racer = Racer(setup, worker, facts, tracks, eligible and good_enough, baseline)
        for batch, track in tracks.items():
            timed, pair_ns = track.time(1)
            if pair_ns < _LONG_CALL_NS:  # preparation takes most of a short first call at a batch size
                timed, _ = track.time(track.pairs)
            racer.first_ns[batch] = min(timed.end_to_end)
            self._peak_mib = max(self._peak_mib, timed.peak_mib or 0.0)
        self.racers.append(racer)
        return racer

    def slowdown(self, racer: Racer) -> float:
        """Return how many times as long as the best its first calls took, at the batch size where that is least."""
        rivals = [rival for rival in self.racers if rival.eligible] or [racer]
        return min(racer.first_ns[b] / min(r.first_ns[b] for r in rivals) for b in self.batches)

    def _drop_hopeless(self) -> None:
        for racer in [r for r in self.racers if not r.baseline]:
            if (slowdown := self.slowdown(racer)) > HOPELESS:
                racer.worker.close()
                self.racers.remove(racer)
                self.left_out[racer.setup.name] = f"first calls at least {slowdown:.1f} times as slow as the best"

    def decide(self) -> None:
        """Measure until every batch size is decided or the time is up."""
        tracks = [track for racer in self.racers for track in racer.tracks.values()]
        schedule.run(tracks, self.deadline, self.now, self.report, after_sweep=self._finish_sweep)

    def find_winner(self, batch: int) -> Winner | None:
        """Return the fastest at a batch size; None when nothing eligible was measured.

        While it is undecided, the baseline wins unless the fastest is measurably faster: by the interval of the ratio
        of their times in rounds of the same sweeps, or by HOPELESS in each of a few.
        """
        best = self._find_best(batch)
        if best is None:
            return None
        rivals = self._list_rivals(best, batch)
        if self._all_tried and not rivals:
            return Winner(best, True, self._describe_rivals(best, batch))
        base = next((r for r in self._list_measured(batch) if r.baseline), best)
        if not _is_faster(best, base, batch):
            best = base
        names = ", ".join(r.setup.name for r in self._list_rivals(best, batch))
        return Winner(
            best, False, f"the time ran out before {f'{names} could be ruled out' if names else 'all were tried'}"
        )

    def _list_rivals(self, best: Racer, batch: int) -> list[Racer]:
        """Those that may be faster than `best`, as far as is known."""
        left = [r for r in self._list_measured(batch) if r is not best and batch not in r.beaten]
        return [r for r in left if not _is_hopeless(r, best, batch)]

    def _describe_rivals(self, best: Racer, batch: int) -> str:
        rivals = [r for r in self._list_measured(batch) if r is not best]
        regrets = {r.setup.name: _bound_regret(best, r, batch) for r in rivals}
        close = {name: regret for name, regret in regrets.items() if 0 < regret < math.inf}
        if close:
            return f"{', '.join(close)} may be faster, by at most {max(close.values()):.1%}"
        return "all others are slower" if rivals else "no other came close"

    def _finish_sweep(self) -> None:
        """Mark what is decided, and end the workers that are no longer needed."""
        states = [f"batch {batch}: {self._update_batch(batch) or 'decided'}" for batch in self.batches]
        for racer in self.racers:
            if all(track.done for track in racer.tracks.values()):
                racer.worker.close()
        self.report("candidates left: " + ", ".join(states))

    def _update_batch(self, batch: int) -> int:
        """Mark the racers that need no more rounds at a batch size. Returns how many may still win; 0 when decided."""
        best = self._find_best(batch)
        if best is None:
            return len(self.racers)
        others = [r for r in self.racers if r is not best and not r.failure_reason and not r.tracks[batch].done]
        for racer in others:
            hopeless = _is_hopeless(racer, best, batch) and not racer.baseline
            if hopeless or _bound_regret(best, racer, batch) <= REGRET:
                racer.beaten.add(batch)
            compared = not racer.eligible and _has_interval(racer, batch)
            racer.tracks[batch].done = batch in racer.beaten or compared
        left = [r for r in others if not r.tracks[batch].done]
        best.tracks[batch].done = not left and _has_interval(best, batch)
        return 0 if best.tracks[batch].done else 1 + sum(r.eligible for r in left)

    def _list_measured(self, batch: int) -> list[Racer]:
        return [r for r in self.racers if r.eligible and not r.failure_reason and r.tracks[batch].rounds]

    def _find_best(self, batch: int) -> Racer | None:
        """The one with the least median among those that are not beaten, or among all when all are."""
        measured = self._list_measured(batch)
        left = [r for r in measured if batch not in r.beaten] or measured
        return min(left, key=lambda r: _median_seconds(r, batch), default=None)


def _median_seconds(racer: Racer, batch: int) -> float:
    estimate = racer.estimate_seconds(batch)
    return math.inf if estimate is None else estimate.value


def _has_interval(racer: Racer, batch: int) -> bool:
    """Return whether there are enough rounds for an interval."""
    return len(racer.tracks[batch].rounds) >= statistics.MIN_ROUNDS


def compare_rounds(slower: Racer, faster: Racer, batch: int) -> list[float]:
    """Return how many times as long one takes as the other, sweep by sweep. Rounds of one sweep are close in time, so
    other load on the machine slows both alike."""
    one, two = slower.tracks[batch].rounds, faster.tracks[batch].rounds
    sweeps = sorted(one.keys() & two.keys())
    return [float(np.median(one[s].end_to_end) / np.median(two[s].end_to_end)) for s in sweeps]


def _bound_regret(best: Racer, other: Racer, batch: int) -> float:
    """By how much, as a share of its time, `other` may be faster than `best`: the upper bound of the interval. Infinite
    while there is no interval."""
    ratios = compare_rounds(other, best, batch)
    low = statistics.quantile(ratios, 0.5).low if ratios else None
    return math.inf if low is None else 1 / low - 1


def _is_faster(one: Racer, other: Racer, batch: int) -> bool:
    """Return whether `one` is measurably faster than `other`."""
    ratios = compare_rounds(other, one, batch)
    low = statistics.quantile(ratios, 0.5).low if ratios else None
    return _is_hopeless(other, one, batch) or (low is not None and low > 1)


def _is_hopeless(racer: Racer, best: Racer, batch: int) -> bool:
    """Return whether it is so far behind that no interval is needed."""
    ratios = compare_rounds(racer, best, batch)
    return len(ratios) >= _HOPELESS_ROUNDS and min(ratios) > HOPELESS
