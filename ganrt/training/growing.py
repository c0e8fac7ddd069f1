"""`GrowingTrainer`: training with progressive growing (Karras, Aila, Laine, Lehtinen, "Progressive Growing of GANs",
ICLR 2018)."""

from __future__ import annotations

from typing import Protocol, cast

from lightning_fabric import Fabric
from torch import Tensor

from ganrt.models.progan import fade
from ganrt.training.data import TrainingImages
from ganrt.training.growth import Growth
from ganrt.training.networks import Networks
from ganrt.training.options import TrainingOptions
from ganrt.training.trainer import Trainer


class _Growing(Protocol):
    stage: int
    alpha: float


class GrowingTrainer(Trainer):
    """A `Trainer` that sets the stage of generator, average and discriminator before each step, and removes the detail
    from real images that the stage cannot generate yet.

    Images have their full size outside the networks, as in the authors' code, also for the gradient penalty. So a stage
    starts with exactly the loss that the previous one ended with. Both optimizers are reset when a stage starts.
    """

    def __init__(
        self, options: TrainingOptions, data: TrainingImages, networks: Networks, fabric: Fabric, growth: Growth
    ) -> None:
        super().__init__(options, data, networks, fabric)
        self.growth = growth
        self._growing = cast(list[_Growing], [networks.generator, networks.average.module, self.bare_discriminator])
        self._whole = self._growing[0].stage

    def step(self) -> Tensor:
        """Set the stage, then train as `Trainer.step`. Returns the values of a StepReport, float32 (4,)."""
        step = self.networks.step
        self._stage, self._alpha = self.growth.stage_at(step) if self.growth.last else (self._whole, 1.0)
        for network in self._growing:
            network.stage, network.alpha = self._stage, self._alpha
        if step in self.growth.starts[1:]:
            for optimizer in (self.networks.generator_optimizer, self.networks.discriminator_optimizer):
                if optimizer is not None:
                    optimizer.state.clear()
        return super().step()

    def _match_stage(self, real: Tensor) -> Tensor:
        return fade(real, self._stage, self._alpha)
