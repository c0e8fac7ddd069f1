"""What is particular to the ncnn backend: precisions, GPUs through Vulkan, and its threads."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import ganrt
from ganrt import forking
from ganrt.agreement import THRESHOLDS
from ganrt.backend import backend_names, open_session
from ganrt.bundle import Bundle
from ganrt.errors import BackendError, BundleError, DeviceMemoryError, MachineError, RequestError
from ganrt.feeds import draw_feeds
from ganrt.proving import prove
from ganrt.session_config import SessionConfig

ncnn = pytest.importorskip("ncnn")
has_vulkan = ncnn.get_gpu_count() > 0


def prove_on(bundle: Bundle, variant: str, device: str) -> ganrt.backend.Session:
    golden = bundle.read_golden()
    assert golden is not None
    with open_session(bundle, SessionConfig("ncnn", variant, device)) as session:
        proof = prove(session, bundle.spec, golden, "").proof
    assert proof.passed and proof.worst_psnr >= THRESHOLDS[session.precision], proof
    return session


def rename_precision(bundle: Bundle, precision: str) -> Bundle:
    """The bundle with its float32 graph as a variant of another precision."""
    return replace(bundle, variants={"fp32": replace(bundle.variant("fp32"), precision=precision)})


def test_values_are_stored_in_the_precision_of_the_variant(bundles: dict[str, Bundle]) -> None:
    bundle = rename_precision(bundles["dcgan"], "bf16")
    session = prove_on(bundle, "fp32", "cpu")
    assert session.precision == "bf16" and session.device == "cpu"
    feeds = draw_feeds(bundle.spec, 0, 0, 1)
    images = []
    for each in (bundle, bundles["dcgan"]):
        with open_session(each, SessionConfig("ncnn", "fp32", "cpu")) as opened:
            images.append(opened.submit(feeds).wait()[bundle.spec.output.name])
    assert not np.array_equal(images[0], images[1])


@pytest.mark.skipif(not has_vulkan, reason="there is no Vulkan driver")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", ["dcgan", "conditional", "espcn"])
def test_a_gpu_makes_the_pictures_of_the_original(
    name: str, precision: str, request: pytest.FixtureRequest, bundles: dict[str, Bundle]
) -> None:
    bundle = bundles[name] if name in bundles else request.getfixturevalue(name)
    session = prove_on(rename_precision(bundle, precision), "fp32", "vulkan")
    assert session.device == "vulkan:0" and session.details["gpu"] == ncnn.get_gpu_info(0).device_name()
    assert "threads" not in session.details


@pytest.mark.skipif(not has_vulkan, reason="there is no Vulkan driver")
def test_layers_without_a_shader_are_named(conditional: Bundle) -> None:
    with open_session(conditional, SessionConfig("ncnn", device="vulkan")) as session:
        assert "Embed" in session.details["on the CPU"]


def test_a_gpu_that_is_not_there(bundles: dict[str, Bundle], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MachineError, match=r"vulkan:99 was asked for, and ncnn finds (vulkan:0 \(|no Vulkan driver)"):
        open_session(bundles["dcgan"], SessionConfig("ncnn", device="vulkan:99"))
    monkeypatch.setattr("ganrt.backends.ncnn.ncnn.get_gpu_count", lambda: 0)
    with pytest.raises(MachineError, match="ncnn finds no Vulkan driver: install the GPU's"):
        open_session(bundles["dcgan"], SessionConfig("ncnn", device="vulkan"))


def test_vulkan_is_for_ncnn_and_has_to_be_named(bundles: dict[str, Bundle]) -> None:
    assert backend_names("vulkan") == ["ncnn"]
    for backend in set(backend_names("cpu")) - {"ncnn", "mnn"}:
        with pytest.raises(MachineError, match="vulkan was asked for, which the ncnn backend alone uses"):
            open_session(bundles["dcgan"], SessionConfig(backend, device="vulkan"))
    with ganrt.load(bundles["dcgan"].path, "ncnn") as generator:
        assert generator.session.device == "cpu"


@pytest.mark.parametrize(
    ("device", "precision", "options", "error", "message"),
    [
        ("cuda", "fp32", {}, MachineError, "does not use CUDA; cuda was asked for: use device='vulkan' or 'cpu'"),
        ("vulkan", "bf16", {}, RequestError, "the ncnn backend does not run fp32; it runs fp32, fp16"),
        ("vulkan", "fp32", {"threads": 2}, RequestError, "the ncnn backend has no option 'threads'; it has none"),
        ("cpu", "fp32", {"batches": 2}, RequestError, "has no option 'batches'; it has threads"),
        ("cpu", "int8", {}, RequestError, "the ncnn backend does not run fp32; it runs fp32, bf16"),
        ("cpu", "fp16", {}, RequestError, "the ncnn backend does not run fp32; it runs fp32, bf16"),
    ],
)
def test_requests_that_do_not_fit(
    device: str,
    precision: str,
    options: dict[str, Any],
    error: type[Exception],
    message: str,
    bundles: dict[str, Bundle],
) -> None:
    with pytest.raises(error, match=message):
        open_session(rename_precision(bundles["dcgan"], precision), SessionConfig("ncnn", "fp32", device, options))


class FullMemory:
    """An extractor that cannot allocate what a layer computes."""

    def input(self, name: str, blob: Any) -> int:
        return 0

    def extract(self, name: str) -> tuple[int, None]:
        return -100, None


def test_what_ncnn_reports_is_an_error(bundles: dict[str, Bundle], monkeypatch: pytest.MonkeyPatch) -> None:
    feeds = draw_feeds(bundles["dcgan"].spec, 0, 0, 1)
    with open_session(bundles["dcgan"], SessionConfig("ncnn", device="cpu")) as session:
        monkeypatch.setattr(session, "_output", "nothing")
        with pytest.raises(BackendError, match="ncnn failed with code -1, for the reason on standard error"):
            session.submit(feeds)
        net = SimpleNamespace(create_extractor=lambda: nullcontext(FullMemory()), clear=lambda: None)
        monkeypatch.setattr(session, "_net", net)
        with pytest.raises(DeviceMemoryError, match="ncnn: too little memory for a batch of 1"):
            session.submit(feeds)
    broken = "7767517\n1 1\nNothing n 0 1 y\n"
    monkeypatch.setattr("ganrt.ncnn_format.Network.write_param", lambda self: broken)
    with pytest.raises(BundleError, match="ncnn cannot load fp32: it rejects the layers"):
        open_session(bundles["dcgan"], SessionConfig("ncnn", device="cpu"))


@pytest.mark.parametrize(("variable", "left"), [("", "None"), ("GOMP_SPINCOUNT", "'77'"), ("OMP_WAIT_POLICY", "None")])
def test_waiting_threads_are_set_for_ncnn_alone(variable: str, left: str) -> None:
    """Its OpenMP shows what it has read. What the user has set stays."""
    code = "import ganrt.backends.ncnn, os; print(repr(os.environ.get('GOMP_SPINCOUNT')))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_"))}
    environment |= {"OMP_DISPLAY_ENV": "verbose"}
    if variable:
        environment[variable] = "77" if variable == "GOMP_SPINCOUNT" else "passive"
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    spins = {"": "'1000'", "GOMP_SPINCOUNT": "'77'", "OMP_WAIT_POLICY": "'0'"}[variable]
    assert run.stdout.strip() == left and f"GOMP_SPINCOUNT = {spins}" in run.stderr


def test_a_child_of_a_process_with_threads_uses_one(
    bundles: dict[str, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenMP would wait for threads that did not survive the fork. `check_life_cycle` forks in earnest."""
    config = SessionConfig("ncnn", "fp32", "cpu", {"threads": 3})
    with open_session(bundles["dcgan"], config) as session:
        assert session.details["threads"] == "3"
        session.submit(draw_feeds(bundles["dcgan"].spec, 0, 0, 1))
    now = forking.generation()
    monkeypatch.setattr("ganrt.backends.ncnn.forking.generation", lambda: now + 1)
    with open_session(bundles["dcgan"], config) as session:
        assert session.details["threads"] == "1"
