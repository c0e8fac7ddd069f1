"""When progressive networks grow (Karras, Aila, Laine, Lehtinen, "Progressive Growing of GANs", ICLR 2018)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Growth:
    """Which stage is trained at a step, and how far its newest block has come in: a function of the step alone.

    Stage 0 is trained for `hold` steps; every stage after it takes `fade` steps in which its newest block comes in, and
    `hold` steps as it is. The last one is trained for as long as there are steps.
    """

    last: int
    """The stage at which the networks have their full size."""
    fade: int
    """Steps; 0 puts in every block at once."""
    hold: int
    """Steps, at least 1."""

    def stage_at(self, step: int) -> tuple[int, float]:
        """Stage, and share of its newest block from 0 to 1. The first step of a fade has the share 0, so that it
        computes what the step before it did."""
        stage = self._stage(step)
        since = step - self.starts[stage]
        return stage, 1.0 if stage == 0 or since >= self.fade else since / self.fade

    @property
    def starts(self) -> tuple[int, ...]:
        """The first step of every stage."""
        return (0, *(self.hold + k * (self.fade + self.hold) for k in range(self.last)))

    @property
    def full_size_step(self) -> int:
        """The first step at which nothing is left to grow."""
        return self.starts[-1] + (self.fade if self.last else 0)

    def _stage(self, step: int) -> int:
        return min(self.last, max(0, 1 + (step - self.hold) // (self.fade + self.hold)))
