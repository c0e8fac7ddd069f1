"""Run the graphs that are judged: on ONNX Runtime, which computes what a graph says, and on the other backends that
will run the variant. What these compute between the layers in 8 bits, and in which precision, is their own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import onnx_ir as ir

from ganrt.agreement import THRESHOLDS, compare
from ganrt.backend import open_session
from ganrt.batching import run_all
from ganrt.bundle import Bundle, Variant
from ganrt.errors import BackendError, BundleError, MachineError, RequestError
from ganrt.feeds import Array, Feeds
from ganrt.levels import find_levels
from ganrt.session_config import SessionConfig
from ganrt.spec import Spec
from ganrt.stores import FolderStore

from .calibration import run_samples

RunGraph: TypeAlias = Callable[[ir.Model, Sequence[Feeds]], list[Array]]
"""Returns the images of each batch of inputs, float32 NCHW."""
EVALUATOR = "onnxruntime"
"""The backend that computes what `run_samples` does."""
REFUSALS = (BackendError, BundleError, MachineError)
"""What a backend raises that cannot load a graph or fails while it runs it."""
_BATCH = 8


def run_on_backend(
    backend: str, spec: Spec, model: ir.Model, given: Sequence[Feeds], precision: str = "int8"
) -> list[Array]:
    """Run a graph on the CPU as `ganrt.load` would run a variant of this precision. Raises one of REFUSALS."""
    with tempfile.TemporaryDirectory() as folder:
        ir.save(model, Path(folder) / "model.onnx", external_data="model.onnx.data")
        variant = Variant("model.onnx", model.opset_imports[""], precision)
        files = [path.name for path in Path(folder).iterdir()]
        bundle = Bundle(FolderStore(Path(folder)), spec, {precision: variant}, {}).with_files(*files)
        with open_session(bundle, SessionConfig(backend, precision, "cpu")) as session:
            return [run_all(session, spec.output, rows, _BATCH) for rows in given]


def find_runners(
    backends: Sequence[str], spec: Spec, model: ir.Model, given: Sequence[Feeds], wanted: Sequence[Array]
) -> Mapping[str, RunGraph]:
    """Name of a backend -> what runs graphs in int8 on it; `run_samples` alone where none of the backends is left.

    Args:
        backends: names. Those that do not make the images of the float32 graph are left out: another int8 would not
            help them, and their proof says what they lack.
        model: the float32 graph.
        wanted: its images for each batch in `given`.
    """
    runners: dict[str, RunGraph] = {EVALUATOR: run_samples} if EVALUATOR in backends else {}
    for backend in backends:
        if backend != EVALUATOR and _makes_images(backend, spec, model, given, wanted):
            runners[backend] = partial(run_on_backend, backend, spec)
    return runners or {EVALUATOR: run_samples}


def _makes_images(backend: str, spec: Spec, model: ir.Model, given: Sequence[Feeds], wanted: Sequence[Array]) -> bool:
    try:
        found = run_on_backend(backend, spec, model, given, "fp32")
    except (*REFUSALS, RequestError):  # which the proof of the float32 variant reports
        return False
    pairs = zip(found, wanted, strict=True)
    return all(compare(*pair, find_levels(spec.output)).psnr.min() >= THRESHOLDS["fp32"] for pair in pairs)
