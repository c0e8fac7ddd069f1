"""Builds the engine of a variant in this machine's cache. Needs a GPU, TensorRT with its builder and onnx-ir, but no
torch."""

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
from ganrt.feeds import Size
from ganrt.golden import proof_sizes
from ganrt.gpu import LEAN, LOG, Gpu, describe_machine, engine_cache, load_engine, trt
from ganrt.machine import parse_device

from .builder import configure, parse_network, read_timing_cache, refit_engine, report_progress, set_timing_cache
from .inspection import read_precision_shares, require_precision
from .options import EngineOptions
from .post_processing import add_post_processing_head
from .quantization import make_symmetric

_PRECISIONS = ("fp32", "fp16", "int8")
_REVISION = 1
"""Part of the key: raised when the graph around the model changes, so that engines are built anew."""

Progress = Callable[[float, str], None]
"""Called with the share that is done and what is being done."""


def build(
    bundle: Bundle | str | Path,
    *,
    variant: str | None = None,
    options: EngineOptions | None = None,
    device: str = "auto",
    rebuild: bool = False,
    progress: Progress = lambda *_: None,
) -> engine_cache.Engine:
    """Return the engine of a variant from this machine's cache, building it on first use. If another process builds the
    same engine, wait for it.

    Args:
        bundle: a bundle, or the path of one.
        variant: name of a variant; default: the float32 one that `ganrt.load` prefers.
        device: `auto`, `cuda` or `cuda:N`.
        rebuild: build it even if it is in the cache.
        progress: called with the share that is done, 0 to 1, and what is being done.

    Raises MachineError without a GPU, RequestError for a variant or options that do not fit, EngineError with the
    errors of TensorRT's parser or builder.
    """
    bundle = Bundle.of(bundle)
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
    key = engine_cache.Key(bundle.digest(variant), named, describe_machine(gpu.name, gpu.capability))
    with engine_cache.lock(key):
        found = None if rebuild else engine_cache.find_exact(key)
        if found is not None:
            progress(1.0, f"the engine of {variant} for batches of {_format_batches(options)} is there already")
            return found
        with tempfile.TemporaryDirectory() as folder:
            model = make_symmetric(add_post_processing_head(ir.load(bundle.onnx(variant)), bundle.spec))
            file = Path(folder) / "model.onnx"
            job = _Job(variant, _list_golden_sizes(bundle), model, file, options, key, progress)
            return _build_or_refit(job, rebuild)


@dataclass(frozen=True)
class _Job:
    """An engine to be built."""

    variant: str
    golden: tuple[Size, ...]
    """Heights and widths of the golden pictures."""
    model: ir.Model
    """With its post-processing head."""
    file: Path
    """Where the model is written for TensorRT."""
    options: EngineOptions
    key: engine_cache.Key
    progress: Progress


def _list_golden_sizes(bundle: Bundle) -> tuple[Size, ...]:
    golden = bundle.read_golden()
    groups = [*proof_sizes(bundle.spec), *(group.sizes for group in (golden.groups if golden else ()))]
    return tuple({size for sizes in groups for size in sizes.values()})


def _build_or_refit(job: _Job, rebuild: bool) -> engine_cache.Engine:
    options: EngineOptions = job.options
    architecture = _digest_architecture(job.model)
    ir.save(job.model, job.file, external_data=f"{job.file.name}.data")
    donor = _find_donor(job.key, architecture, options) if options.refittable and not rebuild else None
    if donor is not None:
        job.progress(0.0, f"refitting an engine of the same architecture with the weights of {job.variant}")
        plan = refit_engine(engine_cache.read_plan(donor), job.file, options.version_compatible)
    else:
        plan = _build_plan(job)
        if options.stripped:
            job.progress(1.0, "putting the weights into the stripped engine")
            stripped = engine_cache.Key(architecture, job.key.options, job.key.machine)
            engine_cache.store(stripped, plan, {"architecture": architecture})
            plan = refit_engine(plan, job.file, options.version_compatible)
    shares = read_precision_shares(load_engine(plan, options.version_compatible).engine)
    require_precision(str(job.key.options["precision"]), shares)
    origin = {"refitted": True} if donor is not None else {}
    return engine_cache.store(job.key, plan, {"architecture": architecture, "computed in": shares, **origin})


def _build_plan(job: _Job) -> bytes:
    text = f"building an engine of {job.variant} for batches of {_format_batches(job.options)}; this takes minutes"
    job.progress(0.0, text)
    LOG.take_errors()
    builder: trt.Builder = trt.Builder(LOG)
    precision = str(job.key.options["precision"])
    network = parse_network(builder, job.file, [node.name or node.op_type for node in job.model.graph])
    config = configure(builder, network, precision, job.options, job.golden)
    report_progress(config, lambda share: job.progress(share, text))
    timings = engine_cache.ensure_folder() / f"timings-{_digest_machine(job.key.machine)}.cache"
    set_timing_cache(config, timings.read_bytes() if timings.is_file() else b"")
    host: trt.IHostMemory | None = builder.build_serialized_network(network, config)
    if host is None:
        raise EngineError(f"TensorRT {trt.__version__} built no engine: {LOG.take_errors()}")
    atomic.write_file(timings, read_timing_cache(config))
    return bytes(host)


def _find_donor(key: engine_cache.Key, architecture: str, options: EngineOptions) -> engine_cache.Engine | None:
    """Return an engine that was built here with these options for a model that differs in its weights only; with
    `stripped`, the one without weights."""
    if options.stripped:
        return engine_cache.find_exact(engine_cache.Key(architecture, key.options, key.machine))
    for engine in engine_cache.iterate_engines():
        same = engine.key.machine == key.machine and engine.key.options == key.options
        if same and engine.notes.get("architecture") == architecture and "refitted" not in engine.notes:
            return engine
    return None


def _digest_architecture(model: ir.Model) -> str:
    """Return the digest of a graph without the values of its weights. Constants such as shapes and axes count."""
    proto: Any = ir.to_proto(model)
    for tensor in proto.graph.initializer:
        if len(tensor.dims) and tensor.data_type in (1, 10, 16):  # float, float16, bfloat16
            for name in ("raw_data", "float_data", "int32_data", "external_data"):
                tensor.ClearField(name)
    proto.ClearField("metadata_props")
    return hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()


def _digest_machine(machine: engine_cache.Machine) -> str:
    return hashlib.sha256(repr(machine).encode()).hexdigest()[:16]


def _format_batches(options: EngineOptions) -> str:
    return ", ".join(map(str, options.batches))
