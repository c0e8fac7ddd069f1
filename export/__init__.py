"""Checkpoint -> proven bundle: `export` makes one, `verify` proves one again. Needs the extra `export` (torch, onnx).

`ganrt.export.engines` builds TensorRT engines on machines that have no torch, so nothing is imported before it is used.
"""

from typing import TYPE_CHECKING

from ganrt.lazy import lazy_exports

if TYPE_CHECKING:
    from .exporter import export
    from .verification import verify

__all__ = ["export", "verify"]

__getattr__ = lazy_exports(__name__, {"export": "exporter", "verify": "verification"}, "export", "exporting")
