"""Adaptive discriminator augmentation (ADA; Karras et al., "Training Generative Adversarial Networks with Limited
Data", NeurIPS 2020, section 3.1)."""

from __future__ import annotations

from typing import Any

EVERY = 4
"""Discriminator updates between two changes of the probability."""


class AdaptiveProbability:
    """The probability of an augmentation, from 0 to 1. It starts at 0 and is adjusted to hold E[sign D(real)], which is
    0 for a discriminator that guesses and 1 for one that recognises every real image.

    Args:
        target: value of E[sign D(real)] to hold; 0.6 in the paper.
        images: number of real images in which the probability can rise from 0 to 1; 500,000 in the paper.
    """

    def __init__(self, target: float, images: int) -> None:
        self.target, self.images = target, images
        self.value = 0.0
        self._signs, self._seen, self._updates = 0.0, 0, 0

    def observe(self, sign: float, count: int) -> None:
        """Record the mean sign of the logits of `count` real images, from one discriminator update."""
        self._signs += sign * count
        self._seen += count
        self._updates += 1
        if self._updates < EVERY:
            return
        mean = self._signs / self._seen
        direction = (mean > self.target) - (mean < self.target)
        self.value = min(1.0, max(0.0, self.value + direction * self._seen / self.images))
        self._signs, self._seen, self._updates = 0.0, 0, 0

    def state_dict(self) -> dict[str, Any]:
        """The state as plain numbers."""
        return {"value": self.value, "signs": self._signs, "seen": self._seen, "updates": self._updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`. Raises KeyError, TypeError or ValueError for anything else."""
        value, signs = float(state["value"]), float(state["signs"])
        seen, updates = int(state["seen"]), int(state["updates"])
        if not (0 <= value <= 1 and 0 <= updates < EVERY and abs(signs) <= seen):
            raise ValueError(f"the chance of an augmentation is {state}")
        self.value, self._signs, self._seen, self._updates = value, signs, seen, updates
