"""The suite's additions to a report: how the generator was made, its MACs, and the machine's roofline peaks."""

from __future__ import annotations

from dataclasses import dataclass

from ganrt.errors import ArtifactError


@dataclass(frozen=True)
class MatrixProduct:
    """Times of repeated products of two square matrices on all cores. They give the machine's roofline peak."""

    side: int
    """Rows and columns of each matrix."""
    nanoseconds: tuple[int, ...]
    """Time of each call."""

    def __post_init__(self) -> None:
        if self.side < 1 or not self.nanoseconds or min(self.nanoseconds) < 1:
            raise ArtifactError("a matrix product needs a side of at least 1 and calls with positive times")

    @property
    def peak(self) -> float:
        """MACs per second of the fastest call. Other programs on the machine can only make a call slower."""
        return self.side**3 / (min(self.nanoseconds) * 1e-9)


@dataclass(frozen=True)
class Context:
    """The part of a report that only the suite adds."""

    recipe: str
    """Family and settings of the generator, as JSON."""
    export_seconds: float
    """Wall time of `ganrt export` with all precisions that it could prove."""
    missing_precisions: str
    """Why a precision was not exported; empty when all were."""
    macs: dict[str, int]
    """Variant -> multiply-accumulates of its graph for one image."""
    products: dict[str, MatrixProduct]
    """Precision -> the machine's matrix products in it, timed before and after the generator."""
