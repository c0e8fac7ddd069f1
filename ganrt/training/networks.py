"""`Networks`: everything that training changes, and thus the content of a checkpoint."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Adam
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ganrt.checks import is_whole
from ganrt.errors import RequestError
from ganrt.models import get_family
from ganrt.models.parametrize import fold
from ganrt.training.adaptive import AdaptiveProbability
from ganrt.training.discriminators import prepare_discriminator
from ganrt.training.image_tasks import Objective
from ganrt.training.options import TrainingOptions


class Networks:
    """Generator, discriminator (None for a task without one), their optimizers, the moving average of the generator,
    the adaptive augmentation probability (None without ADA), and the number of steps taken.

    Initial weights depend on the seed of the options only. They are created on the CPU, in channels-last memory format,
    in which convolutions are fastest.
    """

    def __init__(self, options: TrainingOptions, objective: Objective | None = None) -> None:
        """`objective`: that of the family's task; None for a family that is trained on noise."""
        family = get_family(options.family)
        config = family.configure(options.config)
        if family.discriminator is None and objective is None:
            raise RequestError(f"{options.family} cannot be trained here: it has no discriminator")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            self.generator = _to_channels_last((family.trainable or family.generator)(config))
            if objective is not None:
                objective.prepare_generator(self.generator)
                discriminator = objective.build_discriminator()
            elif family.discriminator is not None:
                discriminator = prepare_discriminator(family.discriminator(config), options)
            self.discriminator = None if discriminator is None else _to_channels_last(discriminator)
        self.generator_optimizer = _build_adam(self.generator, options.generator_lr, options.betas)
        self.discriminator_optimizer = (
            None
            if self.discriminator is None
            else _build_adam(self.discriminator, options.discriminator_lr, options.betas)
        )
        blend = get_ema_multi_avg_fn(options.ema)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(self.generator, multi_avg_fn=blend, use_buffers=True).eval()
        target = options.recipe.get("ada", 0.0)
        self.probability = AdaptiveProbability(target, options.recipe["ada_images"]) if target else None
        self.step = 0

    def update_average(self) -> None:
        """Update the moving average. The vectors of spectral norm are copied, as an average of unit vectors is no unit
        vector."""
        self.average.update_parameters(self.generator)
        averaged = dict(self.average.module.named_buffers())
        for name, buffer in self.generator.named_buffers():
            if "parametrizations." in name:
                averaged[name].copy_(buffer)

    @property
    def _parts(self) -> dict[str, nn.Module | Adam | AdaptiveProbability]:
        parts = {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "average": self.average,
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
            "chance": self.probability,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def state_dict(self) -> dict[str, Any]:
        """The state as plain dicts of tensors and numbers; the tensors share memory with the networks."""
        return {"step": self.step, **{name: part.state_dict() for name, part in self._parts.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`, on any device. Raises KeyError, RuntimeError, TypeError or ValueError for
        the state of other networks."""
        step = state["step"]
        if not is_whole(step) or step < 0:
            raise ValueError(f"step is {step!r}; it must be a whole number from 0")
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
        self.step = step

    def is_finite(self) -> bool:
        """Whether all weights of the averaged generator are finite; a NaN in any network reaches it within two
        steps."""
        return all(bool(torch.isfinite(tensor).all()) for tensor in self.average.state_dict().values())

    def folded_weights(self) -> dict[str, torch.Tensor]:
        """State dict of the averaged generator with plain weights (`fold`), as contiguous tensors on the CPU."""
        plain = fold(self.average.module)
        return {key: tensor.detach().cpu().contiguous() for key, tensor in plain.state_dict().items()}


def _to_channels_last(module: nn.Module) -> nn.Module:
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _build_adam(module: nn.Module, rate: float, betas: tuple[float, ...]) -> Adam:
    first, second = betas
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return Adam(trained, rate, (first, second), fused=True)
