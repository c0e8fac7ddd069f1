"""ONNX Runtime on a GPU keeps the contract of a session, on the session's stream and memory; with a fake provider on a
strict fake of CUDA."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import onnxruntime as fake_onnxruntime
from fakes.gpu import FakeMachine, Start, start
from gpu.test_tensorrt_pictures import CONDITIONAL, DARKER, make_conditional_bundle, make_darkening_bundle
from gpu.test_tensorrt_session import run_batches, select_work

from ganrt.backend import open_session
from ganrt.bundle import Bundle
from ganrt.errors import BackendError, BundleError, DeviceLostError, MachineError, RequestError
from ganrt.generator import Generator
from ganrt.session_config import SessionConfig
from ganrt.testing import check_backend

__all__ = ["start"]


def install_provider(monkeypatch: pytest.MonkeyPatch, machine: FakeMachine, **options: Any) -> FakeMachine:
    monkeypatch.setattr("ganrt.backends.onnxruntime.has_nvidia_gpu", lambda: True)
    machine.asked = fake_onnxruntime.install(monkeypatch, machine.cuda, **options)
    return machine


@pytest.fixture
def machine(start: Start, monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    return install_provider(monkeypatch, start())


def test_it_keeps_the_contract(machine: FakeMachine, bundle: Bundle) -> None:
    check_backend("onnxruntime", bundle, device="cuda", life_cycle=False)  # the fakes are in this process alone


def test_nothing_is_printed_on_standard_output(
    machine: FakeMachine, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("onnxruntime.preload_dlls", lambda **_: print("Failed to load libcudnn.so.9"))  # noqa: T201
    open_session(bundle, SessionConfig("onnxruntime", "fp32", "cuda")).close()
    found = capsys.readouterr()
    assert found.out == "" and "libcudnn.so.9" in found.err


@pytest.mark.parametrize("seed", range(2))
def test_it_keeps_the_contract_in_any_order(
    start: Start, seed: int, monkeypatch: pytest.MonkeyPatch, bundle: Bundle
) -> None:
    install_provider(monkeypatch, start(seed=seed))
    check_backend("onnxruntime", bundle, device="cuda", life_cycle=False)  # the fakes are in this process alone


@pytest.mark.parametrize("labels", [None, [5, 0, 9, 1, 2, 7, 7, 3, 4, 6, 8]])
def test_samples_are_drawn_and_become_pictures_on_the_device(machine: FakeMachine, labels: Any, tmp_path: Path) -> None:
    """As in the ONNX project's own evaluator."""
    bundle = make_conditional_bundle(tmp_path)
    batches = SessionConfig("onnxruntime", device="cuda", options={"batches": (1, 4)})
    with (
        Generator(CONDITIONAL, open_session(bundle, batches)) as gpu,
        Generator(CONDITIONAL, open_session(bundle, SessionConfig("reference", device="cpu"))) as reference,
    ):
        assert np.array_equal(gpu.sample(11, seed=5, labels=labels), reference.sample(11, seed=5, labels=labels))


def test_work_is_ordered_on_the_sessions_streams_and_nothing_is_allocated_after_the_first_batches(
    machine: FakeMachine, bundle: Bundle
) -> None:
    with open_session(bundle, SessionConfig("onnxruntime", device="cuda")) as session:
        run_batches(session, bundle, 10)
        before = len(machine.cuda.calls)
        machine.cuda.work.clear()
        run_batches(session, bundle, 90)
        assert not {call for call in machine.cuda.calls[before:] if "allocate" in call or "create" in call}
        runs, out = select_work(machine.cuda.work, "run"), select_work(machine.cuda.work, "copy device to host")
        assert len(runs) == len(out) == 90
        assert all(copy.comes_after(run) for copy, run in zip(out, runs, strict=True))
        assert not any(copy.comes_after(run) for copy, run in zip(out, runs[1:], strict=False))
    assert machine.cuda.used == 0


def test_the_options_of_the_provider(machine: FakeMachine, bundle: Bundle) -> None:
    with open_session(bundle, SessionConfig("onnxruntime", device="cuda")) as session:
        assert session.details["enable_cuda_graph"] == "1" and session.details["gpu"] == "NVIDIA Fake 100"
    with open_session(
        bundle,
        SessionConfig(
            "onnxruntime", device="cuda", options={"graph": False, "prefer_nhwc": True, "search": "EXHAUSTIVE"}
        ),
    ):
        pass
    asked = [{k: v for k, v in one.items() if k != "user_compute_stream"} for one in machine.asked]
    names = ("device_id", "use_tf32", "cudnn_conv_algo_search", "enable_cuda_graph", "prefer_nhwc")
    wanted = [(0, 0, "HEURISTIC", 1, 0), (0, 0, "EXHAUSTIVE", 0, 1)]
    assert asked == [dict(zip(names, values, strict=True)) for values in wanted]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"search": "FAST"}, "search is 'FAST'; choose one of HEURISTIC, EXHAUSTIVE, DEFAULT"),
        ({"graph": 1}, "graph is 1; choose True or False"),
        ({"deadline": -1}, "deadline is -1; it must be a number of seconds above 0"),
        ({"batches": (3,)}, r"batches are \(3,\); this session has \(1, 2, 4, 8, 16, 32\)"),
    ],
)
def test_options_are_checked(machine: FakeMachine, bundle: Bundle, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        open_session(bundle, SessionConfig("onnxruntime", device="cuda", options={**options}))


def test_a_variant_whose_operators_the_provider_lacks(
    machine: FakeMachine, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message is that of ONNX Runtime 1.31.1 for an int8 graph made for CPUs."""

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError(
            "This session cannot use the graph capture feature as requested by the user as all compute graph nodes "
            "have not been partitioned to the CUDAExecutionProvider"
        )

    monkeypatch.setattr("onnxruntime.InferenceSession", refuse)
    with pytest.raises(BundleError, match=r"cannot run fp32 on the GPU: .* Variants for GPUs are fp32"):
        open_session(bundle, SessionConfig("onnxruntime", device="cuda"))


def test_options_for_a_gpu_are_rejected_on_the_cpu(bundle: Bundle) -> None:
    with pytest.raises(RequestError, match="the onnxruntime backend has no option 'graph'; it has threads"):
        open_session(bundle, SessionConfig("onnxruntime", device="cpu", options={"graph": True}))


def test_pictures_of_any_size(machine: FakeMachine, tmp_path: Path) -> None:
    bundle = make_darkening_bundle(tmp_path)
    with open_session(bundle, SessionConfig("onnxruntime", device="cuda")) as session:
        for sides in [(4, 6), (8, 2), (4, 6), *((3, k) for k in range(1, 16))]:
            picture = np.random.default_rng(1).uniform(0, 1, (2, 3, *sides)).astype(np.float32)
            assert np.array_equal(session.submit({"x": picture}).wait()[DARKER.output.name], picture / 2)
    assert machine.cuda.used == 0


@pytest.mark.parametrize("limit", [0.3, 0.6])
def test_out_of_memory_halves_the_batch(machine: FakeMachine, bundle: Bundle, limit: float) -> None:
    with Generator(bundle.spec, open_session(bundle, SessionConfig("onnxruntime", device="cuda"))) as generator:
        right = generator.sample(16)
        machine.cuda.limit = int(machine.cuda.used * limit)
    with Generator(bundle.spec, open_session(bundle, SessionConfig("onnxruntime", device="cuda"))) as generator:
        assert np.array_equal(generator.sample(16), right)


def test_a_lost_gpu_ends_the_session(machine: FakeMachine, bundle: Bundle) -> None:
    session = open_session(bundle, SessionConfig("onnxruntime", device="cuda"))
    machine.cuda.break_at = "run"
    with pytest.raises(DeviceLostError, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
        run_batches(session, bundle, 2)
    with pytest.raises(BackendError, match="this onnxruntime session ended when the GPU failed"):
        run_batches(session, bundle, 1)


def test_another_provider_is_an_error(start: Start, monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    install_provider(monkeypatch, start(), on_cpu=True)
    with pytest.raises(MachineError, match="runs on CPUExecutionProvider where CUDAExecutionProvider was asked for"):
        open_session(bundle, SessionConfig("onnxruntime", device="cuda"))


def test_without_the_provider_or_cuda_core_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, bundle: Bundle
) -> None:
    import sys

    import onnxruntime

    with pytest.raises(MachineError, match=r'has no CUDA provider: .* pip install "ganrt\[cuda\]"'):
        open_session(bundle, SessionConfig("onnxruntime", device="cuda"))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(MachineError, match="this machine has no NVIDIA GPU; use device='cpu'"):
        open_session(bundle, SessionConfig("onnxruntime", device="cuda"))
    monkeypatch.setattr("ganrt.backends.onnxruntime.has_nvidia_gpu", lambda: True)
    for name in ("ganrt.gpu.device", "ganrt.gpu.session", "ganrt.gpu.ort_programs"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "cuda", None)
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    with pytest.raises(MachineError, match=r'needs cuda.*, which is not installed: pip install "ganrt\[cuda\]"'):
        open_session(bundle, SessionConfig("onnxruntime", device="cuda"))
