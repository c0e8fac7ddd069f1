"""Step 5 on a GPU machine: ncnn through Vulkan. Any GPU with a Vulkan driver will do, and so will a software driver."""

from __future__ import annotations

from functools import partial
from typing import Any

import ganrt
from ganrt.backend import import_backend, open_session
from ganrt.errors import BackendError, MachineError
from ganrt.proving import prove
from ganrt.session_config import SessionConfig
from ganrt.testing import check_backend

from .bundles import SPEED
from .rates import make_sampler, measure_rates
from .runner import Check, Setting
from .session_checks import BATCHES, ROUNDS, format_rate, read_bundle, run_each

_BACKEND, _DEVICE = "ncnn", "vulkan"
_PRECISIONS = ("fp32", "fp16")
_NAMES = (SPEED, "labels", "pictures")


def list_gpus(setting: Setting) -> str:
    """ncnn finds a GPU."""
    module: Any = import_backend(_BACKEND)
    found = ", ".join(module.list_gpus())
    if not found:
        raise MachineError("ncnn finds no Vulkan driver")
    return found


def prove_variants(setting: Setting, name: str) -> str:
    """Every variant in float makes the images of the original."""
    bundle = read_bundle(setting, name)
    golden = bundle.read_golden()
    if golden is None:
        raise MachineError(f"{bundle.path} has no golden samples; make it with `make gpu-bundles`")

    def prove_one(variant: str) -> str:
        with open_session(bundle, SessionConfig(_BACKEND, variant, _DEVICE)) as session:
            proof = prove(session, bundle.spec, golden, "").proof
        if not proof.passed:
            raise BackendError(f"{variant}: {proof.failures[0]}")
        return f"{variant} {proof.worst_psnr:.1f} dB on {session.details['gpu']}"

    return run_each(prove_one, [key for key, found in bundle.variants.items() if found.precision in _PRECISIONS])


def keep_contract(setting: Setting, name: str) -> str:
    """The backend keeps the contract of a session."""
    check_backend(_BACKEND, read_bundle(setting, name), device=_DEVICE, life_cycle=False)
    return name


def measure_sampling(setting: Setting, precision: str) -> str:
    """Images per second of `Generator.sample`."""
    bundle = read_bundle(setting)
    variant = bundle.in_precision(precision, gpu=True)[0]
    found = []
    for batch in BATCHES:
        with ganrt.load(bundle.path, _BACKEND, device=_DEVICE, variant=variant) as generator:
            rates = measure_rates(make_sampler(generator, batch, None), *ROUNDS)
        found.append(f"batch {batch}: {format_rate(rates)}")
    return f"{variant}: {'; '.join(found)}"


CHECKS = (
    Check("ncnn finds a GPU", list_gpus, 30),
    *(Check(f"prove all variants: {name}", partial(prove_variants, name=name), 90) for name in _NAMES),
    *(Check(f"the contract: {name}", partial(keep_contract, name=name), 90) for name in _NAMES),
    *(Check(f"throughput: {name}", partial(measure_sampling, precision=name), 90) for name in _PRECISIONS),
)
