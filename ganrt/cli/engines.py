"""Engines for NVIDIA GPUs on the command line: their options, and engines that a command needs and builds itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ganrt
from ganrt import tuned
from ganrt.backend import import_backend, supports_variant
from ganrt.bundle import Bundle
from ganrt.choosing import LoadRequest, backends_to_try
from ganrt.cli.options import import_extra
from ganrt.cli.terminal import log, show_progress
from ganrt.errors import GanrtError, MachineError, NoEngineError
from ganrt.generator import Generator
from ganrt.golden import proof_picture_size
from ganrt.gpu import list_engine_variants
from ganrt.machine import has_nvidia_gpu


def choose_variant(bundle: Bundle, precision: str, backend: str) -> str:
    """Return the variant of a precision to build an engine of: the one that `ganrt tune` found fastest on this machine,
    else the first by the rule of `Bundle.in_precision`. Raises RequestError if there is none."""
    record = tuned.find_record(bundle)
    picked = record and record.pick(None, LoadRequest(backend, precision=precision).allows)
    return picked[0].config.variant if picked else list_engine_variants(bundle, precision, backend)[0]


def make_engine_options(backend: str, device: str, targets: tuple[str, ...] | None = None, **wanted: Any) -> Any:
    """Return the options of an engine of a backend.

    Args:
        targets: GPUs to compile for; default: the one of this machine if TensorRT for RTX names it, else the usual.
        wanted: options of both libraries, by the names of `EngineOptions`.
    """
    import_extra("onnx_ir", backend, "building engines")
    engines = import_extra("ganrt.export.engines", backend, "building engines")
    if backend == "tensorrt":
        return engines.EngineOptions(**wanted)
    own = {name: wanted[name] for name in ("batches", "size") if name in wanted}
    return engines.RtxEngineOptions(targets=engines.choose_targets(device) if targets is None else targets, **own)


def compile_rtx_engines(
    bundle: Path | str, device: str, backends: Sequence[str], batches: Sequence[int], size: tuple[int, int] | None
) -> None:
    """On a machine with a GPU and TensorRT for RTX, compile an engine of each variant that has none yet: seconds each.
    A variant that it rejects is reported and left out.

    Args:
        backends: those that were named; none: all that run on the device.
        batches: batch sizes; none: those of `RtxEngineOptions`.
        size: height and width of pictures; None: those of a proof.
    """
    if not has_nvidia_gpu() or "tensorrt-rtx" not in (backends or backends_to_try(device)):
        return
    read = ganrt.Bundle.read(bundle)
    free = any(item.size is None for item in read.spec.images)
    wanted: dict[str, Any] = {"batches": tuple(sorted(set(batches)))} if batches else {}
    wanted["size"] = (size or proof_picture_size(read.spec)) if free else None
    try:
        import_backend("tensorrt-rtx")
        engines = import_extra("ganrt.export.engines", "tensorrt-rtx", "building engines")
        options = make_engine_options("tensorrt-rtx", device, **wanted)
    except MachineError as error:
        if backends:
            raise
        log(f"tensorrt-rtx is left out: {error}")
        return
    for name in read.variants:
        if supports_variant("tensorrt-rtx", read, name):
            try:
                engines.build(read, variant=name, options=options)
            except GanrtError as error:
                log(f"{name} is not compiled for this GPU: {error}")


def load_generator(bundle: Path | str, **loading: Any) -> Generator:
    """`ganrt.load` without the arguments that are None; if TensorRT or TensorRT for RTX is named and has no engine that
    fits, build one first."""
    loading = {name: value for name, value in loading.items() if value is not None}
    backend = loading["backend"]
    try:
        return ganrt.load(bundle, **loading)
    except NoEngineError as error:
        if backend not in ("tensorrt", "tensorrt-rtx"):
            raise
        log(str(error))
    engines = import_extra("ganrt.export.engines", backend, "building engines")
    read = ganrt.Bundle.read(bundle)
    precision = "fp32" if loading["precision"] == "auto" else loading["precision"]
    variant = loading.get("variant") or choose_variant(read, precision, backend)
    with show_progress(f"building {variant}") as progress:
        options = make_engine_options(backend, loading["device"])
        engines.build(read, variant=variant, options=options, device=loading["device"], progress=progress)
    return ganrt.load(bundle, **{**loading, "variant": variant})
