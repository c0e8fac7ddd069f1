"""A GPU, driver or engine that fails gives a typed error, never wrong pictures; on strict fakes."""

import logging
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fakes.gpu import FakeMachine, Start, both_libraries, start

import ganrt
from ganrt import machine as facts
from ganrt.backend import Session, import_backend
from ganrt.bundle import Bundle
from ganrt.errors import (
    ArtifactError,
    BackendError,
    DeviceLostError,
    DeviceMemoryError,
    EngineError,
    GanrtError,
    MachineError,
    MissingLibraryError,
    RequestError,
)
from ganrt.feeds import Array, Feeds, draw_feeds
from ganrt.gpu import engine_cache

__all__ = ["start"]


def build_engine(machine: FakeMachine, bundle: Bundle, *batches: int, **options: Any) -> Any:
    return machine.engines.build(bundle, variant="fp32", options=machine.make_options(batches or (1, 2, 4), **options))


def open_trt_session(machine: FakeMachine, bundle: Bundle, device: str = "cuda", **options: Any) -> Session:
    session: Session = machine.backend.open(bundle, "fp32", device, **options)
    return session


def draw_batch(bundle: Bundle, size: int) -> Feeds:
    return draw_feeds(bundle.spec, 5, 0, size)


def run_batch(session: Session, bundle: Bundle, size: int) -> Array:
    return session.submit(draw_batch(bundle, size)).wait()[bundle.spec.output.name]


@both_libraries
def test_out_of_memory_halves_the_batch_and_says_so(
    start: Start, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    machine = start()
    build_engine(machine, bundle)
    with open_trt_session(machine, bundle) as session:
        right = run_batch(session, bundle, 4)
        needed = machine.cuda.used
    machine.cuda.limit = needed // 2
    with open_trt_session(machine, bundle) as session:
        assert np.allclose(run_batch(session, bundle, 4), right, atol=1e-5)
        assert "batches of 4 are computed as batches of 2 from now on" in caplog.text
        caplog.clear()
        assert np.allclose(run_batch(session, bundle, 4), right, atol=1e-5) and not caplog.text
        assert session.batch_sizes == (1, 2, 4)
        with pytest.raises(DeviceMemoryError, match="there is no array of it there: ask for fewer images at a time"):
            session.submit(draw_batch(bundle, 4)).device_arrays()


@both_libraries
def test_a_batch_of_one_that_does_not_fit_is_an_error_and_the_session_works_on(start: Start, bundle: Bundle) -> None:
    machine = start()
    build_engine(machine, bundle, 1)
    with open_trt_session(machine, bundle) as session:
        machine.cuda.limit = machine.cuda.used + 100
        with pytest.raises(
            DeviceMemoryError, match=r"allocating \d+ bytes on NVIDIA Fake \d+: the GPU has too little memory"
        ):
            run_batch(session, bundle, 1)
        machine.cuda.limit = 2**40
        assert run_batch(session, bundle, 1).shape[0] == 1


@both_libraries
def test_a_context_without_memory_is_out_of_memory_too(start: Start, bundle: Bundle) -> None:
    machine = start()
    build_engine(machine, bundle, 4)
    machine.trt.no_context_from = 4
    with (
        open_trt_session(machine, bundle) as session,
        pytest.raises(DeviceMemoryError, match=r"does not fit .*: out of memory"),
    ):
        run_batch(session, bundle, 4)


@both_libraries
@pytest.mark.parametrize("work", ["graph", "execute", "copy host to device", "copy device to host"])
def test_a_sticky_error_ends_the_session(start: Start, bundle: Bundle, work: str) -> None:
    machine = start()
    build_engine(machine, bundle)
    session = open_trt_session(machine, bundle)
    if work == "graph":
        run_batch(session, bundle, 2)
    machine.cuda.break_at = work
    with pytest.raises(DeviceLostError, match=r"CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access .*; load"):
        run_batch(session, bundle, 2)
        run_batch(session, bundle, 2)
    machine.cuda.error = machine.cuda.break_at = ""
    with pytest.raises(BackendError, match=r"session ended when the GPU failed \(.*CUDA_ERROR_ILLEGAL"):
        run_batch(session, bundle, 2)
    session.close()
    session.close()


@both_libraries
def test_a_batch_in_flight_when_the_gpu_is_lost_gives_no_picture(start: Start, bundle: Bundle) -> None:
    machine = start()
    build_engine(machine, bundle)
    session = open_trt_session(machine, bundle)
    run_batch(session, bundle, 2)
    first, second = session.submit(draw_batch(bundle, 2)), session.submit(draw_batch(bundle, 2))
    machine.cuda.error = "CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure"
    for pending in (first, second):
        with pytest.raises(BackendError, match="CUDA_ERROR_LAUNCH_FAILED"):
            pending.wait()


@both_libraries
def test_a_hang_ends_the_session_after_its_deadline(start: Start, bundle: Bundle) -> None:
    machine = start()
    build_engine(machine, bundle)
    session = open_trt_session(machine, bundle, deadline=0.01)
    machine.cuda.hangs = True
    with pytest.raises(DeviceLostError, match=r"did not answer within 0\.01 seconds, and this session is over"):
        run_batch(session, bundle, 2)
    with pytest.raises(BackendError, match="ended when the GPU failed"):
        run_batch(session, bundle, 2)
    memory = machine.cuda.used
    session.close()
    assert machine.cuda.used == memory > 0  # work that hangs may still write to it


@both_libraries
@pytest.mark.parametrize("failure", ["capture_fails", "not enqueued"])
def test_an_engine_that_cannot_be_captured_is_launched_without_a_graph(
    start: Start, bundle: Bundle, failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    machine = start()
    build_engine(machine, bundle)
    with open_trt_session(machine, bundle) as session:
        right = run_batch(session, bundle, 2)
        if failure == "capture_fails":
            machine.cuda.capture_fails = True
        else:
            machine.trt.executions_fail_when_captured = True
        found = [run_batch(session, bundle, 2) for _ in range(3)]
    assert all(np.array_equal(one, right) for one in found)
    assert caplog.text.count("a batch of 2 cannot be captured as a CUDA graph and is launched each time") == 1
    assert machine.cuda.count_calls("graph.launch") == 0


@both_libraries
def test_a_failed_launch_ends_the_session(start: Start, bundle: Bundle) -> None:
    machine = start()
    build_engine(machine, bundle)
    session = open_trt_session(machine, bundle)
    machine.trt.executions_fail = True
    with pytest.raises(
        DeviceLostError, match=r"TensorRT .* did not run a batch of 2: IExecutionContext::enqueueV3: Error"
    ):
        run_batch(session, bundle, 2)


def test_an_engine_for_another_gpu_driver_or_version_is_not_opened(
    start: Start, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_engine(start("10.13.3"), bundle)
    machine = start("10.16.1")
    with pytest.raises(MachineError, match=r"no engine for TensorRT 10\.16\.1\.11 .* is one for TensorRT 10\.13\.3\.9"):
        open_trt_session(machine, bundle)
    machine = start("10.13.3")
    machine.cuda.name = "NVIDIA Fake 200"
    with pytest.raises(MachineError, match=r"there is one for NVIDIA Fake 100 \(compute capability 9\.0\)"):
        open_trt_session(machine, bundle)
    assert machine.trt.loaded == []


@both_libraries
def test_a_corrupt_plan_is_not_deserialised(start: Start, bundle: Bundle) -> None:
    machine = start()
    engine = build_engine(machine, bundle)
    machine.trt.loaded.clear()
    engine.path.write_bytes(engine.path.read_bytes()[:-1] + b"!")
    with pytest.raises(ArtifactError, match="is executable code and was not loaded"):
        open_trt_session(machine, bundle)
    assert machine.trt.loaded == []


@both_libraries
def test_the_error_of_an_engine_that_tensorrt_rejects_says_why(start: Start, bundle: Bundle) -> None:
    machine = start()
    build_engine(machine, bundle)
    machine.trt.no_deserialise = "Error Code 1: Serialization (Serialization assertion stdVersionRead failed)"
    with pytest.raises(EngineError, match=r"TensorRT .* does not load this engine: .*stdVersionRead.* Build it again"):
        open_trt_session(machine, bundle)


def test_a_gpu_that_tensorrt_for_rtx_does_not_support(start: Start, bundle: Bundle) -> None:
    """The message is that of TensorRT for RTX 1.7.1 on an H200."""
    machine = start()
    build_engine(machine, bundle)
    machine.trt.no_deserialise = (
        "IRuntime::deserializeCudaEngine: Error Code 6: API Usage Error (The engine cannot run on this GPU, which has "
        "compute capability 9.0. TensorRT-RTX does not support this compute capability, so the engine cannot be "
        "rebuilt for it.)"
    )
    with pytest.raises(MachineError, match=r"runs no engine on this GPU, so use another backend: .* 9\.0"):
        open_trt_session(machine, bundle)


@both_libraries
def test_an_engine_from_elsewhere_needs_its_digest(start: Start, bundle: Bundle, tmp_path: Path) -> None:
    machine = start()
    engine = build_engine(machine, bundle)
    foreign = tmp_path / "foreign.plan"
    foreign.write_bytes(engine_cache.read_plan(engine))
    machine.trt.loaded.clear()
    with pytest.raises(RequestError, match="was not built here, and an engine is executable code: vouch for it with"):
        open_trt_session(machine, bundle, engine=foreign)
    with pytest.raises(ArtifactError, match="was not loaded"):
        open_trt_session(machine, bundle, engine=foreign, sha256="0" * 64)
    assert machine.trt.loaded == []
    with open_trt_session(machine, bundle, engine=foreign, sha256=engine.sha256) as session:
        assert session.details["computed in"] == "unknown: a foreign engine"
        assert run_batch(session, bundle, 2).shape[0] == 2


@both_libraries
def test_an_engine_of_another_model_is_rejected(start: Start, bundles: dict[str, Bundle]) -> None:
    machine = start()
    engine = build_engine(machine, bundles["dcgan"])
    spec = bundles["mlp"].spec
    assert {item.name for item in spec.inputs} == {item.name for item in bundles["dcgan"].spec.inputs}
    from dataclasses import replace

    renamed = replace(bundles["dcgan"].spec, output=replace(spec.output, name="picture"))
    other = replace(bundles["dcgan"], spec=renamed)
    with pytest.raises(
        MachineError, match=r"the engine has the tensors ganrt_level, .*, which are not those of this model"
    ):
        open_trt_session(machine, other, engine=engine.path, sha256=engine.sha256)


def test_without_a_gpu_tensorrt_is_not_called(start: Start, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = start("8.6.0", count=0)
    monkeypatch.setattr(facts, "_NVIDIA_NODES", ())
    with pytest.raises(MachineError, match="needs an NVIDIA GPU, and this machine has none: use onnxruntime"):
        open_trt_session(machine, bundle, "auto")
    with pytest.raises(MachineError, match="runs on NVIDIA GPUs only; cpu was asked for: use onnxruntime"):
        open_trt_session(machine, bundle, "cpu")
    assert machine.cuda.calls == []


@both_libraries
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": 2}, "the tensorrt(-rtx)? backend has no option 'threads'; it has batches, engine"),
        ({"deadline": 0}, "deadline is 0; it must be a number of seconds above 0"),
        ({"deadline": True}, "deadline is True; it must be a number"),
    ],
)
def test_options_are_checked(start: Start, bundle: Bundle, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        open_trt_session(start(), bundle, **options)


@both_libraries
def test_a_session_can_use_some_of_the_batch_sizes(start: Start, bundle: Bundle) -> None:
    machine = start()
    build_engine(machine, bundle)
    with open_trt_session(machine, bundle, batches=(4, 2)) as session:
        assert session.batch_sizes == (2, 4)
    for wrong in ((), (3,)):
        with pytest.raises(RequestError, match=r"this session has \(1, 2, 4\): choose some of them"):
            open_trt_session(machine, bundle, batches=wrong)


@both_libraries
def test_a_gpu_that_does_not_exist(start: Start, bundle: Bundle) -> None:
    with pytest.raises(MachineError, match="cuda:2 was asked for, but the last GPU here is cuda:1"):
        open_trt_session(start(count=2), bundle, "cuda:2")


@both_libraries
def test_auto_tries_the_next_backend_without_an_engine_and_says_so(
    start: Start, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    machine = start()
    with ganrt.load(bundle.folder) as generator:
        assert generator.session.backend == "onnxruntime"
    assert f"{machine.backend_name} is skipped" in caplog.text and "build it with `ganrt build" in caplog.text


@both_libraries
def test_a_failure_while_closing_is_logged_and_nothing_is_freed(
    start: Start, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    machine = start()
    build_engine(machine, bundle)
    session = open_trt_session(machine, bundle)
    session.submit(draw_batch(bundle, 2))
    machine.cuda.error = "CUDA_ERROR_UNKNOWN: unknown error"
    with caplog.at_level(logging.WARNING):
        session.close()
    assert "the GPU failed while a session was closed" in caplog.text and machine.cuda.used > 0


@both_libraries
def test_every_error_is_a_ganrt_error(start: Start, bundle: Bundle) -> None:
    """No matter at which call the GPU is lost."""
    machine = start()
    build_engine(machine, bundle)
    with open_trt_session(machine, bundle) as session:
        run_batch(session, bundle, 2)
    calls = len(machine.cuda.calls)
    note = machine.cuda.note
    for lost in range(0, calls, 3):
        machine.cuda.error = ""
        left = [lost]

        def fail(call: str, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                machine.cuda.error = "CUDA_ERROR_ECC_UNCORRECTABLE: uncorrectable ECC error"
            note(call)

        machine.cuda.note = fail  # type: ignore[method-assign]
        try:
            with open_trt_session(machine, bundle) as session:
                run_batch(session, bundle, 2)
        except GanrtError:
            continue
        finally:
            machine.cuda.note = note  # type: ignore[method-assign]


def test_a_missing_cuda_core_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch brings cuda.bindings, and with it the name cuda, but not cuda.core."""
    cuda = ModuleType("cuda")
    cuda.__path__ = []
    for name in [name for name in sys.modules if name.partition(".")[0] == "cuda"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cuda", cuda)
    for name in ("ganrt.gpu.device", "ganrt.gpu.trt_session", "ganrt.backends.tensorrt"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(MissingLibraryError, match=r'backend needs cuda\.core, .*: pip install "ganrt\[tensorrt\]"'):
        import_backend("tensorrt")
