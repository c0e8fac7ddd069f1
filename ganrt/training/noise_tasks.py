"""Settings of the tasks that train on noise."""

from __future__ import annotations

from dataclasses import dataclass

from ganrt.errors import RequestError
from ganrt.training.growth import Growth


@dataclass(frozen=True)
class NoiseRecipe:
    """Settings of the task `adversarial`."""

    deviation: bool = False
    """Whether the discriminator's last layer gets the minibatch standard deviation (Karras et al., "Progressive Growing
    of GANs", ICLR 2018, section 3)."""
    spectral: bool = False
    """Whether the discriminator has spectral norm instead of batch norm (Miyato et al. 2018)."""
    ada: float = 0.0
    """Target of E[sign D(real)] for adaptive augmentation (`ganrt.training.adaptive`), 0 <= ada < 1; 0.6 in the paper.
    0 augments every image."""
    ada_images: int = 500_000
    """Number of real images in which the augmentation probability can rise from 0 to 1."""

    def __post_init__(self) -> None:
        if not 0 <= self.ada < 1:
            raise RequestError(f"ada is {self.ada}; it must be at least 0 and below 1")
        if self.ada_images < 1:
            raise RequestError(f"ada_images is {self.ada_images}; it must be a whole number from 1")


@dataclass(frozen=True)
class GrowingRecipe(NoiseRecipe):
    """Settings of the task `progressive`."""

    stage_images: int = 1_200_000
    """Number of real images per stage. The first stage has no fade-in, the last continues to the end. 0 trains at full
    size from the first step."""
    fade: float = 0.5
    """Share of these images during which a stage's newest block fades in, 0 <= fade < 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stage_images < 0:
            raise RequestError(f"stage_images is {self.stage_images}; it must be a whole number from 0")
        if not 0 <= self.fade < 1:
            raise RequestError(f"fade is {self.fade}; it must be at least 0 and below 1")

    def build_growth(self, last: int, batch: int) -> Growth:
        """The schedule in steps, for networks whose last stage is `last` and batches of `batch` images."""
        if self.stage_images == 0:
            last = 0
        steps = self.stage_images / batch
        return Growth(last, round(steps * self.fade), max(1, round(steps * (1 - self.fade))))
