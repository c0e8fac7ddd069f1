"""The options of a TensorRT engine."""

from __future__ import annotations

from dataclasses import dataclass

from ganrt.checks import require_whole
from ganrt.errors import RequestError

HARDWARE = ("none", "same-capability", "ampere-plus")
"""What an engine can be compatible with besides the GPU it is built on."""


@dataclass(frozen=True)
class EngineOptions:
    """How an engine is built. The key of an engine holds every option by its name here; after a renaming, `build` makes
    engines anew, while `load` still finds the old ones."""

    batches: tuple[int, ...] = (1, 8, 32)
    """Batch sizes, ascending."""
    ranged: bool = False
    """One optimization profile from the smallest to the largest batch, tuned for the largest, instead of one for each:
    faster to build, slower to run."""
    size: tuple[int, int] | None = None
    """Height and width of the largest pictures, which the engine is tuned for; for models that take any size."""
    optimization_level: int = 3
    """TensorRT's, 0 to 5."""
    workspace_mib: int = 0
    """The most scratch memory of a layer; 0 for all that the GPU has."""
    version_compatible: bool = False
    """Runs on later versions of TensorRT and on the lean runtime too, with fewer kernels to choose from."""
    hardware_compatible: str = "none"
    """One of HARDWARE."""
    refittable: bool = False
    """The weights can be exchanged: one engine for many checkpoints of an architecture."""
    stripped: bool = False
    """Keep the engine that others are refitted from without weights."""

    def __post_init__(self) -> None:
        for size in self.batches:
            require_whole("a batch size", size)
        if not self.batches or list(self.batches) != sorted(set(self.batches)):
            raise RequestError(f"batches are {self.batches}; name whole numbers from 1, ascending")
        if self.hardware_compatible not in HARDWARE:
            raise RequestError(f"hardware is {self.hardware_compatible!r}; choose one of {', '.join(HARDWARE)}")
        require_whole("the optimization level", self.optimization_level, 0, 5)
        require_whole("the workspace in MiB", self.workspace_mib, 0)
        if self.stripped and not self.refittable:
            raise RequestError("a stripped engine is only good for refitting: ask for both")
