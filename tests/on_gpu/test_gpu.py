"""Every GPU backend makes the pictures of the original, and the device draws what the host draws."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ganrt
from ganrt.bundle import Bundle
from ganrt.errors import GanrtError
from ganrt.export import export
from ganrt.feeds import Draw
from ganrt.proving import prove
from ganrt.session_config import SessionConfig
from ganrt.spec import Label, Latent, Output, Scalar, Spec
from ganrt.testing import check_backend

pytestmark = pytest.mark.gpu
LIBRARIES = {"pytorch": "torch", "onnxruntime": "onnxruntime", "tensorrt": "tensorrt"}
DRAWN = Spec(
    "drawn",
    (
        Latent("resampled", (513,), truncation="resampled"),
        Latent("scaled", (7,), truncation="scaled", default=0.5),
        Latent("uniform", (2, 3), distribution="uniform", range=(-2.0, 2.0)),
        Label("y", 1000, "index"),
        Scalar("strength", (0.0, 2.0), 1.0),
    ),
    Output(1, (0.0, 1.0), (4, 4)),
)


def require_library(backend: str) -> None:
    if importlib.util.find_spec(LIBRARIES[backend]) is None:
        pytest.skip(f"{LIBRARIES[backend]} is not installed on this machine")
    if backend == "onnxruntime":
        import onnxruntime

        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            pytest.skip("the onnxruntime installed here has no CUDA provider")


def build_engine(bundle: Bundle, variant: str = "fp32", **options: Any) -> Any:
    engines = importlib.import_module("ganrt.export.engines")
    return engines.build(
        bundle,
        variant=variant,
        options=engines.EngineOptions(**{"batches": (1, 2, 4), "optimization_level": 1, **options}),
        device="cuda",
    )


@pytest.mark.parametrize("family", ["dcgan", "mlp"])
@pytest.mark.parametrize("backend", LIBRARIES)
def test_every_backend_keeps_the_contract_on_the_gpu(backend: str, family: str, bundles: dict[str, Bundle]) -> None:
    require_library(backend)
    if backend == "tensorrt":
        build_engine(bundles[family])
    check_backend(backend, bundles[family], device="cuda")


def test_a_ranged_engine_keeps_the_contract(bundle: Bundle) -> None:
    require_library("tensorrt")
    build_engine(bundle, batches=(1, 6), ranged=True)
    check_backend("tensorrt", bundle, device="cuda")


@pytest.mark.parametrize("truncation", [None, 0.7])
def test_the_device_draws_what_the_host_draws(truncation: float | None) -> None:
    """Words and labels are identical, and values are equal to the last float32 digit."""
    pytest.importorskip("cuda.core")
    device, latents = (importlib.import_module(f"ganrt.gpu.{name}") for name in ("device", "latents"))
    gpu = device.Gpu(0)
    stream = gpu.new_stream()
    wish = Draw(2**40 + 7, 2**32 - 100, 256, None, truncation)
    host = wish.draw_feeds(DRAWN)
    memories = {name: gpu.allocate_memory(array.nbytes, stream) for name, array in host.items()}
    pinned = {name: gpu.allocate_pinned(array.shape, array.dtype) for name, array in host.items()}
    latents.DeviceLatents(gpu).enqueue(DRAWN, wish, memories, {n: a.dtype for n, a in host.items()}, stream)
    for name, memory in memories.items():
        pinned[name].buffer.copy_from(memory, stream=stream)
    stream.sync()
    for name, array in host.items():
        assert np.array_equal(pinned[name].array, array), name


def test_an_fp16_engine_is_proven(tmp_path: Path, bundle: Bundle) -> None:
    require_library("tensorrt")
    source = bundle.folder.with_suffix(".pth")
    lowered = export(str(source), tmp_path / "half.ganrt", precisions=("fp32", "fp16"))
    variant = lowered.in_precision("fp16", gpu=True)[0]
    engine = build_engine(lowered, variant)
    assert engine.notes["computed in"]["fp16"] > 0.5
    golden = lowered.read_golden()
    assert golden is not None
    with ganrt.backend.open_session(lowered, SessionConfig("tensorrt", variant, "cuda")) as session:
        proof = prove(session, lowered.spec, golden, "key").proof
    assert proof.passed and proof.worst_psnr >= 40, proof


def test_pictures_are_those_of_the_cpu(bundle: Bundle) -> None:
    require_library("tensorrt")
    build_engine(bundle)
    with (
        ganrt.load(bundle.folder, "pytorch", device="cpu") as cpu,
        ganrt.load(bundle.folder, "tensorrt", device="cuda") as gpu,
    ):
        steps = cpu.sample(100, seed=7).astype(int) - gpu.sample(100, seed=7)
    assert np.abs(steps).max() <= 1 and (steps != 0).mean() < 1e-3


def test_torch_takes_device_arrays_without_a_copy(bundle: Bundle) -> None:
    require_library("tensorrt")
    torch = pytest.importorskip("torch")
    build_engine(bundle)
    with ganrt.load(bundle.folder, "tensorrt", device="cuda") as generator:
        right = generator.sample(4, seed=3)
        taken = torch.from_dlpack(generator.sample(4, seed=3, output="dlpack"))
        assert taken.is_cuda and np.array_equal(taken.cpu().numpy(), right)


def test_an_engine_is_refitted(tmp_path: Path, bundle: Bundle) -> None:
    require_library("tensorrt")
    nvinfer = importlib.import_module("ganrt.gpu.nvinfer")
    if nvinfer.VERSION < (10, 0):
        with pytest.raises(GanrtError, match="cannot refit"):
            build_engine(bundle, refittable=True)
        return
    first = build_engine(bundle, refittable=True, stripped=True)
    assert "computed in" in first.notes
    check_backend("tensorrt", bundle, device="cuda")
