"""`DrainRate`: how fast a batcher computes, to predict how long a request would wait."""

from __future__ import annotations

_DECAY = 0.8
"""What an older batch counts, compared with the one after it: about five batches decide."""


class DrainRate:
    """The work per second of recent batches.

    Batches after which rows were still waiting, or that were full, show what the model can do. A batch of a single row
    on an idle machine does not, and counts only as long as there was no other.
    """

    def __init__(self) -> None:
        self._weight, self._seconds = 0.0, 0.0
        self._draining = False

    def add(self, weight: float, seconds: float, draining: bool) -> None:
        """Count a batch.

        Args:
            weight: its work.
            seconds: how long it took, the wait for its turn included.
            draining: whether it was full, or rows were left waiting.
        """
        if draining != self._draining:
            if self._draining:
                return
            self._weight, self._seconds, self._draining = 0.0, 0.0, True
        self._weight = _DECAY * self._weight + weight
        self._seconds = _DECAY * self._seconds + seconds

    def predict(self, weight: float) -> float:
        """Return the seconds that some work would take; 0 before the first batch."""
        return weight * self._seconds / self._weight if self._weight else 0.0
