"""TensorRT for RTX on an NVIDIA GPU: engines that `ganrt build` compiled on this machine, or on any other.

Their kernels are compiled for the GPU when a batch size is first used, and kept for later processes. All else is as
with the backend `tensorrt`.
"""

from __future__ import annotations

from typing import Any

from ganrt.backend import Session
from ganrt.bundle import Bundle
from ganrt.gpu import load_tensorrt_rtx, open_engine_session

LIBRARY = load_tensorrt_rtx()


def open(bundle: Bundle, variant: str, device: str, **options: Any) -> Session:
    """`ganrt.gpu.open_engine_session`, which has the options."""
    return open_engine_session(LIBRARY, bundle, variant, device, options)
