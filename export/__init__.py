"""Checkpoint -> proven bundle: `export` makes one, `verify` proves one again. Needs the extra `export` (torch,
onnx)."""

from .exporter import export
from .verification import verify

__all__ = ["export", "verify"]
