"""`Networks`: all that training changes, and so all that a checkpoint holds."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Adam
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ganrt.errors import RequestError
from ganrt.models import get_family
from ganrt.training.options import Options


class Networks:
    """Generator, discriminator, their optimizers, the moving average of the generator, and the steps taken so far.

    Fresh weights depend on the seed of the options alone. They are made on the CPU, in channels-last memory order,
    which convolutions are fastest in.
    """

    def __init__(self, options: Options) -> None:
        family = get_family(options.family)
        config = family.configure(options.config)
        if family.discriminator is None:
            raise RequestError(f"{options.family} cannot be trained here: it has no discriminator")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            self.generator = _channels_last(family.generator(config))
            self.discriminator = _channels_last(family.discriminator(config))
        self.generator_optimizer = _adam(self.generator, options.generator_lr, options.betas)
        self.discriminator_optimizer = _adam(self.discriminator, options.discriminator_lr, options.betas)
        blend = get_ema_multi_avg_fn(options.ema)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(self.generator, multi_avg_fn=blend, use_buffers=True).eval()
        self.step = 0

    @property
    def _parts(self) -> dict[str, nn.Module | Adam]:
        return {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "average": self.average,
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }

    def state(self) -> dict[str, Any]:
        """Plain dicts of tensors and numbers, which share their memory with the networks."""
        return {"step": self.step, **{name: part.state_dict() for name, part in self._parts.items()}}

    def load(self, state: dict[str, Any]) -> None:
        """Copy what `state` returned into these networks, wherever they are. Raises KeyError, RuntimeError, TypeError
        or ValueError when it is the state of others."""
        step = state["step"]
        if isinstance(step, bool) or not isinstance(step, int) or step < 0:
            raise ValueError(f"step is {step!r}; it must be a whole number from 0")
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
        self.step = step

    def finite(self) -> bool:
        """Whether the averaged generator has no infinity or NaN; one anywhere reaches it within a step or two."""
        return all(bool(torch.isfinite(tensor).all()) for tensor in self.average.state_dict().values())

    def weights(self) -> dict[str, torch.Tensor]:
        """The averaged generator under the keys of its family: contiguous tensors on the CPU."""
        return {key: tensor.detach().cpu().contiguous() for key, tensor in self.average.module.state_dict().items()}


def _channels_last(module: nn.Module) -> nn.Module:
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _adam(module: nn.Module, rate: float, betas: tuple[float, float]) -> Adam:
    return Adam(module.parameters(), rate, betas, fused=True)
