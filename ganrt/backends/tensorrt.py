"""TensorRT on an NVIDIA GPU: engines that `ganrt build` made on this machine, on the full library or the lean runtime.

Two batches are in flight, results are copied out on a stream of their own, each batch size is replayed as a CUDA graph,
and nothing is allocated once each batch size has run three times.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ganrt.backend import Session, check_options
from ganrt.bundle import Bundle
from ganrt.errors import MachineError, RequestError
from ganrt.gpu import (
    FINITENESS_TENSOR,
    LEAN,
    PICTURES_TENSOR,
    DeviceSession,
    Gpu,
    LoadedEngine,
    TrtPrograms,
    describe_machine,
    engine_cache,
    load_engine,
    parse_deadline,
    translate_errors,
    trt,
)
from ganrt.machine import has_nvidia_gpu, parse_device
from ganrt.spec import Spec

_OPTIONS = ("batches", "engine", "sha256", "deadline")


def open(bundle: Bundle, variant: str, device: str, **options: Any) -> Session:
    """Open a session on an engine of this machine's cache.

    Options:
        batches: which of the engine's batch sizes to use (default all).
        deadline: seconds that the GPU may take for a batch (default 60).
        engine, sha256: path of a plan from elsewhere and its digest. An engine is executable code; by giving the digest
            you vouch for it.
    """
    check_options("tensorrt", options, _OPTIONS)
    deadline = parse_deadline(options)
    kind, number = parse_device(device)
    if kind == "cpu":
        raise MachineError(f"the tensorrt backend runs on NVIDIA GPUs only; {device} was asked for: use onnxruntime")
    if not has_nvidia_gpu():
        raise MachineError("the tensorrt backend needs an NVIDIA GPU, and this machine has none; use device='cpu'")
    gpu = Gpu(number)
    plan, facts, portable = _read_plan(bundle, variant, gpu, options)
    engine = load_engine(plan, portable)
    _check_tensors(bundle.spec, engine)
    name = ("tensorrt", bundle.variant(variant).precision)
    details = {"tensorrt": str(trt.__version__), "runtime": "lean" if LEAN else "full", **facts}
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


def _read_plan(
    bundle: Bundle, variant: str, gpu: Gpu, options: Mapping[str, Any]
) -> tuple[bytes, dict[str, str], bool]:
    """Return a plan whose digest was checked, what is known about it, and whether it may hold a runtime of its own."""
    if "engine" in options:
        if not isinstance(options.get("sha256"), str):
            raise RequestError(
                f"the engine {options['engine']} was not built here, and an engine is executable code: vouch for it "
                "with the option sha256, the digest that its maker gave you, or build one with `ganrt build`"
            )
        plan = engine_cache.read_verified(Path(options["engine"]), options["sha256"])
        return plan, {"engine": options["sha256"], "computed in": "unknown: a foreign engine"}, True
    engine = engine_cache.find_engine(bundle.digest(variant), describe_machine(gpu.name, gpu.capability))
    shares = engine.notes.get("computed in", {})
    facts = {"engine": engine.sha256, "computed in": ", ".join(f"{k} {v:.0%}" for k, v in shares.items())}
    return engine_cache.read_plan(engine), facts, bool(engine.key.options.get("version_compatible"))


def _check_tensors(spec: Spec, engine: LoadedEngine) -> None:
    """Raise MachineError unless the engine has the inputs and outputs of the model."""
    wanted = {item.name for item in spec.inputs} | {spec.output.name, PICTURES_TENSOR, FINITENESS_TENSOR}
    found = {tensor.name for tensor in engine.list_tensors()}
    if found != wanted:
        raise MachineError(
            f"the engine has the tensors {', '.join(sorted(found))}, which are not those of this model: build it "
            "anew with `ganrt build BUNDLE --backend tensorrt --rebuild`"
        )
