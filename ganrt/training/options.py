"""`TrainingOptions`: all that a training run depends on. Plain, frozen, to and from JSON; checks itself when made."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ganrt.errors import RequestError
from ganrt.latents import check_seed
from ganrt.models import get_family
from ganrt.spec import Label, Spec
from ganrt.training.augment import KINDS
from ganrt.training.growth import Growth
from ganrt.training.image_tasks import Objective
from ganrt.training.losses import LOSSES
from ganrt.training.tasks import build_growth, build_objective, complete_recipe, trains_on_noise

_COUNTS = (
    "steps",
    "batch",
    "critic_steps",
    "packing",
    "accumulate",
    "sample_every",
    "checkpoint_every",
    "log_every",
    "devices",
)
_PLAIN_BETAS = (0.9, 0.999)
"""Of Adam where there is no discriminator: its authors' own."""
_FREE = ("steps", "sample_every", "checkpoint_every", "log_every", "device", "devices")
"""What may differ when a run is resumed: the rest decides which weights come out."""


@dataclass(frozen=True)
class TrainingOptions:
    """The seed, and everything else that decides which weights come out. Raises RequestError for a value that makes no
    sense."""

    family: str
    config: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the family; those left out take its defaults, so that all are here once this is made."""
    data: str = ""
    """`digits`, `folder:PATH` or `FILE.npz`; for image-to-image tasks `photos` or `folder:PATH`. "" asks for `digits`
    or `photos`, and is replaced by it."""
    loss: str = "non-saturating"
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the family's task (ganrt.training.tasks); those left out take its defaults."""
    steps: int = 1500
    """Each updates the discriminator `critic_steps` times and the generator once."""
    batch: int = 64
    """Images per update, over all processes together."""
    critic_steps: int = 0
    """Discriminator updates per step; 0 asks for those of the loss, and is replaced by their number."""
    generator_lr: float = 5e-4
    discriminator_lr: float = 5e-4
    betas: tuple[float, ...] = ()
    """Of Adam, two numbers for both networks; () asks for those of the loss, and is replaced by them."""
    halve_every: int = 0
    """Steps after which an image-to-image task has halved its learning rate, little by little; 0 keeps it."""
    ema: float = 0.995
    """Decay per step of the moving average of the generator, which is what a run gives out."""
    augment: tuple[str, ...] = ()
    """Kinds of DiffAugment (ganrt.training.augment) that whatever the discriminator sees goes through, in order."""
    packing: int = 1
    """Images that the discriminator sees at once, side by side in the channels, to judge them together."""
    orthogonal: float = 0.0
    """Weight of the generator's orthogonal regularisation; 1e-4 in BigGAN."""
    accumulate: int = 1
    """Parts that a batch is computed in, one after another, to save memory."""
    precision: str = "fp32"
    """`fp32`, or `bf16-mixed`: float32 weights, most of the arithmetic in bfloat16."""
    seed: int = 0
    sample_every: int = 250
    """Steps between two sample grids."""
    checkpoint_every: int = 250
    """Steps between two checkpoints."""
    log_every: int = 10
    """Steps between two rows of the log."""
    device: str = "auto"
    """`auto` (a GPU where there is one), `cpu` or `cuda`."""
    devices: int = 1
    """Processes that share the work, each with a GPU of its own on `cuda`."""

    def __post_init__(self) -> None:
        _check_choice("family", self.family)
        if not isinstance(self.config, Mapping):
            raise RequestError(f"config is {self.config!r}; it must map the family's settings to values")
        family = get_family(self.family)
        object.__setattr__(self, "config", family.settings(family.configure(self.config)))
        if not isinstance(self.recipe, Mapping):
            raise RequestError(f"recipe is {self.recipe!r}; it must map the task's settings to values")
        object.__setattr__(self, "recipe", complete_recipe(family, self.recipe))
        if self.data == "":
            object.__setattr__(self, "data", "digits" if trains_on_noise(family) else "photos")
        _check_choice("data", self.data)
        _check_choice("loss", self.loss, tuple(LOSSES))
        _check_choice("device", self.device, ("auto", "cpu", "cuda"))
        if self.critic_steps == 0:
            object.__setattr__(self, "critic_steps", LOSSES[self.loss].critic_steps)
        if self.betas == ():
            plain = not trains_on_noise(family) and not self.recipe.get("adversarial_weight")
            object.__setattr__(self, "betas", _PLAIN_BETAS if plain else LOSSES[self.loss].betas)
        for name in _COUNTS:
            _check_count(name, getattr(self, name))
        self._check_numbers()
        self._check_kinds()
        check_seed(self.seed)
        if trains_on_noise(family):
            self._check_noise_task()
        else:
            self._check_photo_task()
        parts = self.devices * self.accumulate * self.packing
        if self.batch % parts:
            raise RequestError(
                f"a batch of {self.batch} cannot be shared out evenly to {self.devices} processes, each in "
                f"{self.accumulate} parts of packs of {self.packing}"
            )

    def _check_numbers(self) -> None:
        for name in ("generator_lr", "discriminator_lr"):
            _check_number(name, getattr(self, name), "above 0 and at most 1", lambda value: 0 < value <= 1)
        _check_number("ema", self.ema, "at least 0 and below 1", lambda value: 0 <= value < 1)
        if not isinstance(self.betas, tuple) or len(self.betas) != 2:
            raise RequestError(f"betas is {self.betas!r}; Adam takes two numbers")
        for value in self.betas:
            _check_number("betas", value, "at least 0 and below 1", lambda beta: 0 <= beta < 1)
        _check_number("orthogonal", self.orthogonal, "at least 0 and at most 1", lambda value: 0 <= value <= 1)
        if isinstance(self.halve_every, bool) or not isinstance(self.halve_every, int) or self.halve_every < 0:
            raise RequestError(f"halve_every is {self.halve_every!r}; it must be a whole number from 0")

    def _check_noise_task(self) -> None:
        if self.halve_every:
            raise RequestError(f"{self.family} is trained at one learning rate; leave out halve_every")
        if self.recipe["ada"] and not self.augment:
            raise RequestError(f"ada is {self.recipe['ada']}, but there is no augment whose chance it could adapt")
        if self.recipe["ada"] and not LOSSES[self.loss].centred:
            raise RequestError(f"ada needs logits that are above 0 for real images; those of {self.loss} need not be")
        if self.devices > 1 and self.growth is not None:
            raise RequestError(f"{self.family} grows on one device; {self.devices} were asked for")

    def _check_photo_task(self) -> None:
        if LOSSES[self.loss].penalty or LOSSES[self.loss].clip:
            raise RequestError(f"the loss {self.loss} is not for {self.family}: it bounds the critic; choose another")
        noise_only = [name for name in ("augment", "orthogonal") if getattr(self, name)]
        noise_only += [name for name, least in (("packing", 1), ("critic_steps", 1)) if getattr(self, name) > least]
        if noise_only:
            raise RequestError(f"{self.family} learns from photographs, and {noise_only[0]} is for noise: leave it out")

    def _check_kinds(self) -> None:
        if not isinstance(self.augment, tuple):
            raise RequestError(f"augment is {self.augment!r}; it must list some of {', '.join(KINDS)}")
        for kind in self.augment:
            _check_choice("augment", kind, tuple(KINDS))
        _check_choice("precision", self.precision, ("fp32", "bf16-mixed"))
        if self.packing > 1 and self.spec.find(Label):
            raise RequestError(f"{self.family} has classes, and packing needs images without: leave one of them out")

    @property
    def spec(self) -> Spec:
        """Of the generator that is trained."""
        family = get_family(self.family)
        return family.spec(family.configure(self.config))

    def build_objective(self) -> Objective | None:
        """What image-to-image training minimises; None for a family that is trained on noise. Raises RequestError,
        ArtifactError or CheckpointError for a recipe whose files cannot be used."""
        return build_objective(get_family(self.family), self.config, self.recipe)

    @property
    def growth(self) -> Growth | None:
        """When the networks grow; None for those that do not."""
        return build_growth(get_family(self.family), self.config, self.recipe, self.batch)

    def find_differences(self, other: TrainingOptions) -> list[str]:
        """What keeps a run made with these options from being resumed with the others: `batch was 64, is now 32`."""
        pairs = ((f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self) if f.name not in _FREE)
        return [f"{name} was {old!r}, is now {new!r}" for name, old, new in pairs if old != new]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; `from_dict` gives equal TrainingOptions back."""
        return {
            **asdict(self),
            "config": dict(self.config),
            "recipe": dict(self.recipe),
            "betas": list(self.betas),
            "augment": list(self.augment),
        }

    @classmethod
    def from_dict(cls, raw: object) -> TrainingOptions:
        """Read parsed JSON that may come from anybody. Raises RequestError saying what is wrong with it."""
        if not isinstance(raw, dict) or "family" not in raw:
            raise RequestError("the options are not an object with a family")
        unknown = sorted(set(raw) - {f.name for f in fields(cls)})
        if unknown:
            raise RequestError(f"the options have the unknown keys {unknown}; a newer ganrt may have written them")
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in raw.items()}
        return cls(**values)


def _check_choice(name: str, value: object, choices: tuple[str, ...] = ()) -> None:
    if not isinstance(value, str) or (choices and value not in choices):
        raise RequestError(f"{name} is {value!r}; choose {', '.join(choices) or 'one by its name'}")


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**40:
        raise RequestError(f"{name} is {value!r}; it must be a whole number from 1")


def _check_number(name: str, value: object, bounds: str, fits: Callable[[float], bool]) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not fits(value):
        raise RequestError(f"{name} is {value!r}; it must be {bounds}")
