"""Step 2 on a GPU machine: TensorRT for RTX. Its plans are compiled without a GPU; the rest needs one."""

from __future__ import annotations

from functools import partial

from .bundles import SPEED
from .engine_checks import (
    build_variant,
    capture_graphs,
    choose_variants,
    inspect_engines,
    keep_contract,
    measure_engines,
    prove_engines,
    share_with_torch,
    time_start,
)
from .runner import Check, Setting
from .session_checks import read_bundle, run_each

BACKEND = "tensorrt-rtx"
_TARGET = "ampere+"
"""Not the GPU's own target: data-centre GPUs have none."""


def compile_variants(setting: Setting, name: str, precision: str) -> str:
    """Compile the variants of a precision, and prove them on a GPU."""

    def compile_one(variant: str) -> str:
        return build_variant(setting, BACKEND, name, variant, "--target", _TARGET)

    text = run_each(compile_one, choose_variants(read_bundle(setting, name), precision, BACKEND))
    setting.require_gpu(text)
    return text


CHECKS = (
    *(
        Check(f"compile {name}, {precision}", partial(compile_variants, name=name, precision=precision), 90)
        for name, precision in (
            *((SPEED, precision) for precision in ("fp32", "fp16", "int8")),
            *((name, "fp32") for name in ("labels", "pictures")),
        )
    ),
    Check("inspect the engines", partial(inspect_engines, backend=BACKEND)),
    Check("prove the engines", partial(prove_engines, backend=BACKEND)),
    Check("CUDA graphs", partial(capture_graphs, backend=BACKEND)),
    Check("start without compiled kernels", partial(time_start, backend=BACKEND, kernels=False)),
    Check("start with compiled kernels", partial(time_start, backend=BACKEND, kernels=True)),
    *(
        Check(f"the contract: {name}", partial(keep_contract, backend=BACKEND, name=name))
        for name in (SPEED, "labels", "pictures")
    ),
    Check("DLPack with torch", partial(share_with_torch, backend=BACKEND)),
    Check("throughput", partial(measure_engines, backend=BACKEND), 90),
)
