"""`Trainer`: one training step after another, on one process or several."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ganrt import feeds, images
from ganrt.images import Pictures
from ganrt.training.data import TrainingImages, shuffled
from ganrt.training.losses import LOSSES
from ganrt.training.networks import Networks
from ganrt.training.options import Options

_FIRST_SAMPLE = 2**63
"""Sample numbers of training start here, so that the pictures made of a seed later are of latents never trained on."""


class StepReport(NamedTuple):
    """What one step measured, averaged over its batch."""

    discriminator_loss: float
    generator_loss: float
    real_logit: float
    fake_logit: float
    """Before the discriminator was updated, as `real_logit`."""


class Trainer:
    """Trains the networks with one batch per step; every process works on its own slice of the batch.

    Step k draws its pictures and latents from (seed, k), so weights, optimizers, average and step are the whole state.
    """

    def __init__(self, options: Options, data: TrainingImages, networks: Networks, fabric: Fabric) -> None:
        self.options, self.data, self.networks, self.fabric = options, data, networks, fabric
        self.spec, self.loss = options.spec, LOSSES[options.loss]
        self.generator, self.generator_optimizer = fabric.setup(networks.generator, networks.generator_optimizer)
        self.discriminator, self.discriminator_optimizer = fabric.setup(
            networks.discriminator, networks.discriminator_optimizer
        )
        fabric.to_device(networks.average)

    def step(self) -> Tensor:
        """Update the discriminator, then the generator on the same fake images, as pytorch/examples' DCGAN does.

        Returns the values of a StepReport on the device, float32 (4,), of this process's slice.
        """
        rows = self.options.batch // self.fabric.world_size
        first = self.networks.step * self.options.batch + self.fabric.global_rank * rows
        real = self._real(first, rows)
        fake = self.generator(*self._inputs(_FIRST_SAMPLE + first, rows))

        self.discriminator_optimizer.zero_grad()
        real_logits, fake_logits = self.discriminator(real), self.discriminator(fake.detach())
        discriminator_loss = self.loss.discriminator(real_logits, fake_logits)
        self.fabric.backward(discriminator_loss)
        self.discriminator_optimizer.step()

        self.generator_optimizer.zero_grad()
        # Not through the wrapper for several processes, which would wait for gradients that are not wanted here.
        with _frozen(self.networks.discriminator):
            generator_loss = self.loss.generator(self.networks.discriminator(fake))
        self.fabric.backward(generator_loss)
        self.generator_optimizer.step()

        self.networks.average.update_parameters(self.networks.generator)
        self.networks.step += 1
        values = (discriminator_loss, generator_loss, real_logits.mean(), fake_logits.mean())
        return torch.stack([value.detach() for value in values])

    def report(self, values: Tensor) -> StepReport:
        """The values of the step that just ended, averaged over all processes; each must call this."""
        mean = cast(Tensor, self.fabric.all_reduce(values, reduce_op="mean"))
        return StepReport(*mean.tolist())

    def sample(self, count: int) -> Pictures:
        """Pictures that the averaged generator makes of the seed's samples 0, 1, ...: uint8 NHWC."""
        with torch.inference_mode():
            made = self.networks.average(*self._inputs(0, count))
        return images.to_uint8(made.cpu().numpy(), self.spec.output.range)

    def _real(self, first: int, rows: int) -> Tensor:
        chosen = self.data.pictures[shuffled(self.options.seed, len(self.data), first, rows)]
        batch = torch.from_numpy(images.from_uint8(chosen, self.spec.output.range))
        return self.fabric.to_device(batch)

    def _inputs(self, first: int, rows: int) -> list[Tensor]:
        drawn = feeds.draw(self.spec, self.options.seed, first, rows)
        return [self.fabric.to_device(torch.from_numpy(drawn[item.name])) for item in self.spec.inputs]


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Gradients flow through the module, but none is computed for its parameters."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
