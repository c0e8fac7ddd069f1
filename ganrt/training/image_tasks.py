"""What image-to-image training asks of a task."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from ganrt.errors import RequestError


class Example(NamedTuple):
    """What the generator is given, and what its picture is judged by."""

    inputs: list[Tensor]
    """In the order and the ranges of the Spec."""
    target: Tensor
    """RGB (N, 3, H, W) in [0, 1]: the picture to make, or the content to keep."""
    weight: Tensor
    """(N, 1, H, W) or (1, 1, 1, 1): how much each pixel of the target counts."""


class Recipe(Protocol):
    """Frozen dataclass of plain values with defaults, which checks itself: the settings of a task."""

    @property
    def crop(self) -> int:
        """Side of the crops of photographs, in pixels."""


class Objective(Protocol):
    """A task with its recipe. A module, so that what it compares with follows it to the device."""

    terms: tuple[str, ...]
    """Names of the losses, as the log has them."""
    numbers: int
    """Random numbers that an example takes."""

    def prepare_generator(self, generator: nn.Module) -> None:
        """Bring fresh weights of the generator into the form that training starts from, on the CPU."""

    def build_discriminator(self) -> nn.Module | None:
        """Pictures (N, C, H, W) in [0, 1] -> logits; None for a task without one."""

    def make_examples(self, crops: Tensor, drawn: Tensor) -> Example:
        """Crops, RGB (N, 3, H, W) in [0, 1], and random numbers (N, numbers or 1) in (0, 1) -> what to train on. Row k
        depends on row k alone."""

    def compute_losses(self, example: Example, made: Tensor) -> dict[str, Tensor]:
        """Each of `terms` -> a scalar, times its weight. `made` is in the range of the Spec."""


def check_weights(recipe: object, *names: str) -> None:
    """Raise RequestError unless these fields of a recipe are numbers from 0."""
    for name in names:
        value = getattr(recipe, name)
        if not math.isfinite(value) or value < 0:
            raise RequestError(f"{name} is {value}; it must be at least 0")
