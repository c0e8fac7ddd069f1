"""`ImageTrainer`: training steps of image-to-image tasks, on one process or several."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ganrt import images, latents
from ganrt.images import Pictures
from ganrt.training.image_tasks import Example, Objective
from ganrt.training.losses import LOSSES
from ganrt.training.networks import Networks
from ganrt.training.options import TrainingOptions
from ganrt.training.photos import Photos, draw_crops
from ganrt.training.trainer import freeze_parameters

_STREAM = 2**16 + 6
"""Random stream of the numbers that examples need besides their crops."""


def loss_columns(objective: Objective, networks: Networks) -> tuple[str, ...]:
    """Columns of the log: the losses in the order in which steps return them."""
    against = () if networks.discriminator is None else ("adversarial", "discriminator")
    return tuple(f"{name}_loss" for name in (*objective.terms, *against))


class ImageTrainer:
    """Trains the generator on the losses of an objective, and against its discriminator if it has one.

    All random numbers of step k depend on (seed, k), so weights, optimizers, average and step are the whole state.
    """

    def __init__(
        self, options: TrainingOptions, data: Photos, networks: Networks, fabric: Fabric, objective: Objective
    ) -> None:
        self.options, self.data, self.networks, self.fabric = options, data, networks, fabric
        self.objective, self.spec, self.loss = objective, options.spec, LOSSES[options.loss]
        self.side, self.weight = int(options.recipe["crop"]), float(options.recipe.get("adversarial_weight", 0.0))
        fabric.to_device(cast(nn.Module, objective))
        self.generator, self.generator_optimizer = fabric.setup(networks.generator, networks.generator_optimizer)
        self.discriminator, self.discriminator_optimizer = None, None
        if networks.discriminator is not None and networks.discriminator_optimizer is not None:
            self.discriminator, self.discriminator_optimizer = fabric.setup(
                networks.discriminator, networks.discriminator_optimizer
            )
        fabric.to_device(networks.average)

    def step(self) -> Tensor:
        """Update the generator, and the discriminator, if any, on the same images. Returns the losses in the order of
        `loss_columns`, of this process's slice, on the device."""
        self._set_learning_rate()
        optimizers = [self.generator_optimizer, self.discriminator_optimizer]
        for optimizer in optimizers:
            if optimizer is not None:
                optimizer.zero_grad()
        values = [self._compute_part(place) for place in range(self.options.accumulate)]
        for optimizer in optimizers:
            if optimizer is not None:
                optimizer.step()
        self.networks.update_average()
        self.networks.step += 1
        return torch.stack(values).mean(0)

    def _compute_part(self, place: int) -> Tensor:
        """Accumulate the gradients of one part of the batch. Returns its losses."""
        rows = self.options.batch // self.fabric.world_size // self.options.accumulate
        first = self.networks.step * self.options.batch
        first += (self.fabric.global_rank * self.options.accumulate + place) * rows
        example = self._draw_example(self.data.training, first, rows)
        made = self.generator(*example.inputs)
        terms = self.objective.compute_losses(example, made)
        discriminator_losses = []
        if self.discriminator is not None and self.networks.discriminator is not None:
            pictures = self._to_unit_range(made)
            real, fake = self.discriminator(example.target), self.discriminator(pictures.detach())
            against = self.loss.discriminator(real, fake)
            self.fabric.backward(against / self.options.accumulate)
            discriminator_losses.append(against.detach())
            # Bypasses the distributed wrapper, which would wait for gradients of the frozen parameters.
            with freeze_parameters(self.networks.discriminator), self.fabric.autocast():
                logits = self.networks.discriminator(pictures)
            terms["adversarial"] = self.weight * self.loss.generator(logits.float())
        self.fabric.backward(torch.stack(list(terms.values())).sum() / self.options.accumulate)
        return torch.stack([*(term.detach() for term in terms.values()), *discriminator_losses])

    def report(self, values: Tensor) -> tuple[float, ...]:
        """Average the values of the last step over all processes; every process must call this."""
        return tuple(cast(Tensor, self.fabric.all_reduce(values, reduce_op="mean")).tolist())

    def sample(self, count: int) -> Pictures:
        """Crops of held-out photographs, each followed by the averaged generator's output: uint8 NHWC."""
        example = self._draw_example(self.data.held_out, 0, count // 2)
        with torch.inference_mode():
            made = self._to_unit_range(self.networks.average(*example.inputs))
        pairs = torch.stack([example.target.expand_as(made), made], 1).flatten(0, 1)
        return images.to_uint8(pairs.cpu().numpy(), (0.0, 1.0))

    def _set_learning_rate(self) -> None:
        """Apply the exponential decay of `halve_every`."""
        halvings = self.networks.step / self.options.halve_every if self.options.halve_every else 0.0
        for group in self.networks.generator_optimizer.param_groups:
            group["lr"] = self.options.generator_lr * 0.5**halvings

    def _draw_example(self, photos: list[Pictures], first: int, rows: int) -> Example:
        taken = images.from_uint8(draw_crops(photos, self.side, self.options.seed, first, rows), (0.0, 1.0))
        drawn = latents.uniform(self.options.seed, first, rows, _STREAM, max(1, self.objective.numbers), 0.0, 1.0)
        here = (self.fabric.to_device(torch.from_numpy(array)) for array in (taken, np.ascontiguousarray(drawn)))
        with torch.no_grad():
            return self.objective.make_examples(*here)

    def _to_unit_range(self, made: Tensor) -> Tensor:
        """Map the range of the Spec to [0, 1]."""
        low, high = self.spec.output.range
        return (made - low) / (high - low)
