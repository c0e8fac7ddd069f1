"""ONNX Runtime: the CPU provider, and CUDA with IO binding. The provider that was asked for, or an error; never a
fallback."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

# Without this, importing ONNX Runtime 1.32 writes a device number and a database of events below the home folder.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime as ort

from ganrt.backend import HostSession, Pending, Session, check_options, first_line, library_version, thread_count
from ganrt.bundle import Bundle
from ganrt.errors import BackendError, BundleError, MachineError, MissingLibraryError
from ganrt.feeds import Array, Feeds, require
from ganrt.machine import has_nvidia_gpu, nvidia_details, parse_device

if not hasattr(ort, "InferenceSession"):
    raise ImportError(
        "onnxruntime has no InferenceSession; onnxruntime and onnxruntime-gpu overwrite each other's files"
    )

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"


def open(bundle: Bundle, variant: str, device: str, **options: Any) -> Session:
    """Options: `threads`, the number of CPU threads (default: one per core)."""
    check_options("onnxruntime", options, ("threads",))
    kind, number = parse_device(device)
    if kind == "auto":
        kind = "cuda" if has_nvidia_gpu() and _CUDA in ort.get_available_providers() else "cpu"
    threads = thread_count(options)
    if kind == "cuda":
        return _CudaSession(bundle, variant, number, threads)
    return _CpuSession(bundle, variant, threads)


class _CpuSession(HostSession):
    def __init__(self, bundle: Bundle, variant: str, threads: int) -> None:
        details = {"onnxruntime": library_version("onnxruntime"), "threads": str(threads or "default")}
        if bundle.variant(variant).precision == "fp16":
            details["float16"] = "spelled out in float32"
        super().__init__("onnxruntime", bundle.variant(variant).precision, bundle.spec, details)
        self._session = _session(bundle, variant, [_CPU], _session_options(threads))

    def run(self, feeds: Feeds) -> Array:
        return cast(Array, self._session.run([self._spec.output.name], feeds)[0])

    def release(self) -> None:
        del self._session


class _CudaSession(Session):
    """Inputs are copied in and outputs stay on the device until they are asked for."""

    def __init__(self, bundle: Bundle, variant: str, number: int, threads: int) -> None:
        if _CUDA not in ort.get_available_providers():
            raise MachineError(
                f"cuda:{number} was asked for, but the onnxruntime installed here has no CUDA provider: "
                'pip uninstall -y onnxruntime onnxruntime-gpu, then pip install "ganrt[cuda]"'
            )
        if not has_nvidia_gpu():
            raise MachineError(f"cuda:{number} was asked for, but this machine has no NVIDIA GPU; use device='cpu'")
        ort.preload_dlls(directory="")
        options = _session_options(threads)
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        # TF32 would make float32 a name only; EXHAUSTIVE convolution search would run anew for every batch size.
        provider = (_CUDA, {"device_id": number, "use_tf32": 0, "cudnn_conv_algo_search": "HEURISTIC"})
        self.backend, self.device, self.precision = "onnxruntime", f"cuda:{number}", bundle.variant(variant).precision
        self.details = {"onnxruntime-gpu": library_version("onnxruntime-gpu"), **nvidia_details()}
        self._number = number
        self._spec = bundle.spec
        self._session: ort.InferenceSession | None = _session(bundle, variant, [provider], options)

    def submit(self, feeds: Feeds) -> Pending:
        if self._session is None:
            raise BackendError("this onnxruntime session is closed; load the bundle again")
        require(self._spec, feeds)
        output = self._spec.output.name
        try:
            binding = self._session.io_binding()
            for name, array in feeds.items():
                binding.bind_cpu_input(name, array)
            binding.bind_output(output, "cuda", self._number)
            self._session.run_with_iobinding(binding)
        except Exception as error:  # ONNX Runtime's exceptions have no common base but this
            raise BackendError(f"onnxruntime failed on {self.device}: {first_line(error)}") from error
        return _CudaPending(output, binding)

    def close(self) -> None:
        self._session = None


class _CudaPending(Pending):
    def __init__(self, output: str, binding: ort.IOBinding) -> None:
        self._output, self._binding = output, binding

    def wait(self) -> dict[str, Array]:
        try:
            return {self._output: np.array(self._binding.copy_outputs_to_cpu()[0])}
        except Exception as error:  # a kernel that failed is reported when its result is fetched
            raise BackendError(f"onnxruntime failed on the GPU: {first_line(error)}") from error

    def device_arrays(self) -> dict[str, Any]:
        return {self._output: self._binding.get_outputs()[0]}


def _session_options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads:
        options.intra_op_num_threads = threads
    return options


def _session(bundle: Bundle, variant: str, providers: list[Any], options: ort.SessionOptions) -> ort.InferenceSession:
    path = bundle.onnx(variant)
    spelled_out = providers == [_CPU] and bundle.variant(variant).precision == "fp16"
    try:
        graph = _spelled_out(path) if spelled_out else str(path)
        session = ort.InferenceSession(graph, options, providers=providers)
    except MissingLibraryError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no common base but this
        raise BundleError(f"onnxruntime cannot load {path}: {first_line(error)}") from error
    session.disable_fallback()
    wanted = providers[0] if isinstance(providers[0], str) else providers[0][0]
    if session.get_providers()[0] != wanted:
        raise MachineError(
            f"onnxruntime runs on {session.get_providers()[0]} where {wanted} was asked for; `ganrt doctor` tells why"
        )
    return session


def _spelled_out(path: Path) -> bytes:
    """An fp16 graph as the CPU provider has to be given it to compute fp16 (`ganrt.rounding` tells why). Raises
    MissingLibraryError without onnx."""
    try:
        from ganrt.rounding import read_spelled_out
    except ModuleNotFoundError as error:
        raise MissingLibraryError("onnx", "export", "fp16 on ONNX Runtime's CPU provider") from error
    return read_spelled_out(path)
