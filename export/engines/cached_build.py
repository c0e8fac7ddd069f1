"""Builds the engine of a variant in this machine's cache. TensorRT needs a GPU and its builder; neither library needs
torch."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from ganrt import gpu
from ganrt.bundle import Bundle
from ganrt.errors import MachineError, MissingLibraryError, RequestError
from ganrt.feeds import Size
from ganrt.gpu import Library, engine_cache, load_engine
from ganrt.machine import has_nvidia_gpu, parse_device

from .ahead import PRECISIONS, build_ahead
from .builder import TimingCache, build_plan, refit_engine
from .engine_graph import format_batches, list_golden_sizes, make_engine_graph, name_options, save_engine_graph
from .inspection import read_precision_shares, require_precision
from .options import EngineOptions, RtxEngineOptions, limit_batches

Progress = Callable[[float, str], None]
"""Called with the share that is done and what is being done."""


def build(
    bundle: Bundle | str | Path,
    *,
    variant: str | None = None,
    options: EngineOptions | RtxEngineOptions | None = None,
    device: str = "auto",
    rebuild: bool = False,
    progress: Progress = lambda *_: None,
) -> engine_cache.Engine:
    """Return the engine of a variant from this machine's cache, building it on first use. If another process builds the
    same engine, wait for it.

    Args:
        bundle: a bundle, or the path of one.
        variant: name of a variant; default: the float32 one that `ganrt.load` prefers.
        options: `EngineOptions` for TensorRT, which builds on the GPU that it builds for; `RtxEngineOptions` for
            TensorRT for RTX, which compiles on any machine. Default: `EngineOptions()`.
        device: `auto`, `cuda` or `cuda:N`; not used by TensorRT for RTX.
        rebuild: build it even if it is in the cache.
        progress: called with the share that is done, 0 to 1, and what is being done.

    Raises MachineError for TensorRT without a GPU, RequestError for a variant or options that do not fit, EngineError
    with the errors of the parser or the builder.
    """
    bundle = Bundle.of(bundle)
    variant = variant or bundle.in_precision("fp32", gpu=True)[0]
    if isinstance(options, RtxEngineOptions):
        return build_ahead(bundle, variant, options, rebuild, progress)
    options = limit_batches(options or EngineOptions(), bundle.spec)
    kind, number = parse_device(device)
    if kind == "cpu":
        raise MachineError("engines are built for an NVIDIA GPU; the CPU was asked for")
    precision = bundle.variant(variant).precision
    if precision not in PRECISIONS:
        raise RequestError(f"{variant} is {precision}; engines are built of {', '.join(PRECISIONS)}")
    if not has_nvidia_gpu():
        raise MachineError(
            "TensorRT builds engines on the GPU that they are for, and this machine has no NVIDIA GPU; tensorrt-rtx "
            "compiles them on any machine"
        )
    try:
        library, card = gpu.load_tensorrt(), gpu.Gpu(number)
    except ModuleNotFoundError as error:  # cuda-core is not needed to compile for RTX GPUs, so it is imported here
        raise MissingLibraryError(error.name or "tensorrt", "tensorrt", "building engines") from error
    if library.is_lean:
        raise MachineError("only TensorRT's lean runtime is installed, which builds no engines: pip install tensorrt")
    if not library.runs_half_pairs(bundle.variant(variant)):
        raise RequestError(f"{library} takes no 8 bits between float16, as {variant} has them; name another variant")
    machine = library.describe_machine(card.name, card.capability)
    key = engine_cache.Key(bundle.digest(variant), name_options(options, precision), machine)
    with engine_cache.lock(key):
        found = None if rebuild else engine_cache.find_exact(key)
        if found is not None:
            progress(1.0, f"the engine of {variant} for batches of {format_batches(options)} is there already")
            return engine_cache.make_newest(found)
        with tempfile.TemporaryDirectory() as folder:
            model = make_engine_graph(bundle, variant)
            file = save_engine_graph(model, Path(folder))
            job = _Job(library, variant, list_golden_sizes(bundle), model, file, options, key, progress)
            return _build_or_refit(job, rebuild)


@dataclass(frozen=True)
class _Job:
    """An engine of TensorRT to be built."""

    tensorrt: Library
    variant: str
    golden: tuple[Size, ...]
    """Heights and widths of the golden pictures."""
    model: ir.Model
    """With its post-processing head."""
    file: Path
    """Where it is written for the parser."""
    options: EngineOptions
    key: engine_cache.Key
    progress: Progress


def _build_or_refit(job: _Job, rebuild: bool) -> engine_cache.Engine:
    options, library = job.options, job.tensorrt
    architecture = _digest_architecture(job.model)
    donor = _find_donor(job.key, architecture, options) if options.refittable and not rebuild else None
    if donor is not None:
        job.progress(0.0, f"refitting an engine of the same architecture with the weights of {job.variant}")
        plan = refit_engine(library, engine_cache.read_plan(donor), job.file, options.version_compatible)
    else:
        plan = _build_plan(job)
        if options.stripped:
            job.progress(1.0, "putting the weights into the stripped engine")
            stripped = engine_cache.Key(architecture, job.key.options, job.key.machine)
            engine_cache.store(stripped, plan, {"architecture": architecture})
            plan = refit_engine(library, plan, job.file, options.version_compatible)
    shares = read_precision_shares(load_engine(library, plan, options.version_compatible))
    require_precision(str(job.key.options["precision"]), shares, strongly_typed=library.api >= (10, 0))
    origin = {"refitted": True} if donor is not None else {}
    return engine_cache.store(job.key, plan, {"architecture": architecture, "computed in": shares, **origin})


def _build_plan(job: _Job) -> bytes:
    text = f"building an engine of {job.variant} for batches of {format_batches(job.options)}; this takes minutes"
    job.progress(0.0, text)
    names = [node.name or node.op_type for node in job.model.graph]
    timings = TimingCache(engine_cache.ensure_folder() / f"timings-{_digest_machine(job.key.machine)}.cache")
    precision = str(job.key.options["precision"])
    return build_plan(
        *(job.tensorrt, job.file, names, precision, job.options, job.golden),
        progress=lambda share: job.progress(share, text),
        timings=timings,
    )


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
