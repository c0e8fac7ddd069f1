"""The builder of TensorRT in every supported version, and that of TensorRT for RTX: parsing, configuring, refitting.
tests/gpu/test_api_contract.py checks the branches on `Library.api` and `is_rtx` against the API of each version."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganrt import atomic
from ganrt.errors import EngineError, MachineError, RequestError
from ganrt.feeds import Size
from ganrt.gpu import Library, engine_cache, load_engine, redirect_to_stderr

from .options import EngineOptions, ProfileOptions, RtxEngineOptions

if TYPE_CHECKING:
    import tensorrt as trt

_MOVE_ONLY = ("CONSTANT", "SHAPE", "CAST", "IDENTITY", "SHUFFLE", "CONCATENATION", "SLICE", "GATHER")
"""Layer types of 8.6 that move values without computing."""


@redirect_to_stderr()
def build_plan(
    library: Library,
    file: Path,
    nodes: list[str],
    precision: str,
    options: ProfileOptions,
    golden: Sequence[Size],
    progress: Callable[[float], None] = lambda _: None,
    timings: TimingCache | None = None,
) -> bytes:
    """Return a plan of an ONNX file.

    Args:
        nodes: names of the graph's nodes in order, for messages; before 10.0 the parser reports their numbers only.
        precision: `fp32`, `fp16`, `fp8` or `int8`; before 10.0 it is not taken from the graph.
        golden: heights and widths of the golden pictures, which the engine must take for its proof.
        progress: called with the share that is done, 0 to 1; not before 10.0.
        timings: kernel timings of earlier builds on this machine, updated by this one.

    Raises EngineError with the errors of the parser or the builder; RequestError for options that this version or this
    model does not support.
    """
    lib = library.trt
    library.log.take_errors()
    library.log.layers = ""
    builder: trt.Builder = lib.Builder(library.log)
    network = _parse_network(library, builder, file, nodes)
    config = _configure(library, builder, network, precision, options, golden)
    _report_progress(library, config, progress)
    if timings is not None:
        timings.give_to(config)
    host: trt.IHostMemory | None = builder.build_serialized_network(network, config)
    if host is None:
        raise EngineError(f"{library} built no engine: {library.log.take_errors()}")
    if timings is not None:
        timings.take_from(config)
    return bytes(host)


def _parse_network(library: Library, builder: trt.Builder, file: Path, nodes: list[str]) -> trt.INetworkDefinition:
    """Parse an ONNX file. From 10.0 on the network is strongly typed: it computes in the types of the graph."""
    lib = library.trt
    flags = 0
    if library.api < (10, 0):
        lib.init_libnvinfer_plugins(library.log, "")
        flags |= 1 << int(lib.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    else:
        flags |= 1 << int(lib.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network: trt.INetworkDefinition = builder.create_network(flags)
    parser: trt.OnnxParser = lib.OnnxParser(network, library.log)
    if not parser.parse_from_file(str(file)):
        errors = [_describe_error(library, parser.get_error(i), nodes) for i in range(parser.num_errors)]
        raise EngineError(f"{library} cannot parse the graph: {'; '.join(errors) or library.log.take_errors()}")
    return network


def _describe_error(library: Library, error: trt.ParserError, nodes: list[str]) -> str:
    if library.api >= (10, 0):
        return f"at {error.node_operator()} {error.node_name()!r}: {error.desc()}"
    number = error.node()
    return f"at {nodes[number]!r}: {error.desc()}" if 0 <= number < len(nodes) else error.desc()


def _configure(
    library: Library,
    builder: trt.Builder,
    network: trt.INetworkDefinition,
    precision: str,
    options: ProfileOptions,
    golden: Sequence[Size],
) -> trt.IBuilderConfig:
    lib = library.trt
    config: trt.IBuilderConfig = builder.create_builder_config()
    config.profiling_verbosity = lib.ProfilingVerbosity.DETAILED  # else no precisions are reported
    config.max_aux_streams = 0  # so that capturing one stream captures all work
    config.clear_flag(lib.BuilderFlag.TF32)  # so that float32 is float32
    # Not cuDNN and cuBLAS: some machines lack them, and compatible engines may not use them.
    sources = (lib.TacticSource.EDGE_MASK_CONVOLUTIONS, lib.TacticSource.JIT_CONVOLUTIONS)
    if not config.set_tactic_sources(sum(1 << int(source) for source in sources)):
        raise EngineError(f"{library} rejects its sources of kernels: {library.log.take_errors()}")
    if isinstance(options, RtxEngineOptions):
        _set_targets(library, config, options.targets)
    elif isinstance(options, EngineOptions):
        config.builder_optimization_level = options.optimization_level
        if options.workspace_mib:
            config.set_memory_pool_limit(lib.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
        _set_compatibility(library, config, options)
    if library.api < (10, 0):  # several contexts may use one profile, as in later versions
        config.set_preview_feature(lib.PreviewFeature.PROFILE_SHARING_0806, True)
    _allow_precision(library, config, network, precision)
    sizes = options.batches
    ranged = isinstance(options, EngineOptions) and options.ranged
    for batch in [(sizes[0], sizes[-1])] if ranged else [(size, size) for size in sizes]:
        _add_profile(library, builder, network, config, batch, options.size, golden)
    return config


def _set_targets(library: Library, config: trt.IBuilderConfig, targets: Sequence[str]) -> None:
    """Name the GPUs that a plan of TensorRT for RTX is for."""
    lib = library.trt
    if library.is_rtx:
        config.set_flag(lib.BuilderFlag.REQUIRE_USER_ALLOCATION)  # else work with scratch memory cannot be captured
        if engine_cache.ANY_TARGET in targets:
            return
        # Without the count, `set_compute_capability` returns False, and the plan is for the GPU of this machine alone.
        config.num_compute_capabilities = len(targets)
        for place, target in enumerate(targets):
            if not config.set_compute_capability(getattr(lib.ComputeCapability, target.upper()), place):
                raise EngineError(f"{library} rejects the target {target}: {library.log.take_errors()}")


def _set_compatibility(library: Library, config: trt.IBuilderConfig, options: EngineOptions) -> None:
    lib = library.trt
    if options.version_compatible:
        config.set_flag(lib.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible == "ampere-plus":
        config.hardware_compatibility_level = lib.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.hardware_compatible == "same-capability":
        if library.api < (10, 10):
            raise RequestError(f"{library} builds no same-capability engines; they need 10.10")
        config.hardware_compatibility_level = lib.HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY
    if options.refittable:
        if library.api < (10, 0):
            raise RequestError(f"{library} cannot refit from an ONNX file; that needs 10.0")
        config.set_flag(lib.BuilderFlag.REFIT)
        if options.stripped:
            config.set_flag(lib.BuilderFlag.STRIP_PLAN)


def _allow_precision(
    library: Library, config: trt.IBuilderConfig, network: trt.INetworkDefinition, precision: str
) -> None:
    """Allow reduced precision before 10.0, where it is not taken from the graph, and pin layers that are float32 in the
    graph (norms, above all) to float32."""
    lib = library.trt
    if library.api >= (10, 0):
        return
    if precision == "int8":
        config.set_flag(lib.BuilderFlag.INT8)
    if precision != "fp16":
        return
    config.set_flag(lib.BuilderFlag.FP16)
    config.set_flag(lib.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    move_only = {getattr(lib.LayerType, name) for name in _MOVE_ONLY}
    for i in range(network.num_layers):
        layer: trt.ILayer = network.get_layer(i)
        outputs: list[trt.ITensor] = [layer.get_output(j) for j in range(layer.num_outputs)]
        if layer.type in move_only or any(tensor.dtype != lib.DataType.FLOAT for tensor in outputs):
            continue
        layer.precision = lib.DataType.FLOAT
        for j in range(layer.num_outputs):
            layer.set_output_type(j, lib.DataType.FLOAT)


def _add_profile(
    library: Library,
    builder: trt.Builder,
    network: trt.INetworkDefinition,
    config: trt.IBuilderConfig,
    batch: tuple[int, int],
    size: Size | None,
    golden: Sequence[Size],
) -> None:
    """Add a profile for a range of batch sizes.

    Args:
        batch: the smallest and the largest.
        size: height and width of the largest pictures.
        golden: heights and widths of the golden pictures.
    """
    profile: trt.IOptimizationProfile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        tensor: trt.ITensor = network.get_input(i)
        sides = tuple(int(side) for side in tensor.shape)[1:]
        least = best = most = sides
        if -1 in sides:
            if size is None:
                raise RequestError(
                    f"{tensor.name} takes pictures of any size, and an engine is built for one: give it with --size"
                )
            best = (sides[0], *size)
            least, most = ((sides[0], *map(limit, zip(size, *golden, strict=True))) for limit in (min, max))
        profile.set_shape(tensor.name, (batch[0], *least), (batch[1], *best), (batch[1], *most))
    if config.add_optimization_profile(profile) < 0:
        raise EngineError(f"{library} rejects batches of {batch[0]} to {batch[1]}: {library.log.take_errors()}")


def _report_progress(library: Library, config: trt.IBuilderConfig, progress: Callable[[float], None]) -> None:
    """Have `progress` called with the share of a build that is done; before 10.0 it is not reported."""
    lib = library.trt
    if library.api >= (10, 0):

        class Monitor(_PhaseSum, lib.IProgressMonitor):  # type: ignore[misc, name-defined]
            pass

        config.progress_monitor = Monitor(progress)


class _PhaseSum:
    """Adds up the phases of a build, which are nested. The library calls it from several threads, and no exception may
    leave it."""

    def __init__(self, progress: Callable[[float], None]) -> None:
        super().__init__()  # the library's, which a subclass has too
        self._progress = progress
        self._phases: dict[str, list[Any]] = {}

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        self._phases[phase_name] = [parent_phase, max(num_steps, 1), 0]

    def step_complete(self, phase_name: str, step: int) -> bool:
        if phase_name in self._phases:
            self._phases[phase_name][2] = step + 1
            roots = [name for name, (parent, *_) in self._phases.items() if parent not in self._phases]
            self._progress(min(sum(map(self._compute_share, roots)) / max(len(roots), 1), 1.0))
        return True

    def phase_finish(self, phase_name: str) -> None:
        self._phases.pop(phase_name, None)

    def _compute_share(self, phase: str) -> float:
        _, steps, done = self._phases[phase]
        inner = [self._compute_share(name) for name, (parent, *_) in list(self._phases.items()) if parent == phase]
        return float(min(done + sum(inner), steps) / steps)


class TimingCache:
    """Kernel timings of earlier builds on this machine, in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def give_to(self, config: trt.IBuilderConfig) -> None:
        """Use the timings in a build, unless TensorRT rejects them."""
        known = self._file.read_bytes() if self._file.is_file() else b""
        if not config.set_timing_cache(config.create_timing_cache(known), False):
            config.set_timing_cache(config.create_timing_cache(b""), False)

    def take_from(self, config: trt.IBuilderConfig) -> None:
        """Keep the timings of a build for later ones."""
        cache: trt.ITimingCache = config.get_timing_cache()
        atomic.write_file(self._file, bytes(cache.serialize()))


@redirect_to_stderr()
def refit_engine(library: Library, plan: bytes, file: Path, portable: bool) -> bytes:
    """Return a plan with the weights of another ONNX file of the same architecture. Raises EngineError, and
    MachineError before 10.0."""
    lib = library.trt
    if library.api < (10, 0):
        raise MachineError(f"{library} cannot refit from an ONNX file; that needs 10.0")
    loaded = load_engine(library, plan, portable)
    engine: trt.ICudaEngine = loaded.engine
    refitter: trt.Refitter = lib.Refitter(engine, library.log)
    weights: trt.OnnxParserRefitter = lib.OnnxParserRefitter(refitter, library.log)
    if not weights.refit_from_file(str(file)):
        errors = [_describe_error(library, weights.get_error(i), []) for i in range(weights.num_errors)]
        raise EngineError(f"the engine does not take these weights: {'; '.join(errors) or library.log.take_errors()}")
    missing = refitter.get_missing_weights()
    if missing or not refitter.refit_cuda_engine():
        raise EngineError(
            f"the engine was not refitted, {', '.join(missing[:5]) or 'no'} weights missing: "
            f"{library.log.take_errors()}"
        )
    settings: trt.ISerializationConfig = engine.create_serialization_config()
    settings.clear_flag(lib.SerializationFlag.EXCLUDE_WEIGHTS)
    host: trt.IHostMemory | None = engine.serialize_with_config(settings)
    if host is None:
        raise EngineError(f"the refitted engine cannot be serialized: {library.log.take_errors()}")
    return bytes(host)
