"""Builds engines of TensorRT for RTX ahead of time: on any machine, with or without a GPU, and without torch."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ganrt import gpu
from ganrt.bundle import Bundle
from ganrt.errors import EngineError, MachineError, MissingLibraryError, RequestError
from ganrt.golden import proof_picture_size
from ganrt.gpu import Library, engine_cache, load_tensorrt_rtx
from ganrt.machine import has_nvidia_gpu, parse_device

from .compiler import CompiledPlan, Compiler
from .engine_graph import format_batches, list_golden_sizes, make_engine_graph, name_options, save_engine_graph
from .inspection import count_precision_shares, require_precision
from .layers import parse_layers
from .options import FP8_TARGETS, TARGETS, USUAL_TARGETS, RtxEngineOptions, limit_batches
from .turing import replace_gemms

PRECISIONS = ("fp32", "fp16", "int8", "fp8")
"""Precisions of the variants that TensorRT for RTX compiles."""
_NO_FLOAT32_PRODUCT = "FP32 GEMM is not supported"
"""In the error of the compiler for Turing."""
_TRIED_BATCHES = (1, 8)


def require_library() -> Library:
    """Return TensorRT for RTX. Raises MissingLibraryError, which names the extra, and MachineError if the library is
    broken."""
    try:
        return load_tensorrt_rtx()
    except ModuleNotFoundError as error:
        raise MissingLibraryError("tensorrt_rtx", "tensorrt-rtx", "compiling for RTX GPUs") from error
    except (ImportError, OSError) as error:
        raise MachineError(f"TensorRT for RTX is installed but broken ({error}): install it again") from error


def compile_variant(
    compiler: Compiler,
    bundle: Bundle,
    variant: str,
    options: RtxEngineOptions,
    progress: Callable[[float], None] = lambda _: None,
) -> CompiledPlan:
    """Compile a variant with its post-processing head.

    Raises RequestError for a variant or options that do not fit, EngineError with the errors of the parser or the
    compiler, MachineError if TensorRT for RTX cannot be imported.
    """
    options = limit_batches(options, bundle.spec)
    precision = bundle.variant(variant).precision
    if precision not in PRECISIONS:
        raise RequestError(f"{variant} is {precision}; engines are built of {', '.join(PRECISIONS)}")
    older = [target for target in options.targets if precision == "fp8" and target not in FP8_TARGETS]
    if older:
        raise RequestError(f"{', '.join(older)} does not compute in fp8; name some of {', '.join(FP8_TARGETS)}")
    if precision == "int8" and "sm75" in options.targets:
        raise RequestError(
            "with sm75 among its targets, an engine of TensorRT for RTX computes int8 in float, on all of them: leave "
            "sm75 out, or use fp16 for it"
        )
    graph = make_engine_graph(bundle, variant)
    if "sm75" in options.targets:
        graph = replace_gemms(graph)
    with tempfile.TemporaryDirectory() as folder:
        file = save_engine_graph(graph, Path(folder))
        try:
            return compiler.compile(file, options, list_golden_sizes(bundle), progress)
        except EngineError as error:
            if _NO_FLOAT32_PRODUCT not in str(error):
                raise
            raise EngineError(f"{error}. Turing has no float32 matrix product: use fp16 for sm75") from error


@dataclass(frozen=True)
class CompilationTrial:
    """Whether NVIDIA's compiler takes a variant."""

    compiler: str
    """Name and version of its library."""
    targets: tuple[str, ...]
    """GPUs that it compiles the variant for."""
    reasons: Mapping[str, str]
    """Target that it rejects -> why."""


def has_compiler() -> bool:
    """Return whether TensorRT for RTX is installed."""
    return any(importlib.util.find_spec(name) is not None for name in ("tensorrt_rtx", "tensorrt_rtx_bindings"))


def try_compilation(compiler: Compiler, bundle: Bundle, variant: str) -> CompilationTrial:
    """Compile a variant for the usual RTX GPUs, for batches of 1 and 8; if that fails, for each of them alone. Raises
    what `compile_variant` raises, except for EngineError."""
    usual: tuple[str, ...] = USUAL_TARGETS
    if bundle.variant(variant).precision == "fp8":
        usual = tuple(target for target in usual if target in FP8_TARGETS)
    library = str(require_library())
    reasons: dict[str, str] = {}
    together = ""
    for targets in (usual, *((target,) for target in usual)):
        options = RtxEngineOptions(_TRIED_BATCHES, proof_picture_size(bundle.spec), targets)
        try:
            compile_variant(compiler, bundle, variant, options)
        except EngineError as error:
            together = together or str(error)
            reasons |= {target: str(error) for target in targets}
        else:
            if targets == usual:
                return CompilationTrial(library, usual, {})
            del reasons[targets[0]]
    accepted = tuple(target for target in usual if target not in reasons)
    return CompilationTrial(library, accepted, reasons or {"all of them together": together})


def choose_targets(device: str) -> tuple[str, ...]:
    """Return the target of this machine's GPU, if there is one that TensorRT for RTX names; else the usual ones.

    Args:
        device: `auto`, `cuda` or `cuda:N`.
    """
    if has_nvidia_gpu():
        try:
            card = gpu.Gpu(parse_device(device)[1])
        except ModuleNotFoundError as error:
            raise MissingLibraryError(error.name or "cuda.core", "tensorrt-rtx", "compiling for this GPU") from error
        target = engine_cache.format_target(card.capability)
        if target in TARGETS:
            return (target,)
    return USUAL_TARGETS


def build_ahead(
    bundle: Bundle,
    variant: str,
    options: RtxEngineOptions,
    rebuild: bool,
    progress: Callable[[float, str], None],
) -> engine_cache.Engine:
    """`cached_build.build` for TensorRT for RTX. What it computes in is what its compiler reports; the images are
    compared with the original's when it is first loaded on a GPU."""
    options = limit_batches(options, bundle.spec)
    precision = bundle.variant(variant).precision
    machine = engine_cache.Machine("", "", "", require_library().version, "tensorrt-rtx")
    key = engine_cache.Key(bundle.digest(variant), name_options(options, precision), machine)
    batches = format_batches(options)
    with engine_cache.lock(key):
        found = None if rebuild else engine_cache.find_exact(key)
        if found is not None:
            progress(1.0, f"the engine of {variant} for batches of {batches} is there already")
            return engine_cache.make_newest(found)
        text = f"compiling {variant} for batches of {batches} on {', '.join(options.targets)}"
        with Compiler() as compiler:
            compiled = compile_variant(compiler, bundle, variant, options, lambda share: progress(share, text))
        launches = [launch for profile in parse_layers(compiled.layers) for launch in profile]
        shares = count_precision_shares(launches)
        require_precision(precision, shares, strongly_typed=True)
        return engine_cache.store(key, compiled.plan, {"computed in": shares})
