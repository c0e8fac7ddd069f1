"""Step 3 on a GPU machine: ONNX Runtime's CUDA provider, with PyTorch as the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from ganrt.errors import MachineError
from ganrt.telemetry import no_telemetry

from .bundles import SPEED
from .rates import measure_rates
from .runner import Check, Setting
from .session_checks import (
    BATCHES,
    ROUNDS,
    check_contract,
    check_graphs,
    draw_inputs,
    format_rate,
    measure_variant,
    prove_variant,
    read_bundle,
    run_each,
    share_pictures,
)

BACKEND = "onnxruntime"
_OPTIONS: tuple[Mapping[str, Any], ...] = ({}, {"graph": False}, {"prefer_nhwc": True}, {"search": "EXHAUSTIVE"})
"""Of the CUDA provider."""


def report_provider(setting: Setting) -> str:
    """ONNX Runtime has its CUDA provider."""
    load_cuda_libraries(setting)
    with no_telemetry():
        import onnxruntime

    providers = onnxruntime.get_available_providers()
    setting.require_gpu(f"ONNX Runtime {onnxruntime.__version__} with {', '.join(providers)}")
    if "CUDAExecutionProvider" not in providers:
        raise MachineError(f"ONNX Runtime has only {', '.join(providers)}: install onnxruntime-gpu")
    return f"ONNX Runtime {onnxruntime.__version__} with {', '.join(providers)}"


def load_cuda_libraries(setting: Setting) -> None:
    """Import torch on a GPU machine: with it come the CUDA libraries that the provider needs. ONNX Runtime finds them
    itself only where it is installed beside them, not in a folder of `PYTHONPATH`."""
    if not setting.rehearsal:
        import torch  # noqa: F401


def keep_contract(setting: Setting, name: str, options: Mapping[str, Any]) -> str:
    """The provider keeps the contract of a session; in a rehearsal, the CPU provider without options does."""
    load_cuda_libraries(setting)
    text = check_contract(setting, BACKEND, name, "fp32", **({} if setting.rehearsal else options))
    setting.require_gpu(f"{text} on the CPU")
    return text


def prove_variants(setting: Setting, name: str) -> str:
    """Every variant in float, and every one that is made for GPUs, makes the images of the original."""
    load_cuda_libraries(setting)
    found = read_bundle(setting, name).variants
    variants = [key for key, variant in found.items() if variant.precision in ("fp32", "fp16") or variant.for_gpu]
    text = run_each(partial(prove_variant, setting, BACKEND, name), variants)
    setting.require_gpu(f"{text} on the CPU")
    return text


def capture_graphs(setting: Setting) -> str:
    """The later runs of a batch size, which replay a CUDA graph, make the same images."""
    load_cuda_libraries(setting)
    text = check_graphs(setting, BACKEND, "fp32")
    setting.require_gpu(f"{text} on the CPU")
    return text


def share_with_torch(setting: Setting) -> str:
    """Pictures and latents are shared with torch."""
    load_cuda_libraries(setting)
    return share_pictures(setting, BACKEND, "fp32")


def measure_provider(setting: Setting, precision: str, options: Mapping[str, Any]) -> str:
    """Images per second with some options; of the graph as traced, which is what PyTorch runs too."""
    load_cuda_libraries(setting)
    bundle = read_bundle(setting)
    variant = "fp32" if precision == "fp32" else bundle.in_precision(precision, gpu=True)[0]
    text = measure_variant(setting, BACKEND, variant, **({} if setting.rehearsal else options))
    setting.require_gpu(f"{text} on the CPU")
    return text


def measure_torch(setting: Setting, compiled: bool) -> str:
    """Images per second of PyTorch: eager in float32, or compiled in float16 with CUDA graphs."""
    from . import torch_baseline

    bundle, make = read_bundle(setting), torch_baseline.make_compiled if compiled else torch_baseline.make_eager
    module = torch_baseline.load_original(bundle, setting.device)
    setting.require_gpu("the original is loaded")
    rates = {batch: measure_rates(make(module, draw_inputs(bundle, batch)), *ROUNDS) for batch in BATCHES}
    return "; ".join(f"batch {batch}: {format_rate(found)}" for batch, found in rates.items())


def _name_options(options: Mapping[str, Any]) -> str:
    return "".join(f", {name}={value}" for name, value in options.items())


CHECKS = (
    Check("the CUDA provider is there", report_provider),
    *(
        Check(f"the contract: {name}{_name_options(options)}", partial(keep_contract, name=name, options=options), 90)
        for name, options in (
            *((SPEED, options) for options in _OPTIONS[:3]),
            *((name, _OPTIONS[0]) for name in ("labels", "pictures")),
        )
    ),
    *(
        Check(f"prove all variants: {name}", partial(prove_variants, name=name), 90)
        for name in (SPEED, "labels", "pictures")
    ),
    Check("CUDA graphs", capture_graphs),
    Check("DLPack with torch", share_with_torch),
    *(
        Check(
            f"throughput: {precision}{_name_options(options)}",
            partial(measure_provider, precision=precision, options=options),
        )
        for precision in ("fp32", "fp16")
        for options in _OPTIONS
    ),
    Check("throughput: torch eager fp32", partial(measure_torch, compiled=False)),
    Check("throughput: torch compiled fp16", partial(measure_torch, compiled=True), 150),
)
