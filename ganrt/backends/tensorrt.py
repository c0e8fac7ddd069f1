"""TensorRT on an NVIDIA GPU: engines that `ganrt build` made on this machine, on the full library or the lean runtime.

Two batches are in flight, results are copied out on a stream of their own, each batch size is replayed as a CUDA graph,
and nothing is allocated once each batch size has run three times.
"""

from __future__ import annotations

from typing import Any

from ganrt.backend import Session
from ganrt.bundle import Bundle
from ganrt.gpu import load_tensorrt, open_engine_session

LIBRARY = load_tensorrt()


def open(bundle: Bundle, variant: str, device: str, **options: Any) -> Session:
    """`ganrt.gpu.open_engine_session`, which has the options."""
    return open_engine_session(LIBRARY, bundle, variant, device, options)
