"""Imports inference libraries without their telemetry, which writes below the home folder and asks a name server.

ONNX Runtime from 1.32 has it in its native code. OpenVINO's is the Python package openvino_telemetry: `import openvino`
starts a process that reports the import, and fails for a user without a home folder.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_ONNXRUNTIME = "ORT_DISABLE_TELEMETRY"
_OPENVINO = "openvino_telemetry"


@contextmanager
def no_telemetry() -> Iterator[None]:
    """Keep the telemetry of a library off that is imported in this block.

    A value that the user gave to ORT_DISABLE_TELEMETRY stays. openvino_telemetry cannot be imported inside the block,
    so that OpenVINO uses its own stand-in for it; after the block it is as before. Nothing changes for a library that
    was imported earlier.
    """
    if not os.environ.get(_ONNXRUNTIME):
        os.environ[_ONNXRUNTIME] = "1"
    missing = object()
    found = sys.modules.get(_OPENVINO, missing)
    sys.modules[_OPENVINO] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if found is missing:
            del sys.modules[_OPENVINO]
        else:
            sys.modules[_OPENVINO] = found  # type: ignore[assignment]
