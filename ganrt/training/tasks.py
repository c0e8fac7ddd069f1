"""TASKS: how each `Family.task` is trained. To add one: its module, and a row of TASKS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ganrt.models.family import AnyFamily, parse_config
from ganrt.training.growth import Growth
from ganrt.training.image_synthesis import SynthesisObjective, SynthesisRecipe
from ganrt.training.image_tasks import Objective
from ganrt.training.noise_tasks import GrowingRecipe, NoiseRecipe
from ganrt.training.style import AdainObjective, AdainRecipe, StyleObjective, StyleRecipe
from ganrt.training.super_resolution import SuperResolutionObjective, SuperResolutionRecipe


@dataclass(frozen=True)
class Task:
    """How a family is trained."""

    recipe: type[Any]
    """Class of its settings: an `image_tasks.Recipe` or a `noise_tasks.NoiseRecipe`."""
    objective: Callable[[Any, Any], Objective] | None = None
    """(recipe, config of the family) -> objective of an image-to-image task; None for training on noise against the
    family's discriminator."""


TASKS: dict[str, Task] = {
    "adversarial": Task(NoiseRecipe),
    "progressive": Task(GrowingRecipe),
    "style": Task(StyleRecipe, StyleObjective),
    "any-style": Task(AdainRecipe, AdainObjective),
    "super-resolution": Task(SuperResolutionRecipe, SuperResolutionObjective),
    "synthesis": Task(SynthesisRecipe, SynthesisObjective),
}
"""`Family.task` -> task."""


def trains_on_noise(family: AnyFamily) -> bool:
    """Whether a family is trained on noise; others are trained on photographs."""
    return TASKS[family.task].objective is None


def complete_recipe(family: AnyFamily, values: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a family's task as plain values, with defaults for those left out.

    Raises RequestError for an unknown name and a value out of bounds.
    """
    return asdict(_parse_recipe(family, values))


def build_objective(family: AnyFamily, config: Mapping[str, Any], recipe: Mapping[str, Any]) -> Objective | None:
    """The objective of a family's task; None for a task on noise.

    Raises RequestError, ArtifactError or CheckpointError when a file that the recipe names cannot be used.
    """
    objective = TASKS[family.task].objective
    return None if objective is None else objective(_parse_recipe(family, recipe), family.configure(config))


def build_growth(family: AnyFamily, config: Mapping[str, Any], recipe: Mapping[str, Any], batch: int) -> Growth | None:
    """The schedule of growing networks; None for others. Raises RequestError for an invalid recipe."""
    settings = _parse_recipe(family, recipe)
    if not isinstance(settings, GrowingRecipe):
        return None
    return settings.build_growth(len(family.configure(config).widths) - 1, batch)


def _parse_recipe(family: AnyFamily, values: Mapping[str, Any]) -> Any:
    return parse_config(TASKS[family.task].recipe, values, f"the recipe of {family.name}")
