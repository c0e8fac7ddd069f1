"""TensorRT's builder, version by version: parsing, configuring, refitting. Branches on VERSION follow the facts of each
version, which tests/test_api_contract.py checks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ganrt.errors import EngineError, MachineError, RequestError
from ganrt.gpu import LOG, VERSION, load_engine, trt

from .options import EngineOptions

_NOT_PINNED = ("CONSTANT", "SHAPE", "CAST", "IDENTITY", "SHUFFLE", "CONCATENATION", "SLICE", "GATHER")
"""Layer types of 8.6 that move values and compute none."""


def parse_network(builder: trt.Builder, file: Path, nodes: list[str]) -> trt.INetworkDefinition:
    """An ONNX file as a network: strongly typed from 10.0 on, where the types of the graph are what is computed in.

    Args:
        nodes: names of the graph's nodes in order; before 10.0 the parser tells numbers only.

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
        raise EngineError(f"TensorRT {trt.__version__} cannot parse the graph: {'; '.join(errors) or LOG.errors()}")
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
    golden: tuple[int, int],
) -> trt.IBuilderConfig:
    """What is asked of the builder.

    Args:
        golden: size of the pictures that an engine is proven with, which it must take beside those of its own size.

    Raises RequestError for options that this version or this model does not have.
    """
    made: trt.IBuilderConfig = builder.create_builder_config()
    made.builder_optimization_level = options.level
    made.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else the inspector tells no precisions
    made.max_aux_streams = 0  # one stream is captured as a graph without more ado
    made.clear_flag(trt.BuilderFlag.TF32)  # float32 is to be float32
    # cuDNN and cuBLAS are left out: they are not there on every machine, and compatible engines may not use them.
    sources = (trt.TacticSource.EDGE_MASK_CONVOLUTIONS, trt.TacticSource.JIT_CONVOLUTIONS)
    made.set_tactic_sources(sum(1 << int(source) for source in sources))
    if options.workspace_mib:
        made.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if VERSION < (10, 0):  # as ever after: several contexts may use one profile
        made.set_preview_feature(trt.PreviewFeature.PROFILE_SHARING_0806, True)
    _compatibility(made, options)
    _precision(made, network, precision)
    for least, most in [(options.batches[0], options.batches[-1])] if options.ranged else _each(options):
        _add_profile(builder, network, made, (least, most), (options.size, golden))
    return made


def _each(options: EngineOptions) -> list[tuple[int, int]]:
    return [(size, size) for size in options.batches]


def _compatibility(made: trt.IBuilderConfig, options: EngineOptions) -> None:
    if options.version_compatible:
        made.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible == "ampere-plus":
        made.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.hardware_compatible == "same-capability":
        if VERSION < (10, 10):
            raise RequestError(f"TensorRT {trt.__version__} has no same-capability engines; 10.10 has them first")
        made.hardware_compatibility_level = trt.HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY
    if options.refittable:
        if VERSION < (10, 0):
            raise RequestError(f"TensorRT {trt.__version__} cannot refit from an ONNX file; 10.0 can first")
        made.set_flag(trt.BuilderFlag.REFIT)
        if options.stripped:
            made.set_flag(trt.BuilderFlag.STRIP_PLAN)


def _precision(made: trt.IBuilderConfig, network: trt.INetworkDefinition, precision: str) -> None:
    """Before 10.0 types of the graph are wishes only: reduced precision is allowed as a whole, and every layer that
    computes float32 in the graph (norms, above all) is pinned to it."""
    if VERSION >= (10, 0):
        return
    if precision == "int8":
        made.set_flag(trt.BuilderFlag.INT8)
    if precision != "fp16":
        return
    made.set_flag(trt.BuilderFlag.FP16)
    made.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    moving = {getattr(trt.LayerType, name) for name in _NOT_PINNED}
    for i in range(network.num_layers):
        layer: trt.ILayer = network.get_layer(i)
        outputs: list[trt.ITensor] = [layer.get_output(j) for j in range(layer.num_outputs)]
        if layer.type in moving or any(tensor.dtype != trt.DataType.FLOAT for tensor in outputs):
            continue
        layer.precision = trt.DataType.FLOAT
        for j in range(layer.num_outputs):
            layer.set_output_type(j, trt.DataType.FLOAT)


def _add_profile(
    builder: trt.Builder,
    network: trt.INetworkDefinition,
    made: trt.IBuilderConfig,
    batch: tuple[int, int],
    pictures: tuple[tuple[int, int] | None, tuple[int, int]],
) -> None:
    profile: trt.IOptimizationProfile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        tensor: trt.ITensor = network.get_input(i)
        sides = tuple(int(side) for side in tensor.shape)[1:]
        least = best = most = sides
        if -1 in sides:
            size, golden = pictures
            if size is None:
                raise RequestError(
                    f"{tensor.name} takes pictures of any size, and an engine is built for one: name it with --size"
                )
            best = (sides[0], *size)
            least, most = ((sides[0], *map(limit, size, golden)) for limit in (min, max))
        profile.set_shape(tensor.name, (batch[0], *least), (batch[1], *best), (batch[1], *most))
    if made.add_optimization_profile(profile) < 0:
        raise EngineError(f"TensorRT refuses batches of {batch[0]} to {batch[1]}: {LOG.errors()}")


if VERSION >= (10, 0):

    class _Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Adds up the phases of a build, which are nested. TensorRT calls from several threads and must never be
        answered with an exception."""

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
                self._progress(min(sum(map(self._share, roots)) / max(len(roots), 1), 1.0))
            return True

        def phase_finish(self, phase_name: str) -> None:
            self._phases.pop(phase_name, None)

        def _share(self, phase: str) -> float:
            _, steps, done = self._phases[phase]
            inner = [self._share(name) for name, (parent, *_) in list(self._phases.items()) if parent == phase]
            return float(min(done + sum(inner), steps) / steps)


def report_progress(made: trt.IBuilderConfig, progress: Callable[[float], None]) -> None:
    """Have the share of a build that is done told; before 10.0 nothing is."""
    if VERSION >= (10, 0):
        made.progress_monitor = _Monitor(progress)


def set_timing_cache(made: trt.IBuilderConfig, known: bytes) -> None:
    """Begin with what earlier builds on this machine have measured. A cache that TensorRT refuses is not used."""
    if not made.set_timing_cache(made.create_timing_cache(known), False):
        made.set_timing_cache(made.create_timing_cache(b""), False)


def timing_cache(made: trt.IBuilderConfig) -> bytes:
    """What was measured, for later builds."""
    cache: trt.ITimingCache = made.get_timing_cache()
    return bytes(cache.serialize())


def refit_engine(plan: bytes, file: Path, portable: bool) -> bytes:
    """A plan with the weights of another ONNX file of the same architecture. Raises EngineError."""
    if VERSION < (10, 0):
        raise MachineError(f"TensorRT {trt.__version__} cannot refit from an ONNX file; 10.0 can first")
    loaded = load_engine(plan, portable)
    engine: trt.ICudaEngine = loaded.engine
    refitter: trt.Refitter = trt.Refitter(engine, LOG)
    weights: trt.OnnxParserRefitter = trt.OnnxParserRefitter(refitter, LOG)
    if not weights.refit_from_file(str(file)):
        errors = [_describe_error(weights.get_error(i), []) for i in range(weights.num_errors)]
        raise EngineError(f"the engine does not take these weights: {'; '.join(errors) or LOG.errors()}")
    missing = refitter.get_missing_weights()
    if missing or not refitter.refit_cuda_engine():
        raise EngineError(
            f"the engine was not refitted, {', '.join(missing[:5]) or 'no'} weights missing: {LOG.errors()}"
        )
    settings: trt.ISerializationConfig = engine.create_serialization_config()
    settings.clear_flag(trt.SerializationFlag.EXCLUDE_WEIGHTS)
    host: trt.IHostMemory | None = engine.serialize_with_config(settings)
    if host is None:
        raise EngineError(f"the refitted engine cannot be serialised: {LOG.errors()}")
    return bytes(host)
