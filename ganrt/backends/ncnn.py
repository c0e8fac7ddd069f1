"""ncnn on the CPU, and on any GPU that has a Vulkan driver.

ncnn computes convolutions of 3 x 3 pixels with Winograd's algorithm, in fewer multiplications than a direct convolution
has, so its float32 can be the fastest on a CPU. It computes one row of a batch after the other. The graph is converted
when the session is opened (`ganrt.ncnn_format`).

ncnn's Python package keeps Python's interpreter lock while it computes: no other Python thread runs in the meantime.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ganrt import forking
from ganrt.backend import HostSession, Session, first_line, library_version
from ganrt.backend_options import check_options, count_threads
from ganrt.bundle import Bundle
from ganrt.errors import BackendError, BundleError, MachineError
from ganrt.feeds import Array, Feeds
from ganrt.machine import parse_device, usable_cores
from ganrt.ncnn_format import Network, convert_graph

_SPINS = "GOMP_SPINCOUNT"
_FEW = "1000"
"""A thread that waits for the others looks this often, in some 30 microseconds, before it sleeps. By default it looks
for milliseconds, and on a machine with other work takes the very core that the others need: `style` took twice as long
there, `dcgan` 1.7 times."""


def _import_ncnn() -> Any:
    """Import ncnn with this environment, which its copy of OpenMP reads once. It is not left set: other libraries have
    copies of their own."""
    if not {_SPINS, "OMP_WAIT_POLICY"}.isdisjoint(os.environ):
        import ncnn

        return ncnn
    os.environ[_SPINS] = _FEW
    try:
        import ncnn

        return ncnn
    finally:
        del os.environ[_SPINS]


ncnn = _import_ncnn()

_NO_MEMORY = -100
"""Code of a layer that could not allocate its output."""
_threads_started_in: int | None = None
"""Generation of the process (`ganrt.forking`) in which ncnn has started threads. They do not survive a fork, but
OpenMP in the child would wait for them."""


def open(bundle: Bundle, variant: str, device: str, **options: Any) -> Session:
    """Open a session on the CPU, or on the GPU that `device` names: `vulkan` or `vulkan:N`, in the order of its driver.

    Options: `threads`, the number of threads on the CPU; 0: one per core (default: 0, or the cores that this process
    may use). In a child of a process in which ncnn has used several, it uses one.
    """
    kind, number = parse_device(device, vulkan=True)
    check_options("ncnn", options, () if kind == "vulkan" else ("threads",))
    if kind == "cuda":
        raise MachineError(f"the ncnn backend does not use CUDA; {device} was asked for: use device='vulkan' or 'cpu'")
    if kind == "vulkan":
        return _NcnnSession(bundle, variant, 1, number)
    single = _threads_started_in not in (None, forking.generation())
    return _NcnnSession(bundle, variant, 1 if single else count_threads(options), None)


def _note_threads() -> None:
    global _threads_started_in  # ncnn's threads belong to the process
    _threads_started_in = forking.generation()


class _NcnnSession(HostSession):
    def __init__(self, bundle: Bundle, variant: str, threads: int, gpu: int | None) -> None:
        precision = bundle.variant(variant).precision
        network = _convert(bundle.onnx(variant), variant)
        self._net = ncnn.Net()
        _set_precision(self._net.opt, precision)
        self._net.opt.num_threads = threads or usable_cores()
        details = {"ncnn": library_version("ncnn"), "threads": str(threads or "default")}
        if gpu is not None:
            self.device = f"vulkan:{gpu}"
            details = {"ncnn": library_version("ncnn"), "gpu": _use_gpu(self._net, gpu)}
        elif threads != 1:
            _note_threads()  # weights are prepared by several, too
        weights: Literal["float16", "float32"] = "float16" if precision == "fp16" else "float32"
        if self._net.load_param_mem(network.write_param()):
            raise BundleError(f"ncnn cannot load {variant}: it rejects the layers, for the reason on standard error")
        self._net.load_model_mem(network.write_weights(weights))
        if gpu is not None:
            details |= _find_layers_on_cpu(self._net)
        super().__init__("ncnn", precision, bundle.spec, details)
        self._output = network.output

    def run(self, feeds: Feeds) -> Array:
        rows = len(next(iter(feeds.values())))
        return np.stack([self._run_row({name: array[row] for name, array in feeds.items()}) for row in range(rows)])

    def _run_row(self, row: Feeds) -> Array:
        with self._net.create_extractor() as extractor:
            for name, values in row.items():
                integers = values.dtype.kind == "i"  # a label
                extractor.input(name, ncnn.Mat(np.atleast_1d(values.astype(np.int32) if integers else values)).clone())
            code, image = extractor.extract(self._output)
            if code == _NO_MEMORY:
                raise MemoryError
            if code:
                raise BackendError(f"ncnn failed with code {code}, for the reason on standard error")
            return np.array(image)

    def release(self) -> None:
        self._net.clear()
        del self._net


def _convert(path: Path, variant: str) -> Network:
    try:
        return convert_graph(path)
    except BundleError as error:
        raise BundleError(f"ncnn cannot load {variant}: {error}") from error
    except Exception as error:  # onnx's, protobuf's and others: they have no common base but this
        raise BundleError(f"ncnn cannot load {variant}: {first_line(error)}") from error


def _set_precision(option: Any, precision: str) -> None:
    """Let the network compute in the precision of the variant, and in no other. bf16 is how values are stored between
    layers; arithmetic is then float32."""
    half = precision == "fp16"
    option.use_fp16_packed = option.use_fp16_storage = option.use_fp16_arithmetic = half
    option.use_bf16_packed = option.use_bf16_storage = precision == "bf16"


def list_gpus() -> list[str]:
    """Return the GPUs that have a Vulkan driver, as devices with their names: `vulkan:0 (AMD Radeon 780M)`."""
    return [f"vulkan:{number} ({ncnn.get_gpu_info(number).device_name()})" for number in range(ncnn.get_gpu_count())]


def _use_gpu(net: Any, number: int) -> str:
    """Let the network use a GPU. Returns the GPU's name. Raises MachineError if it is not there."""
    found = list_gpus()
    if number >= len(found):
        raise MachineError(
            f"vulkan:{number} was asked for, and ncnn finds {', '.join(found) or 'no Vulkan driver'}: install the "
            "GPU's driver with its Vulkan part, or choose another device"
        )
    net.opt.use_vulkan_compute = True
    net.set_vulkan_device(number)
    return str(ncnn.get_gpu_info(number).device_name())


def _find_layers_on_cpu(net: Any) -> dict[str, str]:
    """Return what is computed on the CPU all the same, because ncnn has no shader for it."""
    kinds = Counter(layer.type for layer in net.layers() if not layer.support_vulkan)
    kinds.pop("Input", None)
    return {"on the CPU": ", ".join(f"{count} {kind}" for kind, count in kinds.items())} if kinds else {}
