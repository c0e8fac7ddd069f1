"""What surrounds the measurement of a generator in the suite: how it was made, its arithmetic, and the machine's."""

from __future__ import annotations

from dataclasses import dataclass

from ganrt.errors import ArtifactError


@dataclass(frozen=True)
class MatrixProduct:
    """Repeated products of two square matrices with all cores: what the machine can multiply."""

    side: int
    nanoseconds: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.side < 1 or not self.nanoseconds or min(self.nanoseconds) < 1:
            raise ArtifactError("a matrix product needs a side from 1 and calls that took time")

    @property
    def rate(self) -> float:
        """Multiply-accumulates per second of the fastest: others who use the machine can only slow it down."""
        return self.side**3 / (min(self.nanoseconds) * 1e-9)


@dataclass(frozen=True)
class Context:
    """Part of a report that the suite made."""

    recipe: str
    """Family and settings of the generator, as JSON."""
    export_seconds: float
    """Wall time of `ganrt export` with all precisions that it could prove."""
    refused: str
    """Why a precision is missing; empty where none is."""
    multiplications: dict[str, int]
    """Variant -> multiply-accumulates of its graph for one image."""
    products: dict[str, MatrixProduct]
    """Precision -> what the machine reaches in it, measured before and after the generator."""
