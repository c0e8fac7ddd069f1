"""OpenVINO on the CPU.

The ONNX file is compiled with the precision of the variant stated, not the plug-in's default: on CPUs with bf16 units
OpenVINO would otherwise run a float32 graph in bf16.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino

from ganrt.backend import HostSession, Session, check_options, library_version, thread_count
from ganrt.bundle import Bundle
from ganrt.errors import BundleError, MachineError
from ganrt.feeds import Array, Feeds
from ganrt.machine import parse_device

_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f32", "int8": "f32"}


def open(bundle: Bundle, precision: str, device: str, **options: Any) -> Session:
    """Options: `threads`, the number of threads (default: one per core)."""
    check_options("openvino", options, ("threads",))
    if parse_device(device)[0] == "cuda":
        raise MachineError(f"the openvino backend runs on the CPU only; {device} was asked for: use onnxruntime")
    return _OpenVinoSession(bundle, precision, thread_count(options))


class _OpenVinoSession(HostSession):
    # Measured with OpenVINO 2026.4: odd batches take other kernels, whose last digits differ, and every new batch size
    # costs a preparation. With these few sizes a picture does not depend on the batch it was computed in.
    batch_sizes = (1, 2, 4, 8, 16, 32)

    def __init__(self, bundle: Bundle, precision: str, threads: int) -> None:
        details = {"openvino": library_version("openvino"), "threads": str(threads or "default")}
        super().__init__("openvino", precision, bundle.spec, details)
        config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _HINTS[precision], "PERFORMANCE_HINT": "LATENCY"}
        if threads:
            config["INFERENCE_NUM_THREADS"] = threads
        core = openvino.Core()
        path = bundle.onnx(precision)
        try:
            compiled = core.compile_model(core.read_model(path), "CPU", config)
        except RuntimeError as error:
            raise BundleError(f"openvino cannot load {path}: {_last_line(error)}") from error
        self._request = compiled.create_infer_request()

    def run(self, feeds: Feeds) -> Array:
        # The tensors borrow NumPy's memory, which OpenVINO allows of writeable arrays only; the result needs a copy,
        # because the request reuses its buffer.
        tensors = {n: openvino.Tensor(a, shared_memory=bool(a.flags.writeable)) for n, a in feeds.items()}
        self._request.infer(tensors)
        return np.array(self._request.get_tensor(self._spec.output.name).data)

    def release(self) -> None:
        del self._request


def _last_line(error: Exception) -> str:
    """OpenVINO's messages begin with C++ frames and end with the reason."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1][:300]
