"""In which order rounds are run, how long they are, and when enough is enough."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np

from . import statistics
from .cases import Case
from .process import WorkerFailed
from .worker import Failure, Order, Round

Clock: TypeAlias = Callable[[], int]
Progress: TypeAlias = Callable[[str], None]

_ROUNDS = 16
"""Rounds that a case should get out of its share of the time."""
_ROUND_NS = (20e6, 300e6)
"""Shortest and longest round, unless a single pair of calls takes longer."""
_OVERHEAD = 0.4
"""Share of a round's time that is measured; the rest draws inputs, checks pictures and waits for quiet."""
_WINDOWS, _MAX_WINDOWS, _STEADY = 3, 10, 0.05
_WARM_UP_SHARE = 0.15
_SURE = 0.01
"""A case is sure when half its intervals is below this share of the median, after _ROUNDS rounds."""
_TELL_EVERY = 0.1


class Timer(Protocol):
    """What times a round: a Worker, or a pretended one. Raises WorkerFailed."""

    def round(self, order: Order) -> Round: ...


@dataclass
class Track:
    """A case on its way."""

    case: Case
    timer: Timer
    round_ns: float = 0.0
    """How long the timed part of a round should take."""
    pairs: int = 1
    """Calls of each scope that the next round has room for."""
    warm_up: list[Round] = field(default_factory=list)
    steady: bool = False
    rounds: dict[int, Round] = field(default_factory=dict)
    """Number of the sweep -> its round."""
    spent_ns: int = 0
    """What the rounds took in all, their untimed parts included."""
    next_sample: int = 0
    failure: Failure | None = None
    done: bool = False
    """Whether nothing more is to be asked of it."""

    @property
    def cost_ns(self) -> float:
        """What one more round is expected to take."""
        return self.spent_ns / len(self.rounds)

    def time(self, pairs: int) -> tuple[Round, float]:
        """One round, on samples that no round has had before, and the median time of its pairs."""
        first, self.next_sample = self.next_sample, self.next_sample + (pairs + 1) * self.case.batch
        found = self.timer.round(Order(self.case.batch, pairs, first))
        middle = float(np.median(np.add(found.session, found.whole)))
        self.pairs = max(1, round(self.round_ns / middle))
        return found, middle

    @property
    def sure(self) -> bool:
        """Whether more rounds would tell little more."""
        if len(self.rounds) < _ROUNDS:
            return False
        rounds = self.rounds.values()
        scopes = ([r.session for r in rounds], [r.whole for r in rounds])
        return all(statistics.median(scope).half_width < _SURE for scope in scopes)


def run(
    tracks: Sequence[Track],
    deadline: int,
    now: Clock,
    tell: Progress,
    seed: int = 0,
    settle: Callable[[], None] = lambda: None,
) -> None:
    """Warm every track up, then sweep over them in shuffled order until all are sure or done, or `deadline` is near.

    Every track gets one round at least, unless its timer fails; then all tracks of that timer are given up.

    Args:
        settle: called after every sweep; it may mark tracks as done.
    """
    if not tracks:
        return
    left = max(0, deadline - now())
    share = left / len(tracks)
    for track in tracks:
        tell(f"warming up {track.case}")
        _guarded(track, tracks, lambda t: _warm_up(t, share, now))
    rng = random.Random(seed)
    sweep, told = 0, now()
    while _sweep(tracks, sweep, deadline, now, rng):
        sweep += 1
        settle()
        if now() - told > _TELL_EVERY * left:
            told = now()
            tell(f"measured {sweep} rounds of each case, {max(0, deadline - told) / 1e9:.0f} s left")


def _sweep(tracks: Sequence[Track], number: int, deadline: int, now: Clock, rng: random.Random) -> bool:
    """One round of every track whose turn it is; False when there is nothing left to do."""
    live = [t for t in tracks if t.failure is None and not t.done]
    chosen = [t for t in live if not t.rounds or not _ahead(t, live)]
    rng.shuffle(chosen)
    ran = False
    for track in chosen:
        if track.failure is None and (not track.rounds or now() + track.cost_ns <= deadline):
            _guarded(track, tracks, lambda t: _round(t, number, now))
            ran = True
    return ran and not all(t.sure for t in live if not t.case.slow)


def _warm_up(track: Track, share_ns: float, now: Clock) -> None:
    """Half rounds until the last ones agree, or a part of the case's share of time is gone."""
    start = now()
    track.round_ns = float(np.clip(_OVERHEAD * share_ns / _ROUNDS, *_ROUND_NS))
    middles: list[float] = []
    while len(middles) < _MAX_WINDOWS and not track.steady:
        window, middle = track.time(-(-track.pairs // 2))
        track.warm_up.append(window)
        middles.append(middle)
        last = middles[1:][-_WINDOWS:]
        track.steady = len(last) == _WINDOWS and max(last) <= (1 + _STEADY) * min(last)
        if now() - start > _WARM_UP_SHARE * share_ns:
            return


def _round(track: Track, sweep: int, now: Clock) -> None:
    start = now()
    track.rounds[sweep], _ = track.time(track.pairs)
    track.spent_ns += now() - start


def _ahead(track: Track, live: Sequence[Track]) -> bool:
    """Whether a track must wait for the others: a slow one may take twice the time of the median, not all of it."""
    return track.spent_ns > 2 * float(np.median([t.spent_ns for t in live]))


def _guarded(track: Track, tracks: Sequence[Track], step: Callable[[Track], None]) -> None:
    try:
        step(track)
    except WorkerFailed as error:
        for other in tracks:
            if other.timer is track.timer:
                other.failure = error.failure
