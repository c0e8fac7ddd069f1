"""Builds engines of TensorRT for RTX ahead of time: on any machine, with or without a GPU, and without torch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from ganrt.backend import library_version
from ganrt.bundle import Bundle
from ganrt.errors import RequestError
from ganrt.gpu import engine_cache

from .compiler import CompiledPlan, Compiler
from .engine_graph import format_batches, list_golden_sizes, make_engine_graph, name_options, save_engine_graph
from .inspection import count_precision_shares, require_precision
from .layers import parse_layers
from .options import RtxEngineOptions

PRECISIONS = ("fp32", "fp16", "int8", "fp8")
"""Precisions of the variants that TensorRT for RTX compiles."""
LIBRARY = "tensorrt-rtx-cu13-bindings"
"""The distribution whose version a plan is valid for."""


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
    precision = bundle.variant(variant).precision
    if precision not in PRECISIONS:
        raise RequestError(f"{variant} is {precision}; engines are built of {', '.join(PRECISIONS)}")
    with tempfile.TemporaryDirectory() as folder:
        file = save_engine_graph(make_engine_graph(bundle, variant), Path(folder))
        return compiler.compile(file, options, list_golden_sizes(bundle), progress)


def build_ahead(
    bundle: Bundle,
    variant: str,
    options: RtxEngineOptions,
    rebuild: bool,
    progress: Callable[[float, str], None],
) -> engine_cache.Engine:
    """`cached_build.build` for TensorRT for RTX. What it computes in is what its compiler reports; the images are
    compared with the original's when it is first loaded on a GPU."""
    precision = bundle.variant(variant).precision
    machine = engine_cache.Machine("", "", "", library_version(LIBRARY), "tensorrt-rtx")
    key = engine_cache.Key(bundle.digest(variant), name_options(options, precision), machine)
    batches = format_batches(options)
    with engine_cache.lock(key):
        found = None if rebuild else engine_cache.find_exact(key)
        if found is not None:
            progress(1.0, f"the engine of {variant} for batches of {batches} is there already")
            return found
        text = f"compiling {variant} for batches of {batches} on {', '.join(options.targets)}"
        with Compiler() as compiler:
            compiled = compile_variant(compiler, bundle, variant, options, lambda share: progress(share, text))
        launches = [launch for profile in parse_layers(compiled.layers) for launch in profile]
        shares = count_precision_shares(launches)
        require_precision(precision, shares, strongly_typed=True)
        return engine_cache.store(key, compiled.plan, {"computed in": shares})
