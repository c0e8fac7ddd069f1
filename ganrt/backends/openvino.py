"""OpenVINO on the CPU.

The ONNX file is compiled with the precision of the variant stated, not the plug-in's default: on CPUs with bf16 units
OpenVINO would otherwise run a float32 graph in bf16.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino

from ganrt.backend import HostSession, Session, check_options, library_version
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
    return _OpenVinoSession(bundle, precision, int(options.get("threads", 0)))


class _OpenVinoSession(HostSession):
    def __init__(self, bundle: Bundle, precision: str, threads: int) -> None:
        details = {"openvino": library_version("openvino"), "threads": str(threads or "default")}
        super().__init__("openvino", precision, bundle.spec.output.name, details)
        config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _HINTS[precision], "PERFORMANCE_HINT": "LATENCY"}
        if threads:
            config["INFERENCE_NUM_THREADS"] = threads
        core = openvino.Core()
        path = bundle.onnx(precision)
        try:
            compiled = core.compile_model(core.read_model(path), "CPU", config)
        except RuntimeError as error:
            raise BundleError(f"openvino cannot load {path}: {str(error).strip().splitlines()[-1]}") from error
        self._request = compiled.create_infer_request()

    def run(self, feeds: Feeds) -> Array:
        # The tensors borrow NumPy's memory; only the result needs a copy, because the request reuses its buffer.
        tensors = {name: openvino.Tensor(array, shared_memory=True) for name, array in feeds.items()}
        self._request.infer(tensors)
        return np.array(self._request.get_tensor(self._output).data)

    def release(self) -> None:
        del self._request
