"""From a PyTorch generator to a proven bundle: `export` makes one, `verify` proves one again. Needs the extra `export`.

`ganrt.export.engines` builds TensorRT engines on machines without torch, so names are imported on first use.
"""

from typing import TYPE_CHECKING

from ganrt.lazy import lazy_exports

if TYPE_CHECKING:
    from .exporter import export
    from .verification import Verification, verify

__all__ = ["Verification", "export", "verify"]

_MODULES = {"export": "exporter", "verify": "verification", "Verification": "verification"}
__getattr__ = lazy_exports(__name__, _MODULES, "export", "exporting")
