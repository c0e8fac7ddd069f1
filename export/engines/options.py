"""The options of an engine, for each of NVIDIA's two libraries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

from ganrt.checks import require_whole
from ganrt.errors import RequestError
from ganrt.gpu import engine_cache
from ganrt.spec import Spec

HARDWARE = ("none", "same-capability", "ampere-plus")
"""What an engine of TensorRT can be compatible with besides the GPU it is built on."""
TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121", engine_cache.ANY_TARGET)
"""Compute capabilities that TensorRT for RTX compiles for."""
USUAL_TARGETS = ("sm86", "sm89", "sm120")
"""GeForce and RTX GPUs since Ampere: series 30, 40 and 50."""
FP8_TARGETS = ("sm89", "sm120", "sm121")
"""Targets that compute in fp8."""


@dataclass(frozen=True)
class ProfileOptions:
    """The shapes that an engine takes. The key of an engine holds every option by its name here; after a renaming,
    `build` makes engines anew, while `load` still finds the old ones."""

    batches: tuple[int, ...] = (1, 8, 32)
    """Batch sizes, ascending."""
    size: tuple[int, int] | None = None
    """Height and width of the largest pictures, which the engine is tuned for; for models that take any size."""

    def __post_init__(self) -> None:
        for size in self.batches:
            require_whole("a batch size", size)
        if not self.batches or list(self.batches) != sorted(set(self.batches)):
            raise RequestError(f"batches are {self.batches}; name whole numbers from 1, ascending")
        for side in self.size or ():
            require_whole("a side of the pictures", side)


@dataclass(frozen=True)
class EngineOptions(ProfileOptions):
    """How an engine of TensorRT is built."""

    ranged: bool = False
    """One optimization profile from the smallest to the largest batch, tuned for the largest, instead of one for each:
    faster to build, slower to run."""
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
        super().__post_init__()
        if self.hardware_compatible not in HARDWARE:
            raise RequestError(f"hardware is {self.hardware_compatible!r}; choose one of {', '.join(HARDWARE)}")
        require_whole("the optimization level", self.optimization_level, 0, 5)
        require_whole("the workspace in MiB", self.workspace_mib, 0)
        if self.stripped and not self.refittable:
            raise RequestError("a stripped engine is only good for refitting: ask for both")


@dataclass(frozen=True)
class RtxEngineOptions(ProfileOptions):
    """How an engine of TensorRT for RTX is compiled: on any machine, for named GPUs."""

    targets: tuple[str, ...] = USUAL_TARGETS
    """Some of TARGETS. `ampere+` stands alone: no target is named, for Ampere and all later GPUs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for target in self.targets:
            if target not in TARGETS:
                raise RequestError(f"target is {target!r}; choose some of {', '.join(TARGETS)}")
        if not self.targets or len(set(self.targets)) != len(self.targets):
            raise RequestError(f"targets are {self.targets}; name each once, and at least one")
        if engine_cache.ANY_TARGET in self.targets and len(self.targets) > 1:
            raise RequestError(f"{engine_cache.ANY_TARGET} names no target and cannot be combined with others")


OptionsT = TypeVar("OptionsT", bound=ProfileOptions)


def limit_batches(options: OptionsT, spec: Spec) -> OptionsT:
    """The options with the batch sizes that a model takes."""
    return replace(options, batches=(1,)) if spec.single else options
