"""OpenVINO on the CPU.

The ONNX file is compiled for the precision of the variant, because on CPUs with bf16 units OpenVINO would otherwise run
a float32 graph in bf16. The precision that the convolutions and matrix products really run in is read back from the
compiled model.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ganrt import forking
from ganrt.backend import HostSession, Session, first_line, library_version
from ganrt.backend_options import check_options, count_threads
from ganrt.bundle import Bundle
from ganrt.current_folder import existing_current_folder
from ganrt.errors import BackendError, BundleError, MachineError
from ganrt.feeds import Array, Feeds
from ganrt.machine import parse_device
from ganrt.telemetry import no_telemetry

with no_telemetry(), existing_current_folder():
    import openvino

_RUNS_AS = {"fp32": ("f32",), "bf16": ("bf16",), "int8": ("i8", "u8")}
"""Precision of a variant -> OpenVINO's names of it for the nodes in _COUNTED."""
_COUNTED = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")
"""Types of nodes that do most of the work."""
_KERNELS = 32
"""Compiled kernels that a model for pictures of any size keeps, and oneDNN for all models. By default OpenVINO keeps
5000 a model, of about 0.15 MiB each, and makes about ten for each new size."""
_ONEDNN_KERNELS = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


def open(bundle: Bundle, variant: str, device: str, **options: Any) -> Session:
    """Options: `threads`, the number of threads; 0: one per physical core (default: 0, or the cores that this process
    may use)."""
    check_options("openvino", options, ("threads",))
    if parse_device(device)[0] == "cuda":
        raise MachineError(f"the openvino backend runs on the CPU only; {device} was asked for: use onnxruntime")
    return _OpenVinoSession(bundle, variant, count_threads(options))


class _OpenVinoSession(HostSession):
    # Measured with OpenVINO 2026.4: odd batch sizes use other kernels, whose last digits differ, and each new size
    # costs a preparation. With these few sizes an image does not depend on the batch that it was computed in.
    batch_sizes = (1, 2, 4, 8, 16, 32)

    def __init__(self, bundle: Bundle, variant: str, threads: int) -> None:
        precision, core = bundle.variant(variant).precision, openvino.Core()
        config: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": _choose_float_type(core, precision),
            "PERFORMANCE_HINT": "LATENCY",
            **({"INFERENCE_NUM_THREADS": threads} if threads else {}),
            **(
                {"CPU_RUNTIME_CACHE_CAPACITY": _KERNELS}
                if any(item.size is None for item in bundle.spec.images)
                else {}
            ),
        }
        path = bundle.onnx(variant)
        try:
            with _limit_onednn_cache():
                compiled = core.compile_model(core.read_model(path), "CPU", config)
        except RuntimeError as error:
            raise BundleError(f"openvino cannot load {variant}: {_find_reason(error)}") from error
        shares = _measure_shares(compiled)
        if shares and not any(name in shares for name in _RUNS_AS[precision]):
            found = ", ".join(shares)
            raise MachineError(
                f"{variant} was to run in {precision}, but all its convolutions and matrix products run in "
                f"{found} on openvino here; use a variant in an optimised form, or another precision"
            )
        details = {
            "openvino": library_version("openvino"),
            "threads": str(threads or "default"),
            **({} if precision == "fp32" else {"computed in": ", ".join(f"{k} {v:.0%}" for k, v in shares.items())}),
        }
        super().__init__("openvino", precision, bundle.spec, details)
        self._request = compiled.create_infer_request()
        if forking.generation():  # freeing it joins threads, which wait for locks that were copied while they were held
            forking.keep_forever(self._request)
        self._largest = 0
        self._shapes: list[tuple[int, ...]] = []

    def run(self, feeds: Feeds) -> Array:
        shapes = [array.shape for array in feeds.values()]
        try:
            try:
                self._infer(feeds)
            except RuntimeError:
                if shapes != self._shapes:
                    raise
                # After an error at other shapes OpenVINO takes these, the last that it computed, as prepared, although
                # the error has left them half prepared. It prepares them again after a batch of another size.
                self._infer({name: np.concatenate([array, array]) for name, array in feeds.items()})
                self._infer(feeds)
        except RuntimeError as error:
            raise BackendError(f"openvino failed: {_find_reason(error)}") from error
        self._shapes = shapes
        self._return_outgrown_memory(feeds)
        return np.array(self._request.get_tensor(self._spec.output.name).data)

    def _infer(self, feeds: Feeds) -> None:
        # The tensors share NumPy's memory, which OpenVINO allows for writeable arrays only. The result is copied,
        # because the request reuses its buffer.
        self._request.infer({n: openvino.Tensor(a, shared_memory=bool(a.flags.writeable)) for n, a in feeds.items()})

    def release(self) -> None:
        del self._request

    def _return_outgrown_memory(self, feeds: Feeds) -> None:
        """Return the buffers that a larger batch has replaced to the system. They lie between others in the heap, where
        the C library keeps them."""
        size = sum(array.size for array in feeds.values())
        if size > self._largest:
            self._largest = size
            if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):  # glibc
                library.malloc_trim(0)


def _choose_float_type(core: openvino.Core, precision: str) -> str:
    """Return the type to compute the float part of a graph in. Raises MachineError if the processor lacks bf16 units,
    where OpenVINO would use float32 without a warning."""
    bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and not bf16:
        raise MachineError("bf16 was asked for, but this processor has no bf16 units; use fp32 or int8")
    return "bf16" if bf16 and precision != "fp32" else "f32"


@contextmanager
def _limit_onednn_cache() -> Iterator[None]:
    """Compile a model with this environment: OpenVINO's copy of oneDNN reads the variable when it makes the first
    kernel. It is not left set, because PyTorch's copy of oneDNN reads it too and needs more."""
    if _ONEDNN_KERNELS in os.environ:
        yield
        return
    os.environ[_ONEDNN_KERNELS] = str(_KERNELS)
    try:
        yield
    finally:
        del os.environ[_ONEDNN_KERNELS]


def _measure_shares(compiled: openvino.CompiledModel) -> dict[str, float]:
    """Return precision -> the share of convolutions and matrix products that run in it, the largest first: the type of
    their data, because weights may be stored in 8 bits though the product is computed in float."""
    counted = [n for n in compiled.get_runtime_model().get_ops() if n.get_rt_info()["layerType"].value in _COUNTED]
    found = Counter(node.get_input_element_type(0).get_type_name() for node in counted)
    return {name: count / found.total() for name, count in found.most_common()}


def _find_reason(error: RuntimeError) -> str:
    """Return the reason, which OpenVINO spreads over several lines: of graphs that it cannot convert the log of the
    operators, or else the list of those without a conversion rule."""
    _, failed, log = str(error).rpartition("Failed operations detailed log:")
    summary, listed, operators = log.partition("Summary:")
    return first_line(" ".join((operators if listed and not failed else summary).split()))
