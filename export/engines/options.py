"""What may be asked of a TensorRT engine when it is built."""

from __future__ import annotations

from dataclasses import dataclass

from ganrt.errors import RequestError

HARDWARE = ("none", "same-capability", "ampere-plus")


@dataclass(frozen=True)
class EngineOptions:
    """What an engine is built with. Every option is in its key by this name."""

    batches: tuple[int, ...] = (1, 8, 32)
    """Batch sizes, ascending."""
    ranged: bool = False
    """One optimisation profile from the least to the largest batch, tuned for the largest, instead of one for each:
    quicker to build, slower to run."""
    size: tuple[int, int] | None = None
    """Height and width of the largest pictures, for models that take any; it is tuned for them."""
    level: int = 3
    """Optimisation level, 0 to 5."""
    workspace_mib: int = 0
    """Most scratch memory of a layer; 0 is all that the GPU has."""
    version_compatible: bool = False
    """Runs on later versions of TensorRT too, and on the lean runtime; with fewer kernels to choose from."""
    hardware_compatible: str = "none"
    """One of HARDWARE."""
    refittable: bool = False
    """Weights can be exchanged: one engine for many checkpoints of one architecture."""
    stripped: bool = False
    """Keep no weights in the plan that others are refitted from."""

    def __post_init__(self) -> None:
        if not self.batches or list(self.batches) != sorted(set(self.batches)) or self.batches[0] < 1:
            raise RequestError(f"batches are {self.batches}; name whole numbers from 1, ascending")
        if self.hardware_compatible not in HARDWARE:
            raise RequestError(f"hardware is {self.hardware_compatible!r}; choose one of {', '.join(HARDWARE)}")
        if not 0 <= self.level <= 5:
            raise RequestError(f"the optimisation level is {self.level}; choose 0 to 5")
        if self.stripped and not self.refittable:
            raise RequestError("a stripped engine is made to be refitted: ask for both")
