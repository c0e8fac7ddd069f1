"""The TensorRT backend keeps the contract of a session and the order of its streams, on strict fakes of TensorRT and
CUDA that do all work as late, or in as odd an order, as they may."""

import gc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from fakes.cuda import Work
from fakes.gpu import FakeMachine, Start, both_libraries, start

import ganrt
from ganrt.backend import Session, open_session
from ganrt.bundle import Bundle
from ganrt.feeds import Array, Feeds, draw_feeds
from ganrt.session_config import SessionConfig
from ganrt.testing import check_backend

__all__ = ["start"]
VERSIONS = ["8.6.0", "10.13.3", "10.16.1", "11.4.0"]


def build_engine(machine: FakeMachine, bundle: Bundle, *batches: int, **options: Any) -> FakeMachine:
    machine.engines.build(bundle, variant="fp32", options=machine.make_options(batches or (1, 2, 4), **options))
    return machine


def open_trt_session(machine: FakeMachine, bundle: Bundle, **options: Any) -> Session:
    session: Session = machine.backend.open(bundle, "fp32", "cuda", **options)
    return session


def draw_batch(bundle: Bundle, size: int, start: int = 0) -> Feeds:
    return draw_feeds(bundle.spec, 5, start, size)


@pytest.mark.parametrize("version", VERSIONS)
def test_it_keeps_the_contract(start: Start, version: str, bundle: Bundle) -> None:
    machine = build_engine(start(version), bundle)
    check_backend(machine.backend, bundle, device="cuda", life_cycle=False)  # the fakes are in this process alone


@both_libraries
@pytest.mark.parametrize("seed", range(3))
def test_it_keeps_the_contract_in_any_order_that_the_streams_allow(start: Start, seed: int, bundle: Bundle) -> None:
    machine = build_engine(start(seed=seed), bundle)
    check_backend(machine.backend, bundle, device="cuda", life_cycle=False)  # the fakes are in this process alone


@pytest.mark.parametrize("core", ["1.0.0", "1.2.2"])
def test_it_keeps_the_contract_on_one_profile_with_a_range(start: Start, core: str, bundle: Bundle) -> None:
    machine = build_engine(start(core=core), bundle, 1, 6, ranged=True)
    with open_trt_session(machine, bundle) as session:
        assert session.batch_sizes == (1, 2, 4, 6)
    check_backend(machine.backend, bundle, device="cuda:0", life_cycle=False)  # the fakes are in this process alone


@both_libraries
def test_a_generator_samples_the_same_pictures_as_on_the_cpu(start: Start, bundle: Bundle) -> None:
    name = build_engine(start(), bundle).backend_name
    with ganrt.load(bundle.folder, "onnxruntime") as cpu, ganrt.load(bundle.folder, name, device="cuda") as gpu:
        assert gpu.session.device == "cuda:0"
        steps = cpu.sample(11, seed=3).astype(int) - gpu.sample(11, seed=3)
        assert np.abs(steps).max() <= 1


@both_libraries
def test_the_details_of_a_session(start: Start, bundle: Bundle) -> None:
    machine = build_engine(start(), bundle)
    with open_trt_session(machine, bundle) as session:
        details = dict(session.details)
    assert details[machine.backend_name] == machine.trt.version and details["gpu"] == machine.cuda.name
    assert details.get("runtime") == (None if machine.trt.is_rtx else "full")
    assert details["computed in"] == "fp32 100%" and len(details["engine"]) == 64


def run_batches(session: Session, bundle: Bundle, count: int) -> Array:
    """As `Generator` does: batch k + 1 is submitted before batch k is waited for. Returns all images."""
    images, running = [], None
    for k in range(count):
        following = session.submit(draw_batch(bundle, 2, 2 * k))
        if running is not None:
            images.append(running.wait())
        running = following
    assert running is not None
    return np.concatenate([made[bundle.spec.output.name] for made in [*images, running.wait()]])


@both_libraries
def test_nothing_is_allocated_between_the_tenth_and_the_hundredth_batch(start: Start, bundle: Bundle) -> None:
    machine = build_engine(start(), bundle)
    with open_trt_session(machine, bundle) as session:
        run_batches(session, bundle, 10)
        before = len(machine.cuda.calls)
        run_batches(session, bundle, 90)
        calls = machine.cuda.calls[before:]
    made = {call for call in calls if "allocate" in call or "create" in call or call in ("begin_building", "complete")}
    assert made == set() and calls.count("graph.launch") == 90 and "execute_async_v3" not in calls


@both_libraries
def test_closing_frees_all_memory(start: Start, bundle: Bundle) -> None:
    machine = build_engine(start(), bundle)
    session = open_trt_session(machine, bundle)
    run_batches(session, bundle, 5)
    session.submit(draw_batch(bundle, 4))
    assert machine.cuda.used > 0
    session.close()
    assert machine.cuda.used == 0 and machine.cuda.memory == {}


def select_work(work: list[Work], what: str) -> list[Work]:
    return [one for one in work if one.what == what]


@both_libraries
def test_the_order_of_the_streams(start: Start, bundle: Bundle) -> None:
    """A batch comes after its copy in, a copy out after its batch but not after the next batch, and a slot is reused
    only after its results were copied out."""
    machine = build_engine(start(), bundle)
    with open_trt_session(machine, bundle) as session:
        run_batches(session, bundle, 4)
        machine.cuda.work.clear()
        run_batches(session, bundle, 6)
        work = list(machine.cuda.work)
    into, out = select_work(work, "copy host to device"), select_work(work, "copy device to host")
    graphs, aside = select_work(work, "graph"), select_work(work, "copy device to device")
    assert [len(kind) for kind in (into, graphs, aside, out)] == [6, 6, 6, 6]
    for k in range(6):
        assert graphs[k].comes_after(into[k]) and aside[k].comes_after(graphs[k]) and out[k].comes_after(aside[k])
        assert out[k].stream != graphs[k].stream == into[k].stream
    for k in range(5):
        assert not out[k].comes_after(graphs[k + 1])
    for k in range(4):
        slots = [one.buffers[1] for one in (aside[k], aside[k + 1], aside[k + 2])]
        assert slots[0] == slots[2] != slots[1]


@both_libraries
def test_the_second_batch_is_enqueued_before_the_first_is_done(start: Start, bundle: Bundle) -> None:
    machine = build_engine(start(), bundle)
    with open_trt_session(machine, bundle) as session:
        run_batches(session, bundle, 4)
        machine.cuda.work.clear()
        first, second = session.submit(draw_batch(bundle, 2)), session.submit(draw_batch(bundle, 2))
        assert not any(one.done for one in machine.cuda.work)
        first.wait()
        out = select_work(machine.cuda.work, "copy device to host")
        assert out[0].done and not out[1].done
        second.wait()


@both_libraries
def test_results_that_were_not_fetched_yet_survive_later_batches(start: Start, bundle: Bundle) -> None:
    machine = build_engine(start(), bundle)
    with open_trt_session(machine, bundle) as session:
        name = bundle.spec.output.name
        right = [session.submit(draw_batch(bundle, 2, k)).wait()[name] for k in range(5)]
        pending = [session.submit(draw_batch(bundle, 2, k)) for k in range(5)]
        for in_flight, images in zip(pending, right, strict=True):
            assert np.array_equal(in_flight.wait()[name], images)


@both_libraries
def test_device_arrays_are_ordered_behind_the_work_that_makes_them(start: Start, bundle: Bundle) -> None:
    machine = build_engine(start(), bundle)
    with open_trt_session(machine, bundle) as session:
        name = bundle.spec.output.name
        right = session.submit(draw_batch(bundle, 2)).wait()[name]
        array = session.submit(draw_batch(bundle, 2)).device_arrays()[name]
        consumer = machine.cuda.make["Stream"](machine.cuda)
        assert array.__dlpack_device__() == (2, 0) and array.shape == right.shape
        capsule = array.__dlpack__(stream=consumer.handle, max_version=(1, 0))
        assert capsule is not None and consumer._last.what == "wait"
        made = select_work(machine.cuda.work, "copy device to device")[-1]
        assert not made.done and consumer._last.comes_after(made)
        before = len(machine.cuda.work)
        array.__dlpack__(stream=-1)
        assert len(machine.cuda.work) == before
        with pytest.raises(BufferError, match="device memory is shared without a copy"):
            array.__dlpack__(copy=True)
        assert np.array_equal(np.from_dlpack(array, device="cpu"), right)


def gives_wrong_images(machine: FakeMachine, bundle: Bundle) -> bool:
    """Whether batches are wrong when two of them are in flight, or five."""
    with (
        open_session(bundle, SessionConfig("onnxruntime", device="cpu")) as cpu,
        open_trt_session(machine, bundle) as session,
    ):
        right = run_batches(cpu, bundle, 10)
        found = [run_batches(session, bundle, 10)]
        pending = [session.submit(draw_batch(bundle, 2, 2 * k)) for k in range(5)]
        found += [in_flight.wait()[bundle.spec.output.name] for in_flight in pending]
    return not np.allclose(np.concatenate(found), np.concatenate([right, right[:10]]), atol=1e-5)


def no_wait_before_the_copy_out(machine: FakeMachine) -> None:
    machine.cuda.make["Stream"].wait = lambda self, event: None


def results_read_without_waiting(machine: FakeMachine) -> None:
    machine.modules["ganrt.gpu.double_buffering"].wait_for_event = lambda event, deadline: None


def slots_reused_too_early(machine: FakeMachine) -> None:
    machine.modules["ganrt.gpu.double_buffering"].BufferSlot.collect_batch = lambda self, deadline: None


def one_slot(machine: FakeMachine) -> None:
    machine.modules["ganrt.gpu.session"]._SLOTS = 1
    slots_reused_too_early(machine)


def no_staging_buffers(machine: FakeMachine) -> None:
    """Copies out read the program's own outputs, which the next batch overwrites."""
    buffers: Any = machine.modules["ganrt.gpu.double_buffering"].Buffers
    allocate_for = buffers.allocate_for

    def share_outputs(self: Any, inputs: Any, outputs: Any) -> None:
        allocate_for(self, inputs, outputs)
        self.staging = {name: self.program.outputs[name] for name in outputs}

    buffers.allocate_for = share_outputs


@both_libraries
@pytest.mark.parametrize(
    "change",
    [no_wait_before_the_copy_out, results_read_without_waiting, slots_reused_too_early, one_slot, no_staging_buffers],
)
def test_the_fakes_find_a_missing_wait(start: Start, change: Callable[[FakeMachine], None], bundle: Bundle) -> None:
    found = []
    for seed in (None, 0, 1, 2):
        assert not gives_wrong_images(build_engine(start(seed=seed), bundle), bundle)
        machine = build_engine(start(seed=seed), bundle)
        change(machine)
        found.append(gives_wrong_images(machine, bundle))
    assert any(found)


@both_libraries
def test_a_program_keeps_its_scratch_memory_alive(start: Start, bundle: Bundle) -> None:
    """cuda-core frees a buffer that nobody refers to, and the context would go on using it."""
    machine = build_engine(start(), bundle)
    with open_trt_session(machine, bundle) as session:
        run_batches(session, bundle, 1)
        programs: Any = session._programs  # type: ignore[attr-defined]
        (program,) = programs._cache
        scratch = programs._scratch._buffers
        references = [weakref.ref(buffer) for buffer in scratch.values()]
        scratch.clear()
        gc.collect()
        assert len(references) == 1 and program.size == 2
        assert references[0]() is not None
        scratch[program.profile] = references[0]()


@pytest.mark.parametrize("lean", [False, True])
def test_doctor_reports_which_library_is_installed(start: Start, lean: bool) -> None:
    from ganrt.cli.doctor import run_checks

    start("10.16.1", lean=lean)
    (found,) = [check for check in run_checks() if check.subject == "tensorrt"]
    what = "the lean runtime, which builds no engines" if lean else "with its builder"
    assert found.passed and found.text == f"TensorRT 10.16.1.11, {what}"


@both_libraries
def test_threads_share_a_generator_and_generators_a_gpu(start: Start, bundle: Bundle) -> None:
    machine = build_engine(start(), bundle)
    name = machine.backend_name
    with (
        ganrt.load(bundle.folder, "onnxruntime", device="cpu") as cpu,
        ganrt.load(bundle.folder, name, device="cuda") as one,
        ganrt.load(bundle.folder, name, device="cuda") as other,
        ThreadPoolExecutor(4) as threads,
    ):
        right = cpu.sample(40, seed=9).astype(int)
        jobs = [threads.submit(one.sample, 5, 9, start=5 * k) for k in range(8)]
        assert np.abs(np.concatenate([job.result() for job in jobs]) - right).max() <= 1
        assert np.abs(other.sample(40, seed=9) - right).max() <= 1
    assert machine.cuda.used == 0


def test_the_lean_runtime_runs_engines_of_the_full_library(start: Start, bundle: Bundle) -> None:
    build_engine(start("8.6.0"), bundle, version_compatible=True)
    build_engine(start("10.16.1"), bundle, version_compatible=True)
    machine = start("10.16.1", lean=True)
    with open_trt_session(machine, bundle) as session:
        assert session.details["runtime"] == "lean"
    check_backend(machine.backend, bundle, device="cuda", life_cycle=False)  # the fakes are in this process alone
