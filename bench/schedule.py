"""The order of rounds, their length, and when to stop."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np

from . import statistics
from .cases import Case
from .process import WorkerFailed
from .worker import Failure, Round, RoundRequest

Clock: TypeAlias = Callable[[], int]
"""Returns nanoseconds."""
Log: TypeAlias = Callable[[str], None]
"""Receives a line of progress."""

_ROUNDS = 16
"""Rounds that a case should get out of its share of the time."""
_ROUND_NS = (20e6, 300e6)
"""Shortest and longest round, unless a single pair of calls takes longer."""
_TIMED_SHARE = 0.4
"""Share of a round that is timed. The rest draws inputs, compares pictures and waits until the process is idle."""
_WINDOWS, _MAX_WINDOWS, _STEADY = 3, 10, 0.05
"""The warm-up ends when the last _WINDOWS agree within _STEADY, or after _MAX_WINDOWS."""
_WARM_UP_SHARE = 0.15
"""Share of a case's time that the warm-up may take."""
_CONVERGED = 0.01
"""A case has converged when half its intervals' width is below this share of the median, after _ROUNDS rounds."""
_LOG_EVERY = 0.1
"""Share of the time between two lines of progress."""


class RoundTimer(Protocol):
    """Times the rounds of one setup: a `Worker`, or a fake. Raises WorkerFailed."""

    def time_round(self, request: RoundRequest) -> Round: ...


@dataclass
class Track:
    """A case and what was measured of it so far."""

    case: Case
    """The setup and batch size."""
    timer: RoundTimer
    """Shared by all cases of a setup."""
    round_ns: float = 0.0
    """Target duration of the timed part of a round."""
    pairs: int = 1
    """Pairs of calls that fit into the next round."""
    warm_up: list[Round] = field(default_factory=list)
    """Rounds of the warm-up, which do not count."""
    steady: bool = False
    """Whether the last rounds of the warm-up agreed."""
    rounds: dict[int, Round] = field(default_factory=dict)
    """Number of the sweep -> its round."""
    spent_ns: int = 0
    """Total time of the rounds, including their untimed parts."""
    next_sample: int = 0
    """Index of the first sample that no call has used yet."""
    failure: Failure | None = None
    """Why the timer failed."""
    done: bool = False
    """True once it needs no more rounds."""

    @property
    def cost_ns(self) -> float:
        """Expected time of one more round."""
        return self.spent_ns / len(self.rounds)

    def time(self, pairs: int) -> tuple[Round, float]:
        """Time a round on samples that no round has used. Returns it and the median time of its pairs of calls."""
        first, self.next_sample = self.next_sample, self.next_sample + (pairs + 1) * self.case.batch
        timed = self.timer.time_round(RoundRequest(self.case.batch, pairs, first))
        median_ns = float(np.median(np.add(timed.session, timed.end_to_end)))
        self.pairs = max(1, round(self.round_ns / median_ns))
        return timed, median_ns

    @property
    def converged(self) -> bool:
        """True when more rounds would hardly change the figures."""
        if len(self.rounds) < _ROUNDS:
            return False
        rounds = self.rounds.values()
        scopes = ([r.session for r in rounds], [r.end_to_end for r in rounds])
        return all(statistics.median(scope).half_width < _CONVERGED for scope in scopes)


def run(
    tracks: Sequence[Track],
    deadline: int,
    now: Clock,
    log: Log,
    seed: int = 0,
    after_sweep: Callable[[], None] = lambda: None,
) -> None:
    """Warm every track up, then sweep over them in shuffled order until all have converged or `deadline` is near.

    Every track gets one round at least, unless its timer fails; then all tracks of that timer stop.

    Args:
        deadline: when to stop, on the clock `now`.
        seed: of the shuffled order.
        after_sweep: called after every sweep; it may set `Track.done`.
    """
    if not tracks:
        return
    left = max(0, deadline - now())
    share = left / len(tracks)
    for track in tracks:
        log(f"warming up {track.case}")
        _attempt(track, tracks, lambda t: _warm_up(t, share, now))
    rng = random.Random(seed)
    sweep, logged = 0, now()
    while _run_sweep(tracks, sweep, deadline, now, rng):
        sweep += 1
        after_sweep()
        if now() - logged > _LOG_EVERY * left:
            logged = now()
            log(f"rounds of each case so far: {sweep}; {max(0, deadline - logged) / 1e9:.0f} s left")


def _run_sweep(tracks: Sequence[Track], number: int, deadline: int, now: Clock, rng: random.Random) -> bool:
    """Run one round of every track that is due. Returns False when nothing is left to do."""
    live = [t for t in tracks if t.failure is None and not t.done]
    due = [t for t in live if not t.rounds or not _is_ahead(t, live)]
    rng.shuffle(due)
    ran = False
    for track in due:
        if track.failure is None and (not track.rounds or now() + track.cost_ns <= deadline):
            _attempt(track, tracks, lambda t: _run_round(t, number, now))
            ran = True
    return ran and not all(t.converged for t in live if not t.case.slow)


def _warm_up(track: Track, share_ns: float, now: Clock) -> None:
    """Run rounds of half the length until the last ones agree, or _WARM_UP_SHARE of the case's time is used."""
    start = now()
    track.round_ns = float(np.clip(_TIMED_SHARE * share_ns / _ROUNDS, *_ROUND_NS))
    medians: list[float] = []
    while len(medians) < _MAX_WINDOWS and not track.steady:
        window, median_ns = track.time(-(-track.pairs // 2))
        track.warm_up.append(window)
        medians.append(median_ns)
        last = medians[1:][-_WINDOWS:]
        track.steady = len(last) == _WINDOWS and max(last) <= (1 + _STEADY) * min(last)
        if now() - start > _WARM_UP_SHARE * share_ns:
            return


def _run_round(track: Track, sweep: int, now: Clock) -> None:
    start = now()
    track.rounds[sweep], _ = track.time(track.pairs)
    track.spent_ns += now() - start


def _is_ahead(track: Track, live: Sequence[Track]) -> bool:
    """Whether a track must wait for the others: a slow one may take twice the median time, not all of it."""
    return track.spent_ns > 2 * float(np.median([t.spent_ns for t in live]))


def _attempt(track: Track, tracks: Sequence[Track], step: Callable[[Track], None]) -> None:
    """Run a step. If the worker fails, all of its tracks fail."""
    try:
        step(track)
    except WorkerFailed as error:
        for other in tracks:
            if other.timer is track.timer:
                other.failure = error.failure
