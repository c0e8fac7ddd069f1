"""The steps on a GPU machine: the runner, and the checks over the fakes of CUDA and NVIDIA's libraries."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from fakes import gpu_checks
from fakes.gpu import FakeMachine, Start, start

from ganrt import machine as machine_facts
from ganrt.backend import Ready
from ganrt.bench.gpu import (
    bundles,
    engine_checks,
    kernel_checks,
    ort_checks,
    rtx_checks,
    runner,
    session_checks,
    steps,
    trt_checks,
)
from ganrt.bench.gpu.runner import Check, GpuNeededError, Outcome, Setting
from ganrt.bundle import Bundle
from ganrt.cli.main import main as ganrt_main
from ganrt.errors import BackendError, MachineError
from ganrt.export import export

__all__ = ["start"]


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    """On a machine with a GPU."""
    return Setting(tmp_path / "bundles", tmp_path, rehearsal=False)


def run(setting: Setting, *acts: Callable[[Setting], str], limit: float = 60.0) -> list[Outcome]:
    checks = [Check(act.__name__, act, limit) for act in acts]
    return runner.run_checks("Some checks", checks, setting, setting.results / gpu_checks.RECORD)


def test_a_failed_check_is_recorded_and_the_next_one_runs(setting: Setting) -> None:
    acts = (gpu_checks.fail, gpu_checks.fail_elsewhere, gpu_checks.crash, gpu_checks.stop, gpu_checks.count_outcomes)
    outcomes = run(setting, *acts)
    assert [(outcome.state, outcome.text) for outcome in outcomes] == [
        ("failed", "BackendError: the images differ"),
        ("failed", "ValueError: first line"),
        ("failed", "its process was killed by SIGSEGV"),
        ("failed", "its process ended with exit code 7"),
        ("passed", "4"),
    ]
    record = json.loads((setting.results / gpu_checks.RECORD).read_text())
    assert [outcome["check"] for outcome in record["outcomes"]] == [act.__name__ for act in acts]
    assert record["machine"]["libraries"]["ganrt"] and record["date"].startswith("20") and not record["rehearsal"]
    assert all(outcome["seconds"] > 0 for outcome in record["outcomes"])


def test_a_check_runs_in_a_process_of_its_own(setting: Setting) -> None:
    first, second = run(setting, gpu_checks.name_process, gpu_checks.name_process)
    assert len({first.text, second.text, str(os.getpid())}) == 3


def test_a_record_has_no_paths_of_the_machine(setting: Setting) -> None:
    assert [outcome.text for outcome in run(setting, gpu_checks.name_paths)] == ["x.ganrt, ~/.cache"]


def test_a_check_that_takes_too_long_ends_with_what_it_started(setting: Setting) -> None:
    outcomes = run(setting, gpu_checks.hang, gpu_checks.count_outcomes, limit=4.0)
    assert [outcome.text for outcome in outcomes] == ["it took longer than 4 s", "1"]
    status = Path("/proc") / (setting.results / "child").read_text() / "stat"
    assert not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_rehearsal_says_what_needs_the_gpu(setting: Setting) -> None:
    rehearsal = Setting(setting.bundles, setting.results, rehearsal=True)
    assert runner.run_here(gpu_checks.need_gpu, rehearsal) == ("needs a GPU", "two graphs read")
    assert runner.run_here(gpu_checks.need_gpu, setting) == ("passed", "ran on the GPU")
    assert (rehearsal.device, setting.device) == ("cpu", "cuda")


def invoke(monkeypatch: pytest.MonkeyPatch, folder: Path, *options: str, act: Any = gpu_checks.need_gpu) -> Any:
    table = {"1": steps.Step("Some checks", (Check("one [check]", act), Check("two", gpu_checks.need_gpu)))}
    monkeypatch.setattr(steps, "STEPS", table)
    return CliRunner().invoke(steps.main, ["1", str(folder / "results"), *options])


def test_without_a_gpu_it_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = invoke(monkeypatch, tmp_path)
    assert done.exit_code == 1 and not (tmp_path / "results").exists()
    assert "this machine has no NVIDIA GPU; --rehearse runs each check as far as it goes" in done.output


def test_a_step_ends_with_a_table_and_an_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = invoke(monkeypatch, tmp_path, "--rehearse")
    assert done.exit_code == 0 and done.stdout.startswith("Step 1: Some checks")
    assert "one [check]" in done.stdout and "two graphs read" in done.stdout and "needs a GPU" in done.stdout
    record = json.loads((tmp_path / "results" / "step-1.json").read_text())
    assert record["rehearsal"] and len(record["outcomes"]) == 2
    done = invoke(monkeypatch, tmp_path, "--rehearse", act=gpu_checks.fail)
    assert done.exit_code == 1 and "BackendError: the images differ" in done.stdout and "two graphs" in done.stdout


def test_the_names_of_checks_are_unique() -> None:
    for step in steps.STEPS.values():
        names = [check.name for check in step.checks]
        assert len(set(names)) == len(names)


def test_a_missing_bundle_names_the_command(setting: Setting) -> None:
    with pytest.raises(MachineError, match=r"labels\.ganrt is not there; make it with `make gpu-bundles`"):
        bundles.list_bundles(setting.bundles)


def add_late(cuda: Any, config: Any, memory: Any, count: Any, added: Any, cycles: Any) -> None:
    cuda.get_memory(memory._address).view(np.float32)[: int(count)] += added


def test_step_1_compares_the_device_with_the_host(start: Start, setting: Setting) -> None:
    machine = start()
    machine.cuda.kernels["ganrt_add_late"] = add_late
    assert "gpu NVIDIA Fake 100" in kernel_checks.report_gpu(setting)
    assert kernel_checks.compare_draws(setting) == "21 draws, 774880 values, all bits equal"
    assert kernel_checks.compare_pictures(setting).startswith("36 launches, all bits equal")
    assert "5 replays of a graph" in kernel_checks.order_streams(setting)


@pytest.mark.parametrize(
    ("kernel", "act", "message"),
    [
        ("ganrt_uniform", kernel_checks.compare_draws, "uniform of Draw"),
        ("ganrt_label_int64", kernel_checks.compare_draws, "index of Draw"),
        ("ganrt_label_int32", kernel_checks.compare_draws, "index of Draw"),
        ("ganrt_pictures", kernel_checks.compare_pictures, "the pictures of"),
        ("ganrt_add_late", kernel_checks.order_streams, "what the second stream reads"),
    ],
)
def test_one_wrong_bit_is_found(kernel: str, act: Any, message: str, start: Start, setting: Setting) -> None:
    machine = start()
    machine.cuda.kernels["ganrt_add_late"] = add_late
    right = machine.cuda.kernels[kernel]

    def flip(cuda: Any, config: Any, first: Any, *others: Any) -> None:
        right(cuda, config, first, *others)
        written = others[0] if kernel == "ganrt_pictures" else first
        cuda.get_memory(written._address)[0] ^= 1

    machine.cuda.kernels[kernel] = flip
    with pytest.raises(BackendError, match=rf"{message}.*bytes of \d+ differ between the device and the host"):
        act(setting)


def test_images_that_are_not_finite_must_be_marked(start: Start, setting: Setting) -> None:
    machine = start()
    right = machine.cuda.kernels["ganrt_pictures"]

    def forget(cuda: Any, config: Any, image: Any, pictures: Any, finiteness: Any, *others: Any) -> None:
        right(cuda, config, image, pictures, finiteness, *others)
        cuda.get_memory(finiteness._address)[:] = 0

    machine.cuda.kernels["ganrt_pictures"] = forget
    with pytest.raises(BackendError, match="the marks of images with nan"):
        kernel_checks.compare_pictures(setting)


@pytest.fixture(scope="module")
def lowered(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of bundles as `bundles` writes it, each the same tiny generator."""
    folder = tmp_path_factory.mktemp("lowered")
    first = export(
        str(bundle.folder.with_suffix(".pth")), folder / "dcgan-64.ganrt", precisions=("fp32", "fp16", "int8")
    ).folder
    for name in ("labels", "pictures"):
        shutil.copytree(first, folder / f"{name}.ganrt")
    return folder


def run_in_process(*arguments: str) -> tuple[int, str, str]:
    """`engine_checks.run_ganrt` over the fakes, which another process would not have."""
    done = CliRunner().invoke(ganrt_main, list(arguments))
    return done.exit_code, done.stdout.strip(), done.stderr.strip().rpartition("error: ")[2]


def prepare(machine: FakeMachine, lowered: Path, results: Path, monkeypatch: pytest.MonkeyPatch) -> Setting:
    monkeypatch.setenv("CUDA_CACHE_DISABLE", "0")  # put back after the test
    monkeypatch.setattr(engine_checks, "run_ganrt", run_in_process)
    monkeypatch.setattr(trt_checks, "run_ganrt", run_in_process)
    monkeypatch.setattr(engine_checks, "BATCHES", (1, 2))
    monkeypatch.setattr(session_checks, "BATCHES", (1, 2))
    monkeypatch.setattr(session_checks, "ROUNDS", (1, 0.0))
    return Setting(lowered, results, rehearsal=False)


def test_step_2_over_the_fakes(start: Start, lowered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = prepare(start("rtx-1.7.1"), lowered, tmp_path, monkeypatch)
    built = [rtx_checks.compile_variants(setting, "dcgan-64", precision) for precision in ("fp32", "fp16", "int8")]
    assert all("proven on NVIDIA Fake 4090" in text for text in built)
    variants = engine_checks.list_variants(setting, "tensorrt-rtx")
    assert {"fp16-phases", "fp16-traced"} < set(variants)
    for check in rtx_checks.CHECKS:
        if check.name.startswith(("compile", "DLPack")):
            continue
        text = check.act(setting)
        if check.name == "start without compiled kernels":
            assert "bytes of kernels" in text
    files = {file.name for file in tmp_path.glob("tensorrt-rtx-*.json")}
    assert files == {f"tensorrt-rtx-{variant}.json" for variant in variants}
    assert "Layers" in json.loads((tmp_path / "tensorrt-rtx-fp32.json").read_text())


def test_a_cold_start_compiles_the_kernels_again(
    start: Start, lowered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = start("rtx-1.7.1")
    setting = prepare(machine, lowered, tmp_path, monkeypatch)
    rtx_checks.compile_variants(setting, "dcgan-64", "fp16")
    compiled = []
    for kernels in (True, False, True):
        before = len(machine.trt.compiled)
        text = engine_checks.time_start(setting, "tensorrt-rtx", kernels)
        compiled.append(len(machine.trt.compiled) - before)
        assert re.search(r"opened in \d+ ms, first batch \d+ ms, \d+ bytes of kernels$", text)
    assert compiled == [0, 1, 0]


def test_a_command_that_crashes_names_the_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    crashed = subprocess.CompletedProcess([], -11, stdout="", stderr="50% compiling\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: crashed)
    assert engine_checks.run_ganrt("build") == (-11, "", "it was killed by SIGSEGV")
    failed = subprocess.CompletedProcess([], 3, stdout="", stderr="10% done\nerror: no GPU\nlater\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    assert engine_checks.run_ganrt("build") == (3, "", "no GPU")


def test_a_graph_that_cannot_be_captured_fails_the_check(
    start: Start, lowered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = start("rtx-1.7.1")
    setting = prepare(machine, lowered, tmp_path, monkeypatch)
    rtx_checks.compile_variants(setting, "dcgan-64", "fp32")
    variant = engine_checks.list_variants(setting, "tensorrt-rtx")[0]
    assert session_checks.check_graphs(setting, "tensorrt-rtx", variant) == f"{variant} for batches of 1, 2"
    machine.trt.capturable = False
    with pytest.raises(BackendError, match=f"{variant}: a batch of 1 cannot be captured as a CUDA graph"):
        session_checks.check_graphs(setting, "tensorrt-rtx", variant)


@pytest.mark.parametrize("version", ["8.6.0", "10.16.1"])
def test_step_4_over_the_fakes(
    version: str, start: Start, lowered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = prepare(start(version), lowered, tmp_path, monkeypatch)
    found = {check.name: check.act(setting) for check in trt_checks.CHECKS}
    assert "proven on NVIDIA Fake 100" in found["build dcgan-64, fp16"]
    assert found["TensorRT is there"].startswith(f"TensorRT {version}")
    if version == "8.6.0":
        assert "cannot refit" in found["refit"] and found["refit"].startswith("refused, exit code")
    else:
        assert "proven on" in found["refit"]


def test_a_build_that_fails_is_reported_with_its_error(
    start: Start, lowered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = start()
    setting = prepare(machine, lowered, tmp_path, monkeypatch)
    machine.trt.build_errors = ["no memory for a tactic"]
    with pytest.raises(BackendError, match=r"MachineError: dcgan-64, fp16-\w+: .*no memory for a tactic"):
        trt_checks.build_variants(setting, "dcgan-64", "fp16")


def test_the_variants_after_a_failed_one_still_run() -> None:
    def act(variant: str) -> str:
        if variant == "b":
            raise ValueError("odd")
        return variant

    with pytest.raises(BackendError, match=r"^ValueError: odd; a; c$"):
        session_checks.run_each(act, ["a", "b", "c"])
    assert session_checks.run_each(act, ["a", "c"]) == "a; c"


def test_a_rehearsal_of_engines_needs_no_library(lowered: Path, tmp_path: Path) -> None:
    rehearsal = Setting(lowered, tmp_path, rehearsal=True)
    for check in (*rtx_checks.CHECKS, *trt_checks.CHECKS):
        if not check.name.startswith(("compile", "build", "TensorRT is there")):
            with pytest.raises(GpuNeededError):
                check.act(rehearsal)


def test_a_rehearsal_of_builds_expects_the_sentence_of_ganrt_build(
    start: Start, lowered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(start(), lowered, tmp_path, monkeypatch)
    rehearsal = Setting(lowered, tmp_path, rehearsal=True)
    with pytest.raises(BackendError, match="ended with exit code 0"):  # there is a GPU
        trt_checks.build_variants(rehearsal, "labels", "fp32")
    monkeypatch.setattr(machine_facts, "_NVIDIA_NODES", ())
    with pytest.raises(GpuNeededError, match=r"^ganrt build: .*this machine has no NVIDIA GPU"):
        trt_checks.build_variants(rehearsal, "labels", "fp32")
    monkeypatch.setattr(trt_checks, "run_ganrt", lambda *_: (MachineError.exit_code, "", "needs onnx-ir"))
    with pytest.raises(BackendError, match="ended with exit code 3: needs onnx-ir"):
        trt_checks.build_variants(rehearsal, "labels", "fp32")


class DriftingSession:
    """Makes other images each time."""

    batch_sizes = (1,)

    def __init__(self, name: str) -> None:
        self._name, self._runs = name, 0

    def submit(self, feeds: Any) -> Ready:
        self._runs += 1
        return Ready({self._name: np.full((1, 3, 2, 2), 0.01 * self._runs, np.float32)})

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def test_a_replay_that_makes_other_images_fails_the_check(
    lowered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = Setting(lowered, tmp_path, rehearsal=False)
    name = Bundle.read(lowered / "dcgan-64.ganrt").spec.output.name
    monkeypatch.setattr(session_checks, "open_session", lambda *_: DriftingSession(name))
    with pytest.raises(BackendError, match=r"fp32: run 5 of a batch of 1 differs from the first by 0\.04"):
        session_checks.check_graphs(setting, "tensorrt", "fp32")


def test_a_proof_that_fails_fails_the_check(lowered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rehearsal = Setting(lowered, tmp_path, rehearsal=True)
    prove = session_checks.prove
    assert session_checks.prove_variant(rehearsal, "onnxruntime", "labels", "fp32").startswith("fp32 1")

    def fail(*arguments: Any) -> Any:
        comparison = prove(*arguments)
        return replace(comparison, proof=replace(comparison.proof, failures=("sample 3: 12 dB",)))

    monkeypatch.setattr(session_checks, "prove", fail)
    with pytest.raises(BackendError, match="fp32: sample 3: 12 dB"):
        session_checks.prove_variant(rehearsal, "onnxruntime", "labels", "fp32")


def test_step_3_is_rehearsed_on_the_cpu(lowered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rehearsal = Setting(lowered, tmp_path, rehearsal=True)
    monkeypatch.setattr(session_checks, "ROUNDS", (1, 0.0))
    monkeypatch.setattr(session_checks, "BATCHES", (1, 2))
    for check in ort_checks.CHECKS:
        with pytest.raises(GpuNeededError):
            check.act(rehearsal)
    assert session_checks.format_rate([2.0, 4.0, 3.0]) == "3/s [2 to 4]"
