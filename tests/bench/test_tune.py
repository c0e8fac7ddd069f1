"""`tune`: which setups enter, what is remembered and what is shown; with fake processes, and once with real ones."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fakes.workers import Behaviour, FakeClock, FakeWorker, fake_processes
from helpers.optional import unwrap
from helpers.reports import ENVIRONMENT
from rich.console import Console

import ganrt
from ganrt import choosing, tuned
from ganrt.backend import BACKENDS
from ganrt.bench import TuningResult, print_tuning, tune, tuning
from ganrt.bench.cases import Setup
from ganrt.bench.results import BUSY
from ganrt.bench.statistics import Estimate
from ganrt.bench.tuning import Verdict
from ganrt.bench.worker import Failure
from ganrt.bundle import Bundle
from ganrt.session_config import SessionConfig
from ganrt.trust import make_refusal

FAST = {"int8": 2.0, "bf16": 4.0, "fp32": 9.0}
FakeWorkers = Callable[[Callable[[Setup], Behaviour]], list[FakeWorker]]
PSNR = {"int8": 36.4, "bf16": 47.7, "fp32": 120.0}


@pytest.fixture
def four_variants(bundle: Bundle) -> Bundle:
    """The bundle as if it had more variants; no test loads them."""
    plain = replace(bundle.variants["fp32"], proofs=())
    variants = {
        "fp32": plain,
        "fp32-phases": replace(plain, fewer_macs=True),
        "bf16-phases": replace(plain, precision="bf16", fewer_macs=True),
        "int8-phases": replace(plain, precision="int8", fewer_macs=True),
    }
    return replace(bundle, variants=variants)


@pytest.fixture
def fake_workers(monkeypatch: pytest.MonkeyPatch) -> FakeWorkers:
    """Replace the worker processes by fakes. Returns the list of those that are started. Four cores, all physical, on a
    machine where nothing else runs."""

    def install(behaviour: Callable[[Setup], Behaviour]) -> list[FakeWorker]:
        clock = FakeClock()
        start, started = fake_processes(clock, behaviour)
        monkeypatch.setattr(tuning, "Worker", start)
        monkeypatch.setattr(tuning.clock, "now_ns", clock)
        monkeypatch.setattr(tuning, "usable_cores", lambda: 4)
        use_cpu(monkeypatch, 0.0)
        monkeypatch.setattr(tuning, "count_physical_cores", lambda: 4)
        return started

    return install


def use_cpu(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    """Other programs use this share of the CPU while `tune` measures."""
    environment = replace(ENVIRONMENT, foreign_share=share)
    monkeypatch.setattr(tuning, "MachineMonitor", lambda: SimpleNamespace(finish=lambda: environment))


def by_precision(setup: Setup) -> Behaviour:
    """A machine on which OpenVINO is a little faster than the others, and one thread is faster still."""
    config = setup.config
    precision = config.variant.partition("-")[0]
    ms = FAST[precision] * (1 if config.backend == "openvino" else 1.2) * (1 if config.variant != precision else 1.1)
    return Behaviour(ms * (0.8 if config.options.get("threads") == 1 else 1), psnr=PSNR[precision], precision=precision)


def list_names(started: list[FakeWorker]) -> list[str]:
    return [worker.setup.name for worker in started]


def test_the_untuned_setup_comes_first_then_the_likely_fast_ones_then_threads(
    four_variants: Bundle, fake_workers: FakeWorkers
) -> None:
    started = fake_workers(by_precision)
    result = tune(four_variants, quality=30, seconds=600, backends=["onnxruntime", "openvino", "pytorch"])
    assert list_names(started) == [
        "openvino fp32-phases",
        *("onnxruntime int8-phases", "openvino int8-phases", "openvino bf16-phases", "onnxruntime fp32-phases"),
        *("onnxruntime", "openvino", "pytorch"),
        *(f"onnxruntime int8-phases {option}" for option in ("threads=1", "threads=2", "spin=True")),
        *(f"openvino int8-phases {option}" for option in ("threads=1", "threads=2")),
    ]  # some of the others have been dropped, so their threads are not tried
    assert result.untuned == "openvino fp32-phases"
    assert {v.winner for v in result.verdicts} == {"openvino int8-phases threads=1"}
    assert [v.batch for v in result.verdicts] == [1, 8, 32]
    assert all(5 < unwrap(v.speedup).value < 8 for v in result.verdicts)
    assert all(worker.closed for worker in started)


def test_on_a_gpu_the_options_of_the_provider_are_measured(four_variants: Bundle, fake_workers: FakeWorkers) -> None:
    def behaviour(setup: Setup) -> Behaviour:
        options = setup.config.options
        return replace(by_precision(setup), device="cuda:0", ms=5.0 if options.get("prefer_nhwc") else 10.0)

    started = fake_workers(behaviour)
    result = tune(four_variants, quality=60, seconds=600, backends=["onnxruntime"])
    tried = [name for name in list_names(started) if name.startswith("onnxruntime fp32-phases ")]
    assert tried == [
        "onnxruntime fp32-phases prefer_nhwc=True",
        "onnxruntime fp32-phases search=EXHAUSTIVE",
        "onnxruntime fp32-phases prefer_nhwc=True search=EXHAUSTIVE",
    ]
    assert all("prefer_nhwc=True" in str(verdict.winner) for verdict in result.verdicts)


@pytest.mark.parametrize("gpu", [False, True])
def test_what_is_made_for_gpus_is_measured_on_a_gpu_alone(
    gpu: bool, four_variants: Bundle, fake_workers: FakeWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "has_nvidia_gpu", lambda: gpu)
    half = replace(four_variants.variants["int8-phases"], for_gpu=True)
    bundle = replace(four_variants, variants={**four_variants.variants, "int8-half-phases": half})
    started = fake_workers(lambda setup: replace(by_precision(setup), device="cuda:0" if gpu else "cpu"))
    result = tune(bundle, quality=30, seconds=600, backends=["onnxruntime", "openvino"])
    tried = {name for name in list_names(started) if "half" in name and "=" not in name}
    assert tried == ({"onnxruntime int8-half-phases"} if gpu else set())
    assert not any("half" in name for name in result.left_out)


@pytest.mark.parametrize(
    ("quality", "wanted", "excluded"),
    [
        (60.0, "openvino fp32-phases threads=1", {"int8", "bf16"}),
        (40.0, "openvino bf16-phases threads=1", {"int8"}),
        (36.4, "openvino int8-phases threads=1", set()),
    ],
)
def test_the_quality_decides_which_precisions_take_part(
    quality: float, wanted: str, excluded: set[str], four_variants: Bundle, fake_workers: FakeWorkers
) -> None:
    fake_workers(by_precision)
    result = tune(four_variants, quality=quality, seconds=600)
    assert {v.winner for v in result.verdicts} == {wanted}
    poor = {name for name, reason in result.left_out.items() if "dB are required" in reason}
    assert {name.split()[1].partition("-")[0] for name in poor} == excluded
    assert {c.precision for c in result.record.choices}.isdisjoint(excluded)


def test_a_baseline_is_tuned_only_if_it_is_named(
    four_variants: Bundle, fake_workers: FakeWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BACKENDS, "openvino", BACKENDS["openvino"]._replace(baseline=True))
    started = fake_workers(by_precision)
    tune(four_variants, quality=30, seconds=600)
    assert {name.split()[0] for name in list_names(started)} == {"onnxruntime", "ncnn", "pytorch", "mnn"}
    started.clear()
    tune(four_variants, quality=30, seconds=600, backends=["openvino"])
    assert "openvino int8-phases" in list_names(started)


def test_a_recorded_refusal_is_not_tried(four_variants: Bundle, fake_workers: FakeWorkers) -> None:
    started = fake_workers(by_precision)
    config = SessionConfig("openvino", "int8-phases")
    refusal = make_refusal(four_variants, config, "cannot load int8-phases: no rule for Det")
    result = tune(four_variants.with_proofs("int8-phases", (refusal,)), quality=30, seconds=600)
    assert "openvino int8-phases" not in list_names(started)
    assert result.left_out["openvino int8-phases"] == "it cannot load int8-phases: no rule for Det"


def test_the_bundles_own_record_rules_setups_out_without_loading_them(
    four_variants: Bundle, fake_workers: FakeWorkers, bundle: Bundle
) -> None:
    proof = replace(bundle.variants["fp32"].proofs[0], backend="openvino", worst_psnr=36.4)
    refused = replace(proof, backend="onnxruntime", key="of another machine", worst_psnr=-1e9, failures=("flat",))
    int8 = replace(four_variants.variants["int8-phases"], proofs=(proof, refused))
    recorded = replace(four_variants, variants={**four_variants.variants, "int8-phases": int8})
    started = fake_workers(by_precision)
    result = tune(recorded, quality=40, seconds=600)
    assert "openvino int8-phases" not in list_names(started) and "onnxruntime int8-phases" in list_names(started)
    assert result.left_out["openvino int8-phases"] == "36.4 dB in the bundle's record, but 40 dB are required"


def test_the_record_is_remembered_for_load(four_variants: Bundle, fake_workers: FakeWorkers) -> None:
    fake_workers(by_precision)
    result = tune(four_variants, quality=30, seconds=600, batches=[8, 2])
    record = unwrap(tuned.find_record(four_variants))
    assert record == result.record
    assert sorted(record.winners) == [2, 8]
    choice, reason = unwrap(record.pick(None))
    assert str(choice) == "openvino int8-phases threads=1" and choice.worst_psnr == 36.4
    assert reason.endswith("the fastest at each of batch 2, 8")
    assert tuned.Tuned.from_dict(json.loads(result.to_json())["record"]) == record


def test_a_short_measurement_is_provisional_and_does_not_replace_a_decided_one(
    four_variants: Bundle, fake_workers: FakeWorkers
) -> None:
    fake_workers(by_precision)
    short = tune(four_variants, quality=30, seconds=2, batches=[1, 8])
    assert short.record.undecided == (1, 8) and not short.record.disturbed
    assert {v.winner for v in short.verdicts} == {"openvino fp32-phases"}, "what load opens without tuning"
    assert {v.reason for v in short.verdicts} == {"the time ran out before onnxruntime int8-phases could be ruled out"}
    assert tuned.find_record(four_variants) == short.in_use == short.record
    decided = tune(four_variants, quality=30, seconds=600, batches=[1, 8])
    assert not decided.record.provisional and decided.record.boot == ""
    assert tuned.find_record(four_variants) == decided.in_use == decided.record
    again = tune(four_variants, quality=30, seconds=2, batches=[1, 8])
    assert again.record.provisional and again.in_use == decided.record == tuned.find_record(four_variants)
    assert tuned.Tuned.from_dict(json.loads(again.to_json())["in_use"]) == decided.record
    console = Console(width=160, no_color=True)
    with console.capture() as captured:
        print_tuning(again, console)
    shown = " ".join(captured.get().split())
    assert f"is provisional; the decided one of {decided.record.date[:10]} stays in use" in shown
    assert "load picks openvino int8-phases threads=1 from now on" in shown


@pytest.mark.parametrize(("share", "disturbed"), [(BUSY, False), (BUSY + 0.01, True)])
def test_a_disturbed_measurement_is_provisional(
    share: float, disturbed: bool, four_variants: Bundle, fake_workers: FakeWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_workers(by_precision)
    use_cpu(monkeypatch, share)
    result = tune(four_variants, quality=30, seconds=600)
    assert (result.record.disturbed, result.record.provisional, result.record.undecided) == (disturbed, disturbed, ())
    _, reason = unwrap(unwrap(tuned.find_record(four_variants)).pick(1))
    assert ("as other programs used the CPU: run `ganrt tune` again, while the machine is quiet" in reason) is disturbed


def test_backends_that_were_not_named_are_measured_for_comparison_only(
    four_variants: Bundle, fake_workers: FakeWorkers
) -> None:
    started = fake_workers(by_precision)
    result = tune(four_variants, backends=["pytorch"], seconds=600)
    assert list_names(started) == ["openvino fp32-phases", "pytorch", "pytorch threads=1", "pytorch threads=2"]
    assert {v.winner for v in result.verdicts} == {"pytorch threads=1"}
    assert {c.config.backend for c in result.record.choices} == {"pytorch"}
    assert unwrap(result.verdicts[0].speedup).value == pytest.approx(9 / (9 * 1.2 * 1.1 * 0.8), rel=0.03)


def test_a_missing_library_is_skipped(four_variants: Bundle, fake_workers: FakeWorkers) -> None:
    def behaviour(setup: Setup) -> Behaviour:
        missing = Failure("MissingLibraryError", "the openvino backend needs openvino")
        return replace(by_precision(setup), failure=missing if setup.config.backend == "openvino" else None)

    fake_workers(behaviour)
    result = tune(four_variants, quality=30, seconds=600)
    assert result.untuned == "onnxruntime fp32-phases"
    assert result.left_out["openvino"] == "not installed: the openvino backend needs openvino"


def test_a_worker_that_dies_is_left_out_with_its_reason(four_variants: Bundle, fake_workers: FakeWorkers) -> None:
    fake_workers(lambda s: replace(by_precision(s), dies_after=9 if s.config.options else 10**9))
    result = tune(four_variants, quality=30, seconds=600)
    assert result.left_out["openvino int8-phases threads=1"] == "failed: its process was killed by SIGKILL"
    assert {v.winner for v in result.verdicts} == {"openvino int8-phases"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seconds": 0}, "0 seconds were asked for; give a number above 0"),
        ({"quality": -1}, "a quality of -1 dB was asked for; give a number from 0"),
        ({"quality": float("nan")}, "a quality of nan dB was asked for"),
        ({"batches": [0]}, "the batch sizes are"),
        ({"batches": [1, 64]}, "a batch of 64 was asked for; this model computes at most 32 images at a time"),
        ({"backends": ["abacus"]}, "there is no backend 'abacus'"),
        ({"size": (16, 16)}, "a picture size was given, but this dcgan model takes no picture"),
    ],
)
def test_invalid_arguments_start_no_process(
    arguments: dict[str, Any], message: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "Worker", None)
    with pytest.raises(ganrt.RequestError, match=message):
        tune(bundle.folder, **arguments)


def test_a_quality_that_nothing_reaches_is_an_error_with_what_was_found(
    four_variants: Bundle, fake_workers: FakeWorkers
) -> None:
    fake_workers(by_precision)
    with pytest.raises(ganrt.MachineError, match=r"(?s)nothing on this machine .* at 150 dB or more:.*pytorch: 120"):
        tune(four_variants, quality=150, seconds=60)
    assert tuned.find_record(four_variants) is None


def test_large_pictures_are_tuned_at_the_batches_that_fit(four_variants: Bundle) -> None:
    output = dataclasses.replace(four_variants.spec.output, size=(1024, 1024))
    assert tuning._check_batches(output, None) == [1, 5]
    assert tuning._check_batches(four_variants.spec.output, None) == [1, 8, 32]


RECORD = tuned.Tuned(
    key="k",
    quality=35.0,
    date="2026-11-25T22:00:00+00:00",
    versions={},
    choices=(
        tuned.TunedConfig(
            SessionConfig("openvino", "int8-phases", "cpu", {"threads": 2}),
            *("int8", 36.4),
            {1: tuned.Timing(0.003, 0.0029, 0.0031), 8: tuned.Timing(0.024, None, None)},
        ),
    ),
    winners={1: 0, 8: 0},
)
RESULT = TuningResult(
    bundle="faces.ganrt",
    record=RECORD,
    in_use=RECORD,
    untuned="onnxruntime fp32-phases",
    verdicts=(
        Verdict(1, "openvino int8-phases threads=2", Estimate(0.003, 0.0029, 0.0031), 36.4, Estimate(4.5, 4.4, 4.6),
                "all others are slower"),
        Verdict(8, "openvino int8-phases threads=2", Estimate(0.024, None, None), 36.4, None, "the time ran out"),
    ),
    left_out={"onnxruntime [fp32]": "first calls at least 5.0 times as slow as the best"},
    environment=replace(ENVIRONMENT, foreign_share=0.3),
    seconds=60.0,
)  # fmt: skip


def test_the_table_shows_winners_times_ratios_and_reasons() -> None:
    console = Console(width=160, no_color=True)
    with console.capture() as captured:
        print_tuning(RESULT, console)
    first, second = (line.split() for line in captured.get().splitlines() if line.lstrip().startswith(("1 ", "8 ")))
    shown = " ".join(captured.get().split())
    assert first[:8] == ["1", "openvino", "int8-phases", "threads=2", "3.00", "2.90-3.10", "333", "4.50x"]
    assert second[4:8] == ["24.0", "-", "333", "-"]
    assert "all others are slower" in shown
    assert "relative to onnxruntime fp32-phases, which load picks without tuning" in shown
    assert "onnxruntime [fp32] left out: first calls at least 5.0 times as slow as the best" in shown
    assert "warning other programs used 30% of the CPU" in shown
    assert "load picks openvino int8-phases threads=2 from now on (tuned on 2026-11-25 for 35 dB" in shown
    assert "provisional" not in shown


def test_a_real_bundle_is_tuned_and_load_opens_the_winner(bundle: Bundle, cache: Path) -> None:
    lines: list[str] = []
    result = tune(bundle.folder, batches=[1, 5], seconds=6, backends=["onnxruntime", "openvino"],
                   progress=lambda share, text: lines.append(text))  # fmt: skip
    assert lines[0] == f"loading {result.untuned}"
    assert {v.batch for v in result.verdicts} == {1, 5}
    choice, _ = unwrap(result.record.pick(5))
    with ganrt.load(bundle.folder, batch=5) as generator, ganrt.load(bundle.folder, "pytorch") as original:
        session = generator.session
        assert (session.backend, session.device) == (choice.config.backend, choice.config.device)
        assert session.details["threads"] == str(choice.config.options.get("threads", "default"))
        assert generator.seconds == choice.seconds
        assert np.abs(generator.sample(37, seed=7).astype(int) - original.sample(37, seed=7)).max() <= 1
    assert cache in next(cache.rglob("tuned/*.json")).parents
