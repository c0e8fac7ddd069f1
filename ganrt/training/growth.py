"""`Growth`: the schedule of progressive growing (Karras, Aila, Laine, Lehtinen, "Progressive Growing of GANs", ICLR
2018)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Growth:
    """Stage and fade-in as a function of the step.

    Stage 0 takes `hold` steps. Every later stage takes `fade` steps, during which its newest block is blended in, and
    then `hold` steps. The last stage continues to the end of the run.
    """

    last: int
    """Index of the last stage, at which the networks have their full size."""
    fade: int
    """Steps of a fade-in; 0 switches each block on at once."""
    hold: int
    """Steps of a stage after its fade-in, at least 1."""

    def stage_at(self, step: int) -> tuple[int, float]:
        """Stage, and weight of its newest block from 0 to 1. The first step of a fade has weight 0, so that it computes
        the same as the step before."""
        stage = self._find_stage(step)
        since = step - self.starts[stage]
        return stage, 1.0 if stage == 0 or since >= self.fade else since / self.fade

    @property
    def starts(self) -> tuple[int, ...]:
        """The first step of every stage."""
        return (0, *(self.hold + k * (self.fade + self.hold) for k in range(self.last)))

    @property
    def full_size_step(self) -> int:
        """The first step at which the networks have their full size and nothing fades in."""
        return self.starts[-1] + (self.fade if self.last else 0)

    def _find_stage(self, step: int) -> int:
        return min(self.last, max(0, 1 + (step - self.hold) // (self.fade + self.hold)))
