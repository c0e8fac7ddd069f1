"""Interface of the image-to-image tasks: `Recipe`, `Objective` and `Example`."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from ganrt.errors import RequestError


class Example(NamedTuple):
    """A training batch: the generator's inputs, and the target of its output."""

    inputs: list[Tensor]
    """The generator's inputs, in the order and ranges of the Spec."""
    target: Tensor
    """RGB (N, 3, H, W) in [0, 1]: the image to reproduce, or the content to keep."""
    weight: Tensor
    """Weight of each pixel of the target, (N, 1, H, W) or (1, 1, 1, 1)."""


class Recipe(Protocol):
    """Settings of a task: a frozen dataclass of plain values with defaults, which validates itself."""

    @property
    def crop(self) -> int:
        """Side in pixels of the crops taken from photographs."""


class Objective(Protocol):
    """What a task minimises. It is a module, so that its feature extractors move to the device with it."""

    terms: tuple[str, ...]
    """Names of the loss terms, as in the log."""
    numbers: int
    """Random numbers that each example needs."""

    def prepare_generator(self, generator: nn.Module) -> None:
        """Initialise a fresh generator for training, on the CPU."""

    def build_discriminator(self) -> nn.Module | None:
        """Build a discriminator, images (N, C, H, W) in [0, 1] -> logits; None for a task without one."""

    def make_examples(self, crops: Tensor, drawn: Tensor) -> Example:
        """Build a batch from crops, RGB (N, 3, H, W) in [0, 1], and random numbers in (0, 1), (N, max(1, numbers)). Row
        k depends on row k only."""

    def compute_losses(self, example: Example, made: Tensor) -> dict[str, Tensor]:
        """Each of `terms` -> its weighted loss, a scalar. `made` is the generator's output, in the range of the
        Spec."""


def check_weights(recipe: object, *names: str) -> None:
    """Raise RequestError unless these fields of a recipe are finite and at least 0."""
    for name in names:
        value = getattr(recipe, name)
        if not math.isfinite(value) or value < 0:
            raise RequestError(f"{name} is {value}; it must be at least 0")
