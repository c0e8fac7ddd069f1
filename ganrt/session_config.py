"""`SessionConfig`: which backend runs which variant on which device, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ganrt.bundle import FAITHFUL


@dataclass(frozen=True)
class SessionConfig:
    """How a session runs a bundle. Loading, tuning, proofs and measurements all refer to such a value."""

    backend: str
    """Name in the table of backends, such as `onnxruntime`."""
    variant: str = FAITHFUL
    """Name of the bundle's variant, such as `int8-phases`."""
    device: str = "auto"
    """`auto` (a GPU where the backend finds one), `cpu`, `cuda` or `cuda:N`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the backend, such as `threads`."""

    def __hash__(self) -> int:
        return hash((self.backend, self.variant, self.device, tuple(sorted(self.options.items()))))

    def __str__(self) -> str:
        """Backend, variant (unless `fp32`), device (unless `auto` or `cpu`) and options, such as `openvino int8-phases
        threads=2`."""
        variant = () if self.variant == FAITHFUL else (self.variant,)
        device = () if self.device in ("auto", "cpu") else (self.device,)
        return " ".join([self.backend, *variant, *device, *(f"{name}={value}" for name, value in self.options.items())])
