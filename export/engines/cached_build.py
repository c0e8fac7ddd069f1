"""Bundle -> TensorRT engine in this machine's cache. Needs a GPU, TensorRT with its builder, and onnx-ir; no torch."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from ganrt import atomic
from ganrt.bundle import Bundle
from ganrt.errors import EngineError, MachineError, RequestError
from ganrt.golden import picture_size
from ganrt.gpu import LEAN, LOG, Gpu, describe_machine, engine_cache, load_engine, trt
from ganrt.gpu.engine_cache import Engine, Key, Machine
from ganrt.machine import parse_device

from . import inspection
from .builder import configure, parse_network, refit_engine, report_progress, set_timing_cache, timing_cache
from .options import EngineOptions
from .post_processing import with_head, with_signed_steps

_PRECISIONS = ("fp32", "fp16", "int8")
_REVISION = 1
"""Of what is built around the graph; part of the key, so that a newer ganrt builds anew."""

Progress = Callable[[float, str], None]
"""Told the share that is done, and what is being done."""


def build(
    bundle: Bundle | str | Path,
    *,
    variant: str | None = None,
    options: EngineOptions | None = None,
    device: str = "auto",
    rebuild: bool = False,
    progress: Progress = lambda *_: None,
) -> Engine:
    """The engine of a variant in this machine's cache, built if it is not there; another process that builds the same
    one is waited for.

    Args:
        bundle: a bundle, or the path of one.
        variant: name of a variant; default: the float32 one that `ganrt.load` prefers.
        rebuild: build it even if it is there.

    Raises MachineError without a GPU, RequestError for a variant or options that do not go together, EngineError with
    the parser's or builder's own words.
    """
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.read(bundle)
    variant = variant or bundle.in_precision("fp32")[0]
    options = options or EngineOptions()
    kind, number = parse_device(device)
    if kind == "cpu":
        raise MachineError("engines are built for an NVIDIA GPU; the CPU was asked for")
    precision = bundle.variant(variant).precision
    if precision not in _PRECISIONS:
        raise RequestError(f"{variant} is {precision}; engines are built of {', '.join(_PRECISIONS)}")
    if LEAN:
        raise MachineError("only TensorRT's lean runtime is installed, which builds no engines: pip install tensorrt")
    gpu = Gpu(number)
    named = {**asdict(options), "batches": list(options.batches), "precision": precision, "revision": _REVISION}
    named["size"] = list(options.size) if options.size else None
    key = Key(bundle.digest(variant), named, describe_machine(gpu.name, gpu.capability))
    with engine_cache.lock(key):
        found = None if rebuild else engine_cache.exact(key)
        if found is not None:
            progress(1.0, f"the engine of {variant} for batches of {_list(options)} is there already")
            return found
        with tempfile.TemporaryDirectory() as folder:
            model = with_signed_steps(with_head(ir.load(bundle.onnx(variant)), bundle.spec))
            job = _Job(variant, picture_size(bundle.spec), model, Path(folder) / "model.onnx", options, key, progress)
            return _made(job, rebuild)


@dataclass(frozen=True)
class _Job:
    """An engine that is to be made."""

    variant: str
    golden: tuple[int, int]
    """Size of the pictures that it is proven with."""
    model: ir.Model
    """With its head."""
    file: Path
    """Where the model is written for TensorRT."""
    options: EngineOptions
    key: Key
    progress: Progress


def _made(job: _Job, rebuild: bool) -> Engine:
    options: EngineOptions = job.options
    architecture = _architecture(job.model)
    ir.save(job.model, job.file, external_data=f"{job.file.name}.data")
    donor = _donor(job.key, architecture, options) if options.refittable and not rebuild else None
    if donor is not None:
        job.progress(0.0, f"refitting an engine of the same architecture with the weights of {job.variant}")
        plan = refit_engine(engine_cache.read(donor), job.file, options.version_compatible)
    else:
        plan = _plan(job)
        if options.stripped:
            job.progress(1.0, "putting the weights into the stripped engine")
            stripped = Key(architecture, job.key.options, job.key.machine)
            engine_cache.store(stripped, plan, {"architecture": architecture})
            plan = refit_engine(plan, job.file, options.version_compatible)
    found = inspection.shares(load_engine(plan, options.version_compatible).engine)
    inspection.require(str(job.key.options["precision"]), found)
    origin = {"refitted": True} if donor is not None else {}
    return engine_cache.store(job.key, plan, {"architecture": architecture, "computed in": found, **origin})


def _plan(job: _Job) -> bytes:
    """Parse and build."""
    text = f"building an engine of {job.variant} for batches of {_list(job.options)}; this takes minutes"
    job.progress(0.0, text)
    LOG.errors()
    builder: trt.Builder = trt.Builder(LOG)
    precision = str(job.key.options["precision"])
    parsed = parse_network(builder, job.file, [node.name or node.op_type for node in job.model.graph])
    config = configure(builder, parsed, precision, job.options, job.golden)
    report_progress(config, lambda share: job.progress(share, text))
    timings = engine_cache.folder() / f"timings-{_digest(job.key.machine)}.cache"
    set_timing_cache(config, timings.read_bytes() if timings.is_file() else b"")
    host: trt.IHostMemory | None = builder.build_serialized_network(parsed, config)
    if host is None:
        raise EngineError(f"TensorRT {trt.__version__} built no engine: {LOG.errors()}")
    atomic.write_file(timings, timing_cache(config))
    return bytes(host)


def _donor(key: Key, architecture: str, options: EngineOptions) -> Engine | None:
    """An engine that was built here with these options, of a model that differs in its weights alone; the one without
    weights where that is kept."""
    if options.stripped:
        return engine_cache.exact(Key(architecture, key.options, key.machine))
    for engine in engine_cache.engines():
        same = engine.key.machine == key.machine and engine.key.options == key.options
        if same and engine.notes.get("architecture") == architecture and "refitted" not in engine.notes:
            return engine
    return None


def _architecture(model: ir.Model) -> str:
    """Digest of a graph without the values of its weights; those of shapes and axes count."""
    proto: Any = ir.to_proto(model)
    for tensor in proto.graph.initializer:
        if len(tensor.dims) and tensor.data_type in (1, 10, 16):  # float, float16, bfloat16
            for name in ("raw_data", "float_data", "int32_data", "external_data"):
                tensor.ClearField(name)
    proto.ClearField("metadata_props")
    return hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()


def _digest(machine: Machine) -> str:
    return hashlib.sha256(repr(machine).encode()).hexdigest()[:16]


def _list(options: EngineOptions) -> str:
    return ", ".join(map(str, options.batches))
