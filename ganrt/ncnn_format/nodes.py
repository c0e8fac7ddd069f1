"""An operator of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Node:
    """An operator with named inputs and outputs; an input that is left out is an empty name."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    @property
    def output(self) -> str:
        """The name of the first output."""
        return self.outputs[0]

    def __str__(self) -> str:
        return f"{self.kind} ({self.name or self.output})"
