"""Step 4 on a GPU machine: TensorRT, which builds on the GPU only. It needs no torch, so 8.6 may have a Python of its
own."""

from __future__ import annotations

from functools import partial

from ganrt.errors import BackendError, MachineError

from .bundles import SPEED, find_bundle
from .engine_checks import (
    build_variant,
    capture_graphs,
    choose_variants,
    inspect_engines,
    keep_contract,
    load_library,
    measure_engines,
    prove_engines,
    run_ganrt,
)
from .runner import Check, Setting
from .session_checks import read_bundle, run_each

BACKEND = "tensorrt"
_FAST = ("--optimization-level", "1")
_NO_REFIT = (10, 0)
"""Before this version of TensorRT, ganrt does not refit."""


def report_library(setting: Setting) -> str:
    """TensorRT is installed."""
    library = load_library(BACKEND)
    setting.require_gpu(str(library))
    return str(library)


def build_variants(setting: Setting, name: str, precision: str) -> str:
    """Build the variants of a precision, and prove them. Without a GPU, `ganrt build` must say that it needs one."""
    chosen = choose_variants(read_bundle(setting, name), precision, BACKEND)
    if setting.rehearsal:
        code, _, error = run_ganrt("build", str(find_bundle(setting.bundles, name)), "--variant", chosen[0])
        if code != MachineError.exit_code or "NVIDIA GPU" not in error:
            raise BackendError(f"without a GPU `ganrt build` ended with exit code {code}: {error}")
        setting.require_gpu(f"ganrt build: {error}")
    options = () if name == SPEED else _FAST
    return run_each(lambda variant: build_variant(setting, BACKEND, name, variant, *options), chosen)


def build_ranged(setting: Setting) -> str:
    """An engine for a range of batch sizes keeps the contract."""
    setting.require_gpu("an engine for a range of batch sizes")
    built = build_variant(setting, BACKEND, "labels", _choose_variant(setting), "--ranged", *_FAST)
    return f"{built}; {keep_contract(setting, BACKEND, 'labels')}"


def refit_engine(setting: Setting) -> str:
    """An engine is refitted; by a version that cannot, this is said in one sentence."""
    setting.require_gpu("refitting")
    library = load_library(BACKEND)
    if library.api >= _NO_REFIT:
        return build_variant(setting, BACKEND, "labels", _choose_variant(setting), "--refit", "--strip", *_FAST)
    folder = str(find_bundle(setting.bundles, "labels"))
    code, _, error = run_ganrt("build", folder, "--refit", "--variant", _choose_variant(setting), *_FAST)
    if code == 0 or "cannot refit" not in error:
        raise BackendError(f"{library} cannot refit, but `ganrt build --refit` ended with exit code {code}: {error}")
    return f"refused, exit code {code}: {error}"


def _choose_variant(setting: Setting) -> str:
    return choose_variants(read_bundle(setting, "labels"), "fp32", BACKEND)[0]


CHECKS = (
    Check("TensorRT is there", report_library),
    *(
        Check(f"build {name}, {precision}", partial(build_variants, name=name, precision=precision), 240)
        for name, precision in (
            (SPEED, "fp16"),
            *((name, "fp32") for name in ("labels", "pictures", SPEED)),
            (SPEED, "int8"),
        )
    ),
    Check("inspect the engines", partial(inspect_engines, backend=BACKEND)),
    Check("prove the engines", partial(prove_engines, backend=BACKEND)),
    Check("CUDA graphs", partial(capture_graphs, backend=BACKEND)),
    *(
        Check(f"the contract: {name}", partial(keep_contract, backend=BACKEND, name=name))
        for name in (SPEED, "labels", "pictures")
    ),
    Check("throughput", partial(measure_engines, backend=BACKEND), 90),
    Check("refit", refit_engine, 120),
    Check("a range of batch sizes", build_ranged, 120),
)
