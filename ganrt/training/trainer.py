"""`Trainer`: training steps of a generator against a discriminator, on one process or several."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple, TypeAlias, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from ganrt import feeds, images, latents
from ganrt.errors import RequestError
from ganrt.images import Pictures
from ganrt.training import augment
from ganrt.training.data import TrainingImages, shuffle_indices
from ganrt.training.losses import LOSSES, gradient_penalty, orthogonal_penalty
from ganrt.training.networks import Networks
from ganrt.training.options import TrainingOptions

_FIRST_SAMPLE = 2**63
"""First sample number of training, so that samples 0, 1, ... of the seed have latents that training never saw."""
_Use: TypeAlias = Literal["mix", "real", "fake", "generator"]
_STREAMS: dict[_Use, int] = {"mix": 2**16 + 1, "real": 2**16 + 2, "fake": 2**16 + 3, "generator": 2**16 + 4}
"""Random streams of the gradient penalty's mixtures, and of the augmentation: of real and generated images in
discriminator updates, and of generated images in generator updates. They follow the stream of the shuffling."""


class StepReport(NamedTuple):
    """Measurements of one step, averaged over its batch."""

    discriminator_loss: float
    """Loss of the discriminator, with its penalty."""
    generator_loss: float
    """Loss of the generator, without orthogonal regularisation."""
    real_logit: float
    """Mean logit of real images before the discriminator's update."""
    fake_logit: float
    """Mean logit of generated images before the discriminator's update."""


class _Part(NamedTuple):
    """Consecutive rows of a batch that are computed together."""

    first: int
    """Number of the first row, counted over all batches of the run."""
    real: Tensor
    labels: Tensor | None
    """Class of each image, for the real and the generated ones alike, int64 (N,)."""
    inputs: list[Tensor]
    fake: Tensor


class Trainer:
    """Trains the networks, one generator update per step. Every process works on its own slice of each batch.

    All random numbers of step k depend on (seed, k), so weights, optimizers, average and step are the whole state.
    """

    def __init__(self, options: TrainingOptions, data: TrainingImages, networks: Networks, fabric: Fabric) -> None:
        self.options, self.data, self.networks, self.fabric = options, data, networks, fabric
        self.spec, self.loss = options.spec, LOSSES[options.loss]
        if networks.discriminator is None or networks.discriminator_optimizer is None:
            raise RequestError(f"{options.family} cannot be trained on noise: it has no discriminator")
        self.generator, self.generator_optimizer = fabric.setup(networks.generator, networks.generator_optimizer)
        self.bare_discriminator = networks.discriminator
        self.discriminator, self.discriminator_optimizer = fabric.setup(
            self.bare_discriminator, networks.discriminator_optimizer
        )
        fabric.to_device(networks.average)

    def step(self) -> Tensor:
        """Update the discriminator `critic_steps` times, each on its own batch, then the generator on the fake images
        of the last batch, as pytorch/examples' DCGAN does.

        Returns the values of a StepReport on the device, float32 (4,), of this process's slice and the last update.
        """
        turns = self.options.critic_steps
        for turn in range(turns):
            batch = self.networks.step * turns + turn
            parts, values = self._update_discriminator(batch, keep=turn == turns - 1)
        generator_loss = self._update_generator(parts)
        self.networks.update_average()
        self.networks.step += 1
        return torch.stack([values[0], generator_loss, *values[1:]])

    def _update_discriminator(self, batch: int, keep: bool) -> tuple[list[_Part], Tensor]:
        """Returns the parts of the batch, and loss, mean real logit and mean fake logit, (3,).

        Args:
            keep: whether to keep the graph of the fake images for the generator's update.
        """
        if self.loss.clip is not None:
            with torch.no_grad():
                for parameter in self.bare_discriminator.parameters():
                    parameter.clamp_(-self.loss.clip, self.loss.clip)
        self.discriminator_optimizer.zero_grad()
        parts, values = [], []
        for place in range(self.options.accumulate):
            part = self._draw_part(batch, place, keep and self.options.accumulate == 1)
            loss, real_logits, fake_logits = self._compute_discriminator_loss(part)
            self.fabric.backward(loss / self.options.accumulate)
            parts.append(part)
            seen = (loss.detach(), real_logits.mean(), fake_logits.mean(), real_logits.sign().mean())
            values.append(torch.stack(seen))
        self.discriminator_optimizer.step()
        mean = torch.stack(values).mean(dim=0)
        if self.networks.probability is not None:
            sign = cast(Tensor, self.fabric.all_reduce(mean[3], reduce_op="mean"))
            self.networks.probability.observe(float(sign), self.options.batch)
        return parts, mean[:3]

    def _compute_discriminator_loss(self, part: _Part) -> tuple[Tensor, Tensor, Tensor]:
        """The discriminator's loss, and its detached logits of real and generated images."""
        real = self._augment_and_pack(part.real, part.first, "real")
        fake = self._augment_and_pack(part.fake.detach(), part.first, "fake")
        labels = () if part.labels is None else (part.labels,)
        real_logits, fake_logits = self.discriminator(real, *labels), self.discriminator(fake, *labels)
        loss = self.loss.discriminator(real_logits, fake_logits)
        if self.loss.penalty:
            drawn = self._draw_uniform(part.first, len(real), "mix", 1)[:, 0]
            # In full precision, and without the distributed wrapper, which does not support a gradient in between.
            penalty = gradient_penalty(lambda x: self.bare_discriminator(x, *labels), real, fake, drawn)
            loss = loss + self.loss.penalty * penalty
        return loss, real_logits.detach(), fake_logits.detach()

    def _update_generator(self, parts: list[_Part]) -> Tensor:
        """Returns the loss, averaged over the batch."""
        self.generator_optimizer.zero_grad()
        total = torch.zeros((), device=parts[0].fake.device)
        for part in parts:
            fake = part.fake if part.fake.requires_grad else self.generator(*part.inputs)
            labels = () if part.labels is None else (part.labels,)
            # Bypasses the distributed wrapper, which would wait for gradients of the frozen parameters.
            with freeze_parameters(self.bare_discriminator), self.fabric.autocast():
                logits = self.bare_discriminator(self._augment_and_pack(fake, part.first, "generator"), *labels)
            loss = self.loss.generator(logits.float())
            if self.options.orthogonal:
                penalty = orthogonal_penalty(self.networks.generator.named_parameters())
                self.fabric.backward((loss + self.options.orthogonal * penalty) / len(parts))
            else:
                self.fabric.backward(loss / len(parts))
            total += loss.detach() / len(parts)
        self.generator_optimizer.step()
        return total

    def report(self, values: Tensor) -> StepReport:
        """Average the values of the last step over all processes; every process must call this."""
        mean = cast(Tensor, self.fabric.all_reduce(values, reduce_op="mean"))
        return StepReport(*mean.tolist())

    def sample(self, count: int) -> Pictures:
        """Samples 0, 1, ... of the seed by the averaged generator: uint8 NHWC."""
        with torch.inference_mode():
            made = self.networks.average(*self._draw_inputs(0, count))
        return images.to_uint8(made.cpu().numpy(), self.spec.output.range)

    def _draw_part(self, batch: int, place: int, keep: bool) -> _Part:
        """Real and generated images of this process for one part of a batch; `keep` keeps the graph of the latter."""
        world = self.fabric.world_size
        rows = self.options.batch // world // self.options.accumulate
        first = batch * self.options.batch + (self.fabric.global_rank * self.options.accumulate + place) * rows
        chosen = shuffle_indices(self.options.seed, len(self.data), first, rows)
        classes = None if self.data.labels is None else self.data.labels[chosen]
        real = torch.from_numpy(images.from_uint8(self.data.pictures[chosen], self.spec.output.range))
        labels = None if classes is None else self.fabric.to_device(torch.from_numpy(classes))
        inputs = self._draw_inputs(_FIRST_SAMPLE + first, rows, classes)
        with torch.set_grad_enabled(keep):
            fake = self.generator(*inputs)
        return _Part(first, self._match_stage(self.fabric.to_device(real)), labels, inputs, fake)

    def _match_stage(self, real: Tensor) -> Tensor:
        """Adapt real images to the stage of a growing network; unchanged here."""
        return real

    def _augment_and_pack(self, pictures: Tensor, first: int, use: _Use) -> Tensor:
        """Augment and pack images for the discriminator."""
        if self.options.augment:
            drawn = self._draw_uniform(first, len(pictures), use, augment.NUMBERS)
            chance = 1.0 if self.networks.probability is None else self.networks.probability.value
            pictures = augment.augment(pictures, self.options.augment, drawn, chance)
        if self.options.packing > 1:
            packs = len(pictures) // self.options.packing
            pictures = pictures.reshape(packs, -1, *pictures.shape[2:])
        return pictures

    def _draw_uniform(self, first: int, rows: int, use: _Use, count: int) -> Tensor:
        drawn = latents.uniform(self.options.seed, first, rows, _STREAMS[use], count, 0.0, 1.0)
        return self.fabric.to_device(torch.from_numpy(drawn))

    def _draw_inputs(self, first: int, rows: int, classes: NDArray[np.int64] | None = None) -> list[Tensor]:
        drawn = feeds.draw_feeds(self.spec, self.options.seed, first, rows, classes)
        return [self.fabric.to_device(torch.from_numpy(drawn[item.name])) for item in self.spec.inputs]


@contextmanager
def freeze_parameters(module: nn.Module) -> Iterator[None]:
    """Let gradients flow through the module without computing them for its parameters."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
