"""ONNX Runtime: the CPU provider, and the CUDA provider on the session's own stream and memory, with CUDA graphs.

There is no fallback: a session runs on the provider that was asked for, or opening it fails.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from ganrt.backend import HostSession, Session, first_line, library_version
from ganrt.backend_options import check_options, count_threads, read_switch
from ganrt.bundle import Bundle
from ganrt.errors import BundleError, MachineError, RequestError
from ganrt.feeds import Array, Feeds
from ganrt.machine import has_nvidia_gpu, parse_device
from ganrt.telemetry import no_telemetry

with no_telemetry():
    import onnxruntime as ort

if not hasattr(ort, "InferenceSession"):
    raise ImportError(
        "onnxruntime has no InferenceSession; onnxruntime and onnxruntime-gpu overwrite each other's files"
    )

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"
_ON_GPU = ("batches", "deadline", "graph", "prefer_nhwc", "search")
_NOT_ALL_ON_GPU = re.compile("nodes have not been partitioned to the CUDAExecutionProvider|disable_cpu_ep_fallback")
"""Found in the error of a graph with nodes that the CUDA provider leaves to the CPU."""
_SEARCHES = ("HEURISTIC", "EXHAUSTIVE", "DEFAULT")


def open(bundle: Bundle, variant: str, device: str, **options: Any) -> Session:
    """Open a session on the CPU or a GPU.

    Options:
        threads: number of CPU threads; 0: one per core (default: 0, or the cores that this process may use).
        spin: whether a thread without work waits busily for more (default False), on the CPU only. The pictures do not
            depend on it.

    On a GPU also:
        batches: the batch sizes to use.
        deadline: seconds that the GPU may take for a batch (default 60).
        graph: whether to replay CUDA graphs (default True).
        prefer_nhwc: the provider's memory layout (default False).
        search: the provider's convolution search: HEURISTIC, EXHAUSTIVE or DEFAULT.
    """
    kind, number = parse_device(device)
    if kind == "auto":
        kind = "cuda" if has_nvidia_gpu() and _CUDA in ort.get_available_providers() else "cpu"
    check_options("onnxruntime", options, ("threads", *(_ON_GPU if kind == "cuda" else ("spin",))))
    if kind == "cuda":
        return _open_on_gpu(bundle, variant, number, options)
    return _CpuSession(bundle, variant, count_threads(options), read_switch(options, "spin", False))


class _CpuSession(HostSession):
    def __init__(self, bundle: Bundle, variant: str, threads: int, spin: bool) -> None:
        details = {"onnxruntime": library_version("onnxruntime"), "threads": str(threads or "default")}
        if _has_fp16(bundle, variant):
            details["float16"] = "spelled out in float32"
        super().__init__("onnxruntime", bundle.variant(variant).precision, bundle.spec, details)
        self._session = _open_session(bundle, variant, [_CPU], _make_session_options(threads, spin))

    def run(self, feeds: Feeds) -> Array:
        return cast(Array, self._session.run([self._spec.output.name], feeds)[0])

    def release(self) -> None:
        del self._session


def _open_on_gpu(bundle: Bundle, variant: str, number: int, options: Mapping[str, Any]) -> Session:
    if _CUDA not in ort.get_available_providers():
        raise MachineError(
            f"cuda:{number} was asked for, but the onnxruntime installed here has no CUDA provider: "
            'pip uninstall -y onnxruntime onnxruntime-gpu, then pip install "ganrt[cuda]"'
        )
    if not has_nvidia_gpu():
        raise MachineError(f"cuda:{number} was asked for, but this machine has no NVIDIA GPU; use device='cpu'")
    try:
        from ganrt.gpu import DeviceSession, Gpu, OrtPrograms, parse_deadline, translate_errors
    except ImportError as error:  # not MissingLibraryError, which `auto` skips without a warning
        raise MachineError(
            f"the onnxruntime backend on a GPU needs {error.name or 'cuda.core'}, which is not installed: "
            'pip install "ganrt[cuda]"'
        ) from error
    deadline = parse_deadline(options)
    gpu, chosen = Gpu(number), _parse_cuda_options(options)
    with contextlib.redirect_stdout(sys.stderr):  # it prints what it does not find
        ort.preload_dlls(directory="")

    def make_programs(stream: Any, before_close: Any) -> OrtPrograms:
        settings = _make_session_options(count_threads(options), spin=False)
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        provider = (_CUDA, {"device_id": number, "user_compute_stream": str(int(stream.handle)), **chosen})
        return OrtPrograms(gpu, _open_session(bundle, variant, [provider], settings), bundle.spec, stream, before_close)

    name = ("onnxruntime", bundle.variant(variant).precision)
    details = {"onnxruntime-gpu": library_version("onnxruntime-gpu"), **{k: str(v) for k, v in chosen.items()}}
    with translate_errors("opening a session"):
        session = DeviceSession(name, bundle.spec, gpu, details, deadline, make_programs)
    session.restrict_batches(options.get("batches", session.batch_sizes))
    return session


def _parse_cuda_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the provider's options. TF32 is off because it is not float32; the default search is not EXHAUSTIVE, which
    runs again for every batch size. Raises RequestError."""
    search = options.get("search", "HEURISTIC")
    if search not in _SEARCHES:
        raise RequestError(f"search is {search!r}; choose one of {', '.join(_SEARCHES)}")
    return {
        "use_tf32": 0,
        "cudnn_conv_algo_search": search,
        "enable_cuda_graph": int(read_switch(options, "graph", True)),
        "prefer_nhwc": int(read_switch(options, "prefer_nhwc", False)),
    }


def _make_session_options(threads: int, spin: bool) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 4  # it raises its errors too
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    if threads:
        options.intra_op_num_threads = threads
    return options


def _open_session(
    bundle: Bundle, variant: str, providers: list[Any], options: ort.SessionOptions
) -> ort.InferenceSession:
    path = bundle.onnx(variant)
    spelled_out = providers == [_CPU] and _has_fp16(bundle, variant)
    try:
        graph = _read_fp16_graph(path, variant) if spelled_out else str(path)
        session = ort.InferenceSession(graph, options, providers=providers, enable_fallback=False)
    except MachineError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no common base but this
        if _NOT_ALL_ON_GPU.search(str(error)):
            raise BundleError(
                f"onnxruntime cannot run {variant} on the GPU: its CUDA provider lacks some of the operators. Variants "
                f"for GPUs are {', '.join(_list_gpu_variants(bundle)) or 'not in this bundle'}"
            ) from error
        raise BundleError(f"onnxruntime cannot load {variant}: {first_line(error)}") from error
    wanted = providers[0] if isinstance(providers[0], str) else providers[0][0]
    if session.get_providers()[0] != wanted:
        raise MachineError(
            f"onnxruntime runs on {session.get_providers()[0]} where {wanted} was asked for; `ganrt doctor` shows why"
        )
    return session


def _list_gpu_variants(bundle: Bundle) -> list[str]:
    """Return the variants whose operators the CUDA provider has: those in float, and those made for GPUs."""
    return [name for name, v in bundle.variants.items() if v.for_gpu or v.precision in ("fp32", "fp16")]


def _has_fp16(bundle: Bundle, variant: str) -> bool:
    """Whether a variant computes in float16, be it between layers of 8 bits."""
    found = bundle.variant(variant)
    return found.precision == "fp16" or found.for_gpu


def _read_fp16_graph(path: Path, variant: str) -> bytes:
    """Return an fp16 graph in the form that makes the CPU provider compute fp16 (see `ganrt.fp16_emulation`). Raises
    MachineError without onnx."""
    try:
        from ganrt.fp16_emulation import emulate_fp16_file
    except ModuleNotFoundError as error:
        raise MachineError(
            f"{variant} computes in float16, which is made for GPUs: use fp32 or int8 on this machine. A CPU only "
            "emulates float16, more slowly than float32, to prove the variant; that needs onnx: pip install onnx"
        ) from error
    return emulate_fp16_file(path)
