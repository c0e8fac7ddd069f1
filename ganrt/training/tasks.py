"""The image-to-image tasks, by the name that a family gives. To add one: its module, and a row of TASKS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ganrt.errors import RequestError
from ganrt.models.family import AnyFamily, configured
from ganrt.training.from_features import SynthesisObjective, SynthesisRecipe
from ganrt.training.image_tasks import Objective
from ganrt.training.style import AdainObjective, AdainRecipe, StyleObjective, StyleRecipe
from ganrt.training.super_resolution import SuperResolutionObjective, SuperResolutionRecipe


@dataclass(frozen=True)
class Task:
    """One way to train."""

    recipe: type[Any]
    """ganrt.training.image_tasks.Recipe."""
    objective: Callable[[Any, Any], Objective]
    """(recipe, config of the family) -> what training minimises."""


TASKS: dict[str, Task] = {
    "style": Task(StyleRecipe, StyleObjective),
    "any-style": Task(AdainRecipe, AdainObjective),
    "super-resolution": Task(SuperResolutionRecipe, SuperResolutionObjective),
    "synthesis": Task(SynthesisRecipe, SynthesisObjective),
}
"""`Family.task` -> how it is trained. Families of no row are trained adversarially, on noise."""


def recipe_of(family: AnyFamily, values: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a family's task as plain values; those left out take their defaults.

    Raises RequestError for an unknown name, a value out of bounds, and any setting of a family without a task.
    """
    task = TASKS.get(family.task)
    if task is not None:
        return asdict(configured(task.recipe, values, f"the recipe of {family.name}"))
    if values:
        raise RequestError(f"{family.name} is trained on noise and takes no recipe; leave out {', '.join(values)}")
    return {}


def objective_of(family: AnyFamily, config: Mapping[str, Any], recipe: Mapping[str, Any]) -> Objective | None:
    """None for a family without a task. Raises RequestError, ArtifactError or CheckpointError for a recipe whose files
    cannot be used."""
    task = TASKS.get(family.task)
    if task is None:
        return None
    return task.objective(configured(task.recipe, recipe, f"the recipe of {family.name}"), family.configure(config))
