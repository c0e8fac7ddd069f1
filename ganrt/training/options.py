"""`TrainingOptions`: everything a training run depends on, as a frozen dataclass that validates itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ganrt.checks import is_finite, require_whole
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
_MAX_COUNT = 2**40
_PLAIN_BETAS = (0.9, 0.999)
"""Betas of Adam without a discriminator: the defaults of Kingma and Ba, "Adam", ICLR 2015."""
_FREE = ("steps", "sample_every", "checkpoint_every", "log_every", "device", "devices")
"""Options that may differ when a run is resumed, because they do not affect the weights."""


@dataclass(frozen=True)
class TrainingOptions:
    """Options of a training run. Raises RequestError for a value that is out of bounds or does not suit the family."""

    family: str
    """One of `ganrt.models.FAMILIES`."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the family. Settings left out are filled in with the family's defaults."""
    data: str = ""
    """`digits`, `folder:PATH` or `FILE.npz`; for image-to-image tasks `photos` or `folder:PATH`. "" becomes `digits` or
    `photos`."""
    loss: str = "non-saturating"
    """Adversarial loss, one of `ganrt.training.LOSSES`. An image-to-image task uses it only with a discriminator."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the family's task (ganrt.training.tasks). Settings left out are filled in with its defaults."""
    steps: int = 1500
    """Total number of steps. Each updates the discriminator `critic_steps` times and the generator once."""
    batch: int = 64
    """Images per update, over all processes together."""
    critic_steps: int = 0
    """Discriminator updates per step. 0 becomes the number that the loss prescribes."""
    generator_lr: float = 5e-4
    """Adam's learning rate of the generator, above 0 and at most 1."""
    discriminator_lr: float = 5e-4
    """Adam's learning rate of the discriminator, above 0 and at most 1."""
    betas: tuple[float, ...] = ()
    """Adam's two betas, for both networks. () becomes those that the loss prescribes."""
    halve_every: int = 0
    """Steps in which the learning rate of an image-to-image task decays to a half, exponentially; 0 keeps it
    constant."""
    ema: float = 0.995
    """Decay per step of the exponential moving average of the generator, which is the result of a run; 0 <= ema < 1."""
    augment: tuple[str, ...] = ()
    """Kinds of DiffAugment (ganrt.training.augment) applied, in this order, to all images the discriminator sees."""
    packing: int = 1
    """Images that the discriminator sees together, concatenated in the channels (PacGAN)."""
    orthogonal: float = 0.0
    """Weight of the generator's orthogonal regularisation, 0 to 1; 1e-4 in BigGAN."""
    accumulate: int = 1
    """Gradient accumulation: number of parts that each batch is split into to save memory."""
    precision: str = "fp32"
    """`fp32`, or `bf16-mixed`: float32 weights and bfloat16 arithmetic where autocast allows it."""
    seed: int = 0
    """Seed of weights, latents, shuffling and augmentation, 0 to 2^64 - 1."""
    sample_every: int = 250
    """Steps between two sample grids."""
    checkpoint_every: int = 250
    """Steps between two checkpoints."""
    log_every: int = 10
    """Steps between two rows of the log."""
    device: str = "auto"
    """`auto` (a GPU if there is one), `cpu` or `cuda`."""
    devices: int = 1
    """Number of processes that share the work; on `cuda` each has its own GPU."""

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
            object.__setattr__(self, name, require_whole(name, getattr(self, name), 1, _MAX_COUNT))
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
        object.__setattr__(self, "halve_every", require_whole("halve_every", self.halve_every, 0))

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
        """Spec of the generator."""
        family = get_family(self.family)
        return family.spec(family.configure(self.config))

    def build_objective(self) -> Objective | None:
        """The objective of an image-to-image task; None for a family that is trained on noise.

        Raises RequestError, ArtifactError or CheckpointError when a file that the recipe names cannot be used.
        """
        return build_objective(get_family(self.family), self.config, self.recipe)

    @property
    def growth(self) -> Growth | None:
        """The schedule of progressive growing; None for networks that do not grow."""
        return build_growth(get_family(self.family), self.config, self.recipe, self.batch)

    def find_differences(self, other: TrainingOptions) -> list[str]:
        """Differences that prevent resuming a run of these options with the others, such as `batch was 64, is now
        32`."""
        pairs = ((f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self) if f.name not in _FREE)
        return [f"{name} was {old!r}, is now {new!r}" for name, old, new in pairs if old != new]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the inverse of `from_dict`."""
        return {
            **asdict(self),
            "config": dict(self.config),
            "recipe": dict(self.recipe),
            "betas": list(self.betas),
            "augment": list(self.augment),
        }

    @classmethod
    def from_dict(cls, raw: object) -> TrainingOptions:
        """Build options from untrusted parsed JSON. Raises RequestError when it is invalid."""
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


def _check_number(name: str, value: object, bounds: str, fits: Callable[[float], bool]) -> None:
    if not is_finite(value) or not fits(value):
        raise RequestError(f"{name} is {value!r}; it must be {bounds}")
