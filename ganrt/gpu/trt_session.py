"""Opens sessions on engines of NVIDIA's two libraries: those of this machine's cache, and plans from elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ganrt.backend_options import check_options
from ganrt.bundle import Bundle
from ganrt.errors import MachineError, RequestError
from ganrt.gpu import engine_cache
from ganrt.gpu.device import Gpu, translate_errors
from ganrt.gpu.loaded_engine import LoadedEngine, load_engine
from ganrt.gpu.nvinfer import Library
from ganrt.gpu.runtime_cache import RuntimeCache
from ganrt.gpu.session import DeviceSession, parse_deadline
from ganrt.gpu.tensor_names import FINITENESS_TENSOR, PICTURES_TENSOR
from ganrt.gpu.trt_programs import TrtPrograms
from ganrt.machine import has_nvidia_gpu, parse_device
from ganrt.spec import Spec

_log = logging.getLogger(__name__)
_OPTIONS = ("batches", "engine", "sha256", "deadline")


def open_engine_session(
    library: Library, bundle: Bundle, variant: str, device: str, options: Mapping[str, Any]
) -> DeviceSession:
    """Open a session on an engine of this machine's cache, or on the plan of the option `engine`.

    Options:
        batches: which of the engine's batch sizes to use (default all).
        deadline: seconds that the GPU may take for a batch (default 60).
        engine, sha256: path of a plan from elsewhere and its digest. An engine is executable code; by giving the digest
            you vouch for it.

    Raises MachineError without a GPU, NoEngineError, EngineError for a plan that the library does not load,
    RequestError.
    """
    backend = library.backend
    check_options(backend, options, _OPTIONS)
    deadline = parse_deadline(options)
    kind, number = parse_device(device)
    if kind == "cpu":
        raise MachineError(f"the {backend} backend runs on NVIDIA GPUs only; {device} was asked for: use onnxruntime")
    if not has_nvidia_gpu():
        raise MachineError(f"the {backend} backend needs an NVIDIA GPU, and this machine has none: use onnxruntime")
    gpu = Gpu(number)
    found = _find_plan(library, bundle, variant, gpu, options)
    engine = _load_plan(library, found, gpu)
    _check_tensors(bundle.spec, engine)
    name = (backend, bundle.variant(variant).precision)
    details = {backend: library.version, "engine": found.sha256, "computed in": found.computed_in}
    if not library.is_rtx:
        details["runtime"] = "lean" if library.is_lean else "full"
    if found.refittable and library.api >= (11, 0):
        details["refittable"] = "yes"  # a failed proof has a hint then
    with translate_errors("opening a session"):
        session = DeviceSession(
            name,
            bundle.spec,
            gpu,
            details,
            deadline,
            lambda stream, before_close: TrtPrograms(gpu, engine, stream, before_close),
        )
    session.restrict_batches(options.get("batches", session.batch_sizes))
    return session


def load_cached_engine(library: Library, bundle: Bundle, variant: str, gpu: Gpu) -> LoadedEngine:
    """Return the engine of this machine's cache that `open_engine_session` would use. Raises NoEngineError, EngineError
    for a plan that the library does not load."""
    return _load_plan(library, _find_plan(library, bundle, variant, gpu, {}), gpu)


class _Plan(NamedTuple):
    """A plan whose digest was checked."""

    plan: bytes
    portable: bool
    """Whether it may hold a runtime of its own."""
    sha256: str
    computed_in: str
    """The precisions that were read back when it was built."""
    refittable: bool


def _find_plan(library: Library, bundle: Bundle, variant: str, gpu: Gpu, options: Mapping[str, Any]) -> _Plan:
    if "engine" in options:
        if not isinstance(options.get("sha256"), str):
            raise RequestError(
                f"the engine {options['engine']} was not built here, and an engine is executable code: vouch for it "
                "with the option sha256, the digest that its maker gave you, or build one with `ganrt build`"
            )
        plan = engine_cache.read_verified(Path(options["engine"]), options["sha256"])
        return _Plan(plan, not library.is_rtx, options["sha256"], "unknown: a foreign engine", False)
    engine = engine_cache.find_engine(bundle.digest(variant), library.describe_machine(gpu.name, gpu.capability))
    shares = engine.notes.get("computed in", {})
    computed_in = ", ".join(f"{precision} {share:.0%}" for precision, share in shares.items())
    return _Plan(
        engine_cache.read_plan(engine),
        bool(engine.key.options.get("version_compatible")),
        engine.sha256,
        computed_in or "the types of the graph",
        bool(engine.key.options.get("refittable")),
    )


def _load_plan(library: Library, found: _Plan, gpu: Gpu) -> LoadedEngine:
    engine = load_engine(library, found.plan, found.portable)
    if library.is_rtx:
        machine = library.describe_machine(gpu.name, gpu.capability)
        static = all(least == most for profile in engine.list_profiles() for least, _, most in profile.values())
        try:
            file = engine_cache.find_kernels(found.sha256, machine)
        except MachineError as error:  # a plan from elsewhere needs no cache
            _log.warning("kernels are compiled again in each process: %s", error)
            file = None
        engine.runtime_cache = RuntimeCache(library, engine.engine, file, static)
    return engine


def _check_tensors(spec: Spec, engine: LoadedEngine) -> None:
    """Raise MachineError unless the engine has the inputs and outputs of the model."""
    wanted = {item.name for item in spec.inputs} | {spec.output.name, PICTURES_TENSOR, FINITENESS_TENSOR}
    found = {tensor.name for tensor in engine.list_tensors()}
    if found != wanted:
        raise MachineError(
            f"the engine has the tensors {', '.join(sorted(found))}, which are not those of this model: build it "
            f"anew with `ganrt build BUNDLE --backend {engine.nvinfer.backend} --rebuild`"
        )
