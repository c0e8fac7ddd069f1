"""MNN on the CPU, which computes float32 convolutions with Winograd's algorithm, those with 2 x 2 kernels too.

When a session is opened, MNN's converter reads the ONNX file and writes a file of MNN's own, in 0.3 to 1 s. It runs in
a process of its own, because it prints to standard output and a damaged graph may end it. The file lies in a temporary
folder until MNN has loaded it. MNN reads beyond the weights of a norm that has fewer than its input has channels, and
beyond a table at an index that is too large, so a graph is checked for both first.

MNN's threads share each layer and wait for each other by `sched_yield`. Where another process needs one of the cores,
every wait costs a time slice, and two threads take longer than one. So by default a batch is divided among threads that
compute with one thread each and meet at its end: each has weights of its own, and a single picture is computed by one
thread. With `spin`, MNN's threads share every picture.

Rows are computed one by one. MNN chooses the tiles of Winograd's algorithm by the size of the batch, and their errors
differ: in batches, the images of most networks of the benchmark depended on the batch, by up to 1e-3 of their range.

MNN's package has no kernels for AVX-512. On processors with two such units OpenVINO is faster.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from importlib.machinery import PathFinder
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from ganrt import forking
from ganrt.backend import HostSession, Session, first_line, library_version
from ganrt.backend_options import check_options, count_threads, read_switch
from ganrt.bundle import Bundle
from ganrt.c_output import catch_c_output
from ganrt.current_folder import existing_current_folder
from ganrt.errors import BackendError, BundleError, MachineError
from ganrt.feeds import Array, Feeds
from ganrt.machine import parse_device, usable_cores
from ganrt.onnx_shapes import infer_shapes

if sys.platform != "linux":
    raise ImportError("the mnn backend catches what MNN prints, which is written for Linux")

with catch_c_output(), existing_current_folder():
    import MNN  # not MNN.tools, which installs a package that reports its use

_NORMS = ("BatchNormalization", "InstanceNormalization")
_HIGH_PRECISION = 1
_RESIZE_STATUS, _THREAD_NUMBER = 3, 4
"""Codes of `getSessionInfo`, which returns an int as the float of the same bits."""
_DEFAULT_THREADS = 4
"""Most threads by default, because each has weights of its own."""
_TIME = re.compile(r"^\[[\d:]+\] \S*:\d+: ")
_PROGRESS = re.compile("The device supports|Start to |ONNX Model |inputTensors|outputTensors|Convert(ed|er) ")
_CONVERT = """
import sys
sys.path.insert(0, sys.argv[1])
import _tools
files = ["--modelFile", sys.argv[2], "--MNNModel", sys.argv[3]]
_tools.mnnconvert(["mnnconvert", "-f", "ONNX", "--bizCode", "ganrt", *files])
"""


def open(bundle: Bundle, variant: str, device: str, **options: Any) -> Session:
    """Open a session on the CPU.

    Options:
        threads: number of threads; 0: one per core that this process may use, at most 4 (default: 0).
        spin: whether the threads share every picture and wait for each other busily (default False). It changes the
            last digits of the images. It has no effect in a forked child, where MNN's threads do not exist.
    """
    check_options("mnn", options, ("threads", "spin"))
    if parse_device(device)[0] == "cuda":
        raise MachineError(f"the mnn backend runs on the CPU only; {device} was asked for: use onnxruntime")
    threads = count_threads(options)
    spin = read_switch(options, "spin", False) and not forking.generation()
    return _MnnSession(bundle, variant, threads, spin)


class _MnnSession(HostSession):
    def __init__(self, bundle: Bundle, variant: str, threads: int, spin: bool) -> None:
        details = {
            "mnn": library_version("mnn"),
            "threads": str(threads or "default"),
            **({"spin": "on"} if spin else {}),
        }
        super().__init__("mnn", bundle.variant(variant).precision, bundle.spec, details)
        threads = threads or min(usable_cores(), _DEFAULT_THREADS)
        path = bundle.onnx(variant)
        _check_weights(path, variant)
        with tempfile.TemporaryDirectory(prefix="ganrt-") as folder:
            model = Path(folder, "model.mnn")
            _convert(path, model, variant)
            self._networks = [
                _Network(model, threads if spin else 1, bundle.spec.output.name, variant)
                for _ in range(1 if spin else threads)
            ]

    def run(self, feeds: Feeds) -> Array:
        rows = len(next(iter(feeds.values())))
        cuts = _cut_rows(rows, len(self._networks))
        if len(cuts) == 1:
            return self._networks[0].run(feeds)
        parts = [
            _Part(network, {name: array[cut] for name, array in feeds.items()})
            for network, cut in zip(self._networks, cuts, strict=False)
        ]
        started: list[_Part] = []
        try:
            for part in parts[1:]:
                part.start()
                started.append(part)
            parts[0].run()
        finally:
            for part in started:  # after an error too, because the networks are used again
                part.join()
        return np.concatenate([part.take_images() for part in parts])

    def release(self) -> None:
        del self._networks


class _Part(threading.Thread):
    """Computes a part of a batch. A pool of threads would deadlock with forks that wait for the end of the batch:
    `concurrent.futures` holds a lock during a fork, which it needs to start work."""

    def __init__(self, network: _Network, feeds: Feeds) -> None:
        super().__init__(name="ganrt-mnn")
        self._network, self._feeds = network, feeds
        self._done: Array | Exception | None = None

    def run(self) -> None:
        try:
            self._done = self._network.run(self._feeds)
        except Exception as error:
            self._done = error

    def take_images(self) -> Array:
        """Return the images, or raise what `run` raised."""
        if isinstance(self._done, Exception):
            raise self._done
        assert self._done is not None, "it has run"
        return self._done


class _Network:
    """A graph that is loaded once. Any thread may run it, but only one at a time."""

    def __init__(self, model: Path, threads: int, output: str, variant: str) -> None:
        try:
            with catch_c_output() as printed:
                self._interpreter = MNN.Interpreter(str(model))
                self._session = self._interpreter.createSession(
                    {"backend": "CPU", "numThread": threads, "precision": _HIGH_PRECISION}
                )
        except Exception as error:  # MNN raises this class itself
            raise BundleError(f"mnn cannot load {variant}: {_find_reason(printed[0]) or first_line(error)}") from error
        if output not in self._interpreter.getSessionOutputAll(self._session):
            raise BundleError(f"mnn cannot load {variant}: the converted graph has no output {output!r}")
        if (started := self._read_info(_THREAD_NUMBER)) != threads:
            raise MachineError(
                f"{threads} threads were asked for, but MNN has started {started} in this process, which the first "
                f"session with spin=True decides: use threads={started}, or a new process"
            )
        self._output = output
        self._shapes: dict[str, tuple[int, ...]] = {}

    def run(self, feeds: Feeds) -> Array:
        """Return the images as a new array. Raises BackendError for sizes that the graph cannot compute."""
        rows = len(next(iter(feeds.values())))
        return np.concatenate(
            [self._run_row({name: array[row : row + 1] for name, array in feeds.items()}) for row in range(rows)]
        )

    def _run_row(self, feeds: Feeds) -> Array:
        self._resize({name: array.shape for name, array in feeds.items()})
        for name, tensor in self._interpreter.getSessionInputAll(self._session).items():
            tensor.copyFrom(_copy_to_tensor(feeds[name]))
        status = self._interpreter.runSession(self._session)
        if status:
            raise BackendError(f"mnn failed with status {status}")
        made = self._interpreter.getSessionOutput(self._session, self._output)
        host = MNN.Tensor(made.getShape(), MNN.Halide_Type_Float, MNN.Tensor_DimensionType_Caffe)
        made.copyToHostTensor(host)
        return np.array(host.getNumpyData())

    def _resize(self, shapes: dict[str, tuple[int, ...]]) -> None:
        if shapes == self._shapes:
            return
        self._shapes = {}
        with catch_c_output() as printed:
            for name, tensor in self._interpreter.getSessionInputAll(self._session).items():
                self._interpreter.resizeTensor(tensor, shapes[name])
            self._interpreter.resizeSession(self._session)
        if self._read_info(_RESIZE_STATUS):
            if not (reason := _find_reason(printed[0])):
                raise MemoryError
            raise BackendError(f"mnn failed: {reason}")
        self._shapes = shapes

    def _read_info(self, code: int) -> int:
        return int(np.float32(self._interpreter.getSessionInfo(self._session, code)).view(np.int32))


def _check_weights(path: Path, variant: str) -> None:
    """Raise BundleError for a graph that MNN would read beyond the weights of."""
    try:
        model = onnx.load(path)
        shapes = infer_shapes(model)
    except Exception as error:  # onnx's, protobuf's and others: they have no common base but this
        raise BundleError(f"mnn cannot load {variant}: {first_line(error)}") from error
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        shape = shapes.get(node.input[0], ()) if node.input else ()
        if node.op_type in _NORMS and any(shapes.get(name) != shape[1:2] for name in node.input[1:]):
            raise BundleError(f"mnn cannot load {variant}: {node.name} has not a weight for each channel")
        if node.op_type == "Gather" and node.input[1] in constants:
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
            indices = numpy_helper.to_array(constants[node.input[1]])
            side = shape[axis] if -len(shape) <= axis < len(shape) else 0
            if side and indices.size and not -side <= indices.min() <= indices.max() < side:
                raise BundleError(f"mnn cannot load {variant}: {node.name} has an index beyond {side} rows")


def _convert(path: Path, model: Path, variant: str) -> None:
    """Convert an ONNX file. Raises BundleError with MNN's reason."""
    site = str(Path(MNN.__file__).parents[1])
    if PathFinder.find_spec("_tools", [site]) is None:
        raise MachineError("mnn is installed but broken (it has no converter): install it again")
    command = [sys.executable, "-I", "-S", "-c", _CONVERT, site, str(path.absolute()), str(model)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=model.parent, check=False)
    if done.returncode or not model.exists():
        reason = _find_reason(f"{done.stdout}\n{done.stderr}".replace(str(path.absolute()), "the file"))
        raise BundleError(f"mnn cannot load {variant}: {reason or f'its converter ended with {done.returncode}'}")


def _find_reason(printed: str) -> str:
    """Return what MNN printed besides its progress, each message once, as one line; empty if there is nothing."""
    lines = [_TIME.sub("", line).strip() for line in printed.splitlines()]
    return "; ".join(dict.fromkeys(line for line in lines if line and not _PROGRESS.match(line)))[:300]


def _cut_rows(rows: int, parts: int) -> Sequence[slice]:
    """Cut a batch into at most `parts` slices whose sizes differ by at most one row."""
    parts = min(rows, parts)
    ends = [rows * k // parts for k in range(parts + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]


def _copy_to_tensor(array: Array) -> Any:
    whole = array.dtype.kind in "iu"
    kind = MNN.Halide_Type_Int if whole else MNN.Halide_Type_Float
    values = array.astype(np.int32 if whole else np.float32, copy=False)
    return MNN.Tensor(values.shape, kind, values, MNN.Tensor_DimensionType_Caffe)
