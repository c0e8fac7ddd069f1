"""Checkpoint -> proven bundle: `export` makes one, `verify` proves one again; they need the extra `export` (torch,
onnx). `engines` builds engines of a bundle on the machine that runs them, which has no torch: so nothing is imported
before it is asked for."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .exporter import export
    from .verification import verify

__all__ = ["export", "verify"]

_WHERE = {"export": "exporter", "verify": "verification"}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
