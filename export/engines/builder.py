"""TensorRT's builder in every supported version: parsing, configuring, refitting. tests/gpu/test_api_contract.py checks
the branches on VERSION against the API of each version."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ganrt.errors import EngineError, MachineError, RequestError
from ganrt.feeds import Size
from ganrt.gpu import LOG, VERSION, load_engine, trt

from .options import EngineOptions

_MOVE_ONLY = ("CONSTANT", "SHAPE", "CAST", "IDENTITY", "SHUFFLE", "CONCATENATION", "SLICE", "GATHER")
"""Layer types of 8.6 that move values without computing."""


def parse_network(builder: trt.Builder, file: Path, nodes: list[str]) -> trt.INetworkDefinition:
    """Parse an ONNX file. From 10.0 on the network is strongly typed: it computes in the types of the graph.

    Args:
        nodes: names of the graph's nodes in order, for messages; before 10.0 the parser reports their numbers only.

    Raises EngineError with the parser's errors.
    """
    flags = 0
    if VERSION < (10, 0):
        trt.init_libnvinfer_plugins(LOG, "")
        flags |= 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    else:
        flags |= 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network: trt.INetworkDefinition = builder.create_network(flags)
    parser: trt.OnnxParser = trt.OnnxParser(network, LOG)
    if not parser.parse_from_file(str(file)):
        errors = [_describe_error(parser.get_error(i), nodes) for i in range(parser.num_errors)]
        raise EngineError(
            f"TensorRT {trt.__version__} cannot parse the graph: {'; '.join(errors) or LOG.take_errors()}"
        )
    return network


def _describe_error(error: trt.ParserError, nodes: list[str]) -> str:
    if VERSION >= (10, 0):
        return f"at {error.node_operator()} {error.node_name()!r}: {error.desc()}"
    number = error.node()
    return f"at {nodes[number]!r}: {error.desc()}" if 0 <= number < len(nodes) else error.desc()


def configure(
    builder: trt.Builder,
    network: trt.INetworkDefinition,
    precision: str,
    options: EngineOptions,
    golden: Sequence[Size],
) -> trt.IBuilderConfig:
    """Return the builder's configuration.

    Args:
        golden: heights and widths of the golden pictures, which the engine must take for its proof.

    Raises RequestError for options that this version or this model does not support.
    """
    config: trt.IBuilderConfig = builder.create_builder_config()
    config.builder_optimization_level = options.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else the inspector reports no precisions
    config.max_aux_streams = 0  # so that capturing one stream captures all work
    config.clear_flag(trt.BuilderFlag.TF32)  # so that float32 is float32
    # Not cuDNN and cuBLAS: some machines lack them, and compatible engines may not use them.
    sources = (trt.TacticSource.EDGE_MASK_CONVOLUTIONS, trt.TacticSource.JIT_CONVOLUTIONS)
    config.set_tactic_sources(sum(1 << int(source) for source in sources))
    if options.workspace_mib:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if VERSION < (10, 0):  # several contexts may use one profile, as in later versions
        config.set_preview_feature(trt.PreviewFeature.PROFILE_SHARING_0806, True)
    _set_compatibility(config, options)
    _allow_precision(config, network, precision)
    sizes = options.batches
    for batch in [(sizes[0], sizes[-1])] if options.ranged else [(size, size) for size in sizes]:
        _add_profile(builder, network, config, batch, options.size, golden)
    return config


def _set_compatibility(config: trt.IBuilderConfig, options: EngineOptions) -> None:
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible == "ampere-plus":
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.hardware_compatible == "same-capability":
        if VERSION < (10, 10):
            raise RequestError(f"TensorRT {trt.__version__} builds no same-capability engines; they need 10.10")
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY
    if options.refittable:
        if VERSION < (10, 0):
            raise RequestError(f"TensorRT {trt.__version__} cannot refit from an ONNX file; that needs 10.0")
        config.set_flag(trt.BuilderFlag.REFIT)
        if options.stripped:
            config.set_flag(trt.BuilderFlag.STRIP_PLAN)


def _allow_precision(config: trt.IBuilderConfig, network: trt.INetworkDefinition, precision: str) -> None:
    """Allow reduced precision before 10.0, where it is not taken from the graph, and pin layers that are float32 in the
    graph (norms, above all) to float32."""
    if VERSION >= (10, 0):
        return
    if precision == "int8":
        config.set_flag(trt.BuilderFlag.INT8)
    if precision != "fp16":
        return
    config.set_flag(trt.BuilderFlag.FP16)
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    move_only = {getattr(trt.LayerType, name) for name in _MOVE_ONLY}
    for i in range(network.num_layers):
        layer: trt.ILayer = network.get_layer(i)
        outputs: list[trt.ITensor] = [layer.get_output(j) for j in range(layer.num_outputs)]
        if layer.type in move_only or any(tensor.dtype != trt.DataType.FLOAT for tensor in outputs):
            continue
        layer.precision = trt.DataType.FLOAT
        for j in range(layer.num_outputs):
            layer.set_output_type(j, trt.DataType.FLOAT)


def _add_profile(
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
        raise EngineError(f"TensorRT rejects batches of {batch[0]} to {batch[1]}: {LOG.take_errors()}")


if VERSION >= (10, 0):

    class _Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Adds up the phases of a build, which are nested. TensorRT calls it from several threads, and no exception may
        leave it."""

        def __init__(self, progress: Callable[[float], None]) -> None:
            super().__init__()
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


def report_progress(config: trt.IBuilderConfig, progress: Callable[[float], None]) -> None:
    """Have `progress` called with the share of a build that is done; before 10.0 TensorRT does not report it."""
    if VERSION >= (10, 0):
        config.progress_monitor = _Monitor(progress)


def set_timing_cache(config: trt.IBuilderConfig, known: bytes) -> None:
    """Use the kernel timings of earlier builds on this machine, unless TensorRT rejects them."""
    if not config.set_timing_cache(config.create_timing_cache(known), False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def read_timing_cache(config: trt.IBuilderConfig) -> bytes:
    """Return the kernel timings of a build, for later builds."""
    cache: trt.ITimingCache = config.get_timing_cache()
    return bytes(cache.serialize())


def refit_engine(plan: bytes, file: Path, portable: bool) -> bytes:
    """Return a plan with the weights of another ONNX file of the same architecture. Raises EngineError, and
    MachineError before 10.0."""
    if VERSION < (10, 0):
        raise MachineError(f"TensorRT {trt.__version__} cannot refit from an ONNX file; that needs 10.0")
    loaded = load_engine(plan, portable)
    engine: trt.ICudaEngine = loaded.engine
    refitter: trt.Refitter = trt.Refitter(engine, LOG)
    weights: trt.OnnxParserRefitter = trt.OnnxParserRefitter(refitter, LOG)
    if not weights.refit_from_file(str(file)):
        errors = [_describe_error(weights.get_error(i), []) for i in range(weights.num_errors)]
        raise EngineError(f"the engine does not take these weights: {'; '.join(errors) or LOG.take_errors()}")
    missing = refitter.get_missing_weights()
    if missing or not refitter.refit_cuda_engine():
        raise EngineError(
            f"the engine was not refitted, {', '.join(missing[:5]) or 'no'} weights missing: {LOG.take_errors()}"
        )
    settings: trt.ISerializationConfig = engine.create_serialization_config()
    settings.clear_flag(trt.SerializationFlag.EXCLUDE_WEIGHTS)
    host: trt.IHostMemory | None = engine.serialize_with_config(settings)
    if host is None:
        raise EngineError(f"the refitted engine cannot be serialized: {LOG.take_errors()}")
    return bytes(host)
