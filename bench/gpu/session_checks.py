"""What the steps on a GPU machine check of any backend: proofs, the contract, DLPack, CUDA graphs and throughput."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

import ganrt
from ganrt.backend import first_line, open_session
from ganrt.bundle import Bundle
from ganrt.errors import BackendError, MachineError
from ganrt.feeds import Feeds, draw_feeds
from ganrt.golden import proof_picture_size
from ganrt.proving import prove
from ganrt.session_config import SessionConfig
from ganrt.testing import check_backend

from .bundles import SPEED, find_bundle
from .rates import make_replay, make_sampler, measure_rates
from .runner import Setting

BATCHES = (1, 8, 32)
"""Batch sizes of engines and of throughput."""
ROUNDS = (3, 0.4)
"""Number of rounds, and seconds of each: a step has minutes."""
_RUNS = 5
"""Of each batch size: TensorRT's third run is captured as a CUDA graph, and later ones replay it."""
_ROUNDED = 1e-4
"""Share of values that may differ by one step: cuDNN adds the products of a transposed convolution in an order that
changes from run to run, and with it the last digits of the images."""


def read_bundle(setting: Setting, name: str = SPEED) -> Bundle:
    """Read a bundle of `bundles`. Raises MachineError if it is not there."""
    return Bundle.read(find_bundle(setting.bundles, name))


def prove_variant(setting: Setting, backend: str, name: str, variant: str, **options: Any) -> str:
    """Compare a variant with the golden samples. Raises BackendError if it does not make the original's images."""
    bundle = read_bundle(setting, name)
    golden = bundle.read_golden()
    if golden is None:
        raise MachineError(f"{bundle.path} has no golden samples; make it with `make gpu-bundles`")
    with open_session(bundle, SessionConfig(backend, variant, setting.device, options)) as session:
        proof = prove(session, bundle.spec, golden, "").proof
    if not proof.passed:
        raise BackendError(f"{variant}: {proof.failures[0]}")
    return f"{variant} {proof.worst_psnr:.1f} dB"


def check_contract(setting: Setting, backend: str, name: str, variant: str, **options: Any) -> str:
    """Check that a backend keeps the contract of a session, without its life cycle, which opens dozens of sessions.
    Raises ContractError."""
    bundle = read_bundle(setting, name)
    check_backend(backend, bundle, variant=variant, device=setting.device, life_cycle=False, **options)
    return " ".join([name, variant, *(f"{key}={value}" for key, value in options.items())])


def check_graphs(setting: Setting, backend: str, variant: str, **options: Any) -> str:
    """Run each batch size several times, the last ones as a replayed CUDA graph, and compare the images with those of
    the first run. Raises BackendError if they differ, or if ganrt warns that nothing can be captured."""
    bundle, name = read_bundle(setting), read_bundle(setting).spec.output.name
    config = SessionConfig(backend, variant, setting.device, options)
    with collect_warnings() as warnings, open_session(bundle, config) as session:
        sizes = session.batch_sizes or BATCHES
        for size in sizes:
            feeds = draw_inputs(bundle, size)
            images = [session.submit(feeds).wait()[name] for _ in range(_RUNS)]
            drift = max(float(np.abs(image - images[0]).max()) for image in images)
            if not drift < 1e-3:
                raise BackendError(f"{variant}: run {_RUNS} of a batch of {size} differs from the first by {drift:.3g}")
    if warnings:
        raise BackendError(f"{variant}: {warnings[0]}")
    return f"{variant} for batches of {', '.join(map(str, sizes))}"


def share_pictures(setting: Setting, backend: str, variant: str, **options: Any) -> str:
    """torch reads pictures on the device and hands over latents there, both without the host. Raises BackendError if
    the values are not those of the way over the host."""
    import torch
    from torch.utils.dlpack import from_dlpack

    bundle = read_bundle(setting)
    with ganrt.load(bundle.path, backend, device=setting.device, variant=variant, **options) as generator:
        right = generator.sample(8, seed=3)
        _require_same(generator.sample(8, seed=3), right, "pictures of a second call")
        taken = from_dlpack(generator.sample(8, seed=3, output="dlpack"))
        _require_same(taken.cpu().numpy(), right, "pictures that torch reads")
        setting.require_gpu(f"{variant}: torch reads pictures of the CPU")
        session: Any = generator.session
        feeds = draw_inputs(bundle, 8)
        images = session.submit(feeds).wait()[bundle.spec.output.name]
        tensors = {key: torch.from_numpy(array).cuda() for key, array in feeds.items()}
        found = session.submit_arrays(tensors).wait()[bundle.spec.output.name]
        if not float(np.abs(found - images).max()) < 1e-3:
            raise BackendError(f"{variant}: images of torch's latents differ from those of the host's")
    return f"{variant}: torch reads pictures and hands over latents on the GPU"


def measure_variant(setting: Setting, backend: str, variant: str, **options: Any) -> str:
    """Return images per second of each batch size: of `Generator.sample`, and of an engine alone."""
    bundle = read_bundle(setting)
    found = []
    for batch in BATCHES:
        config = {"variant": variant, **options}
        if backend != "onnxruntime" or not setting.rehearsal:
            config["batches"] = (batch,)
        with ganrt.load(bundle.path, backend, device=setting.device, **config) as generator:
            rates = measure_rates(make_sampler(generator, batch, None), *ROUNDS)
        text = f"batch {batch}: {format_rate(rates)}"
        if backend.startswith("tensorrt"):
            alone = measure_rates(make_replay(bundle, backend, variant, draw_inputs(bundle, batch)), *ROUNDS)
            text += f" (engine alone {format_rate(alone)})"
        found.append(text)
    return f"{' '.join([variant, *(f'{k}={v}' for k, v in options.items())])}: {'; '.join(found)}"


def format_rate(rates: list[float]) -> str:
    """Return the median of the rounds, and their range."""
    return f"{statistics.median(rates):.0f}/s [{min(rates):.0f} to {max(rates):.0f}]"


def run_each(act: Callable[[str], str], variants: Sequence[str]) -> str:
    """Call `act` for each variant, and join what it returns. Raises BackendError after the last one if any failed."""
    done, failed = [], []
    for variant in variants:
        try:
            done.append(act(variant))
        except Exception as error:  # whatever a library raises; the other variants still run
            failed.append(f"{type(error).__name__}: {first_line(error)}")
    if failed:
        raise BackendError("; ".join([*failed, *done]))
    return "; ".join(done)


@contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """Collect what ganrt warns of in the meantime."""
    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("ganrt")
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


def draw_inputs(bundle: Bundle, size: int) -> Feeds:
    """Draw the inputs of the first samples of seed 0."""
    return draw_feeds(bundle.spec, 0, 0, size, size=proof_picture_size(bundle.spec))


def _require_same(found: Any, right: Any, what: str) -> None:
    if found.shape != right.shape:
        raise BackendError(f"{what} have the shape {found.shape}, those of the host {right.shape}")
    steps = np.abs(found.astype(np.int16) - right)
    if steps.max() > 1 or (steps > 0).mean() > _ROUNDED:
        raise BackendError(
            f"{what} differ from those of the host in {int((steps > 0).sum())} of {steps.size} values, by up to "
            f"{int(steps.max())} of 255"
        )
