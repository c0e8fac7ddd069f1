"""`ganrt tune`: which candidates there are, what is remembered, what is shown; with pretended processes, and once with
real ones."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes.workers import Clock, Model, Pretended, world
from helpers.reports import ENVIRONMENT
from rich.console import Console

import ganrt
from ganrt import tuned
from ganrt.bench import Outcome, print_tuned, tune, tuning
from ganrt.bench.cases import Setup
from ganrt.bench.statistics import Estimate
from ganrt.bench.tuning import Verdict
from ganrt.bench.worker import Failure
from ganrt.bundle import Bundle

FAST = {"int8": 2.0, "bf16": 4.0, "fp32": 9.0}
PSNR = {"int8": 36.4, "bf16": 47.7, "fp32": 120.0}


@pytest.fixture
def several(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """The bundle as if it had more variants; nothing loads them."""
    plain = replace(bundle.variants["fp32"], proofs=())
    variants = {
        "fp32": plain,
        "fp32-phases": replace(plain, lighter=True),
        "bf16-phases": replace(plain, precision="bf16", lighter=True),
        "int8-phases": replace(plain, precision="int8", lighter=True),
    }
    made = replace(bundle, variants=variants)
    monkeypatch.setattr(tuning.Bundle, "read", lambda path: made)
    return made


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Pretended]]:
    """Replace the processes by models; gives the list of those that are started. Four cores, all physical."""

    def install(behaviour: Callable[[Setup], Model]) -> list[Pretended]:
        clock = Clock()
        start, started = world(clock, behaviour)
        monkeypatch.setattr(tuning, "Worker", start)
        monkeypatch.setattr(tuning.clock, "now_ns", clock)
        monkeypatch.setattr(tuning, "usable_cores", lambda: 4)
        monkeypatch.setattr(tuning.psutil, "cpu_count", lambda logical: 4)
        return started

    return install


def by_precision(setup: Setup) -> Model:
    """A machine on which OpenVINO is a little faster than the others, and one thread faster still."""
    precision = setup.variant.partition("-")[0]
    ms = FAST[precision] * (1 if setup.backend == "openvino" else 1.2) * (1 if setup.variant != precision else 1.1)
    return Model(ms * (0.8 if ("threads", 1) in setup.options else 1), psnr=PSNR[precision], precision=precision)


def names(started: list[Pretended]) -> list[str]:
    return [worker.setup.name for worker in started]


def test_what_load_takes_comes_first_then_what_is_likely_to_be_fast_then_threads(several, pretend):
    started = pretend(by_precision)
    outcome = tune(several.folder, quality=30, seconds=600)
    assert names(started) == [
        "onnxruntime fp32-phases",
        *("onnxruntime int8-phases", "openvino int8-phases", "openvino bf16-phases", "openvino fp32-phases"),
        *("onnxruntime", "openvino", "pytorch"),
        *(f"{b} int8-phases threads={n}" for b in ("onnxruntime", "openvino") for n in (1, 2)),
    ]  # of the others some are hopeless by now, and so are their threads
    assert outcome.untuned == "onnxruntime fp32-phases"
    assert {v.winner for v in outcome.verdicts} == {"openvino int8-phases threads=1"}
    assert [v.batch for v in outcome.verdicts] == [1, 8, 32]
    assert all(5 < v.speedup.value < 8 for v in outcome.verdicts)
    assert all(worker.closed for worker in started)


def test_on_a_gpu_the_options_of_the_provider_are_measured(several, pretend):
    def behaviour(setup: Setup) -> Model:
        options = dict(setup.options)
        return replace(by_precision(setup), device="cuda:0", ms=5.0 if options.get("prefer_nhwc") else 10.0)

    started = pretend(behaviour)
    outcome = tune(several.folder, quality=60, seconds=600, backends=["onnxruntime"])
    tried = [name for name in names(started) if name.startswith("onnxruntime fp32-phases ")]
    assert tried == [
        "onnxruntime fp32-phases prefer_nhwc=True",
        "onnxruntime fp32-phases search=EXHAUSTIVE",
        "onnxruntime fp32-phases prefer_nhwc=True search=EXHAUSTIVE",
    ]
    assert all("prefer_nhwc=True" in str(verdict.winner) for verdict in outcome.verdicts)


@pytest.mark.parametrize(
    ("quality", "wanted", "excluded"),
    [
        (60.0, "openvino fp32-phases threads=1", {"int8", "bf16"}),
        (40.0, "openvino bf16-phases threads=1", {"int8"}),
        (36.4, "openvino int8-phases threads=1", set()),
    ],
)
def test_the_quality_says_which_precisions_take_part(quality, wanted, excluded, several, pretend):
    pretend(by_precision)
    outcome = tune(several.folder, quality=quality, seconds=600)
    assert {v.winner for v in outcome.verdicts} == {wanted}
    poor = {name for name, reason in outcome.left_out.items() if "dB are asked for" in reason}
    assert {name.split()[1].partition("-")[0] for name in poor} == excluded
    assert {c.precision for c in outcome.record.choices}.isdisjoint(excluded)


def test_the_bundles_own_record_spares_loading_what_is_too_poor(several, pretend, bundle):
    proofs = tuple(replace(bundle.variants["fp32"].proofs[0], backend=b, worst_psnr=36.4) for b in ("openvino",))
    recorded = {**several.variants, "int8-phases": replace(several.variants["int8-phases"], proofs=proofs)}
    several.variants.clear()
    several.variants.update(recorded)
    started = pretend(by_precision)
    outcome = tune(several.folder, quality=40, seconds=600)
    assert "openvino int8-phases" not in names(started) and "onnxruntime int8-phases" in names(started)
    assert outcome.left_out["openvino int8-phases"] == "36.4 dB in the bundle's record, where 40 dB are asked for"


def test_what_was_found_is_remembered_and_load_would_take_it(several, pretend):
    pretend(by_precision)
    outcome = tune(several.folder, quality=30, seconds=600, batches=[8, 2])
    record = tuned.find(several)
    assert record == outcome.record
    assert sorted(record.winners) == [2, 8]
    choice, reason = record.pick(None)
    assert str(choice) == "openvino int8-phases threads=1" and choice.worst_psnr == 36.4
    assert reason.endswith("the fastest at each of batch 2, 8")
    assert tuned.Tuned.from_dict(json.loads(outcome.to_json())["record"]) == record


def test_backends_that_were_not_named_are_measured_for_comparison_only(several, pretend):
    started = pretend(by_precision)
    outcome = tune(several.folder, backends=["pytorch"], seconds=600)
    assert names(started) == ["onnxruntime fp32-phases", "pytorch"]
    assert {v.winner for v in outcome.verdicts} == {"pytorch"}
    assert [c.backend for c in outcome.record.choices] == ["pytorch"]
    assert outcome.verdicts[0].speedup.value == pytest.approx(9 * 1.2 / (9 * 1.2 * 1.1), rel=0.03)


def test_a_library_that_is_not_there_is_passed_over(several, pretend):
    def behaviour(setup: Setup) -> Model:
        missing = Failure("MissingLibraryError", "the onnxruntime backend needs onnxruntime")
        return replace(by_precision(setup), failure=missing if setup.backend == "onnxruntime" else None)

    pretend(behaviour)
    outcome = tune(several.folder, quality=30, seconds=600)
    assert outcome.untuned == "openvino fp32-phases"
    assert outcome.left_out["onnxruntime"] == "not installed: the onnxruntime backend needs onnxruntime"


def test_a_worker_that_dies_is_left_out_with_its_reason(several, pretend):
    pretend(lambda s: replace(by_precision(s), dies_after=9 if s.options else 10**9))
    outcome = tune(several.folder, quality=30, seconds=600)
    assert outcome.left_out["openvino int8-phases threads=1"] == "failed: its process was killed by SIGKILL"
    assert {v.winner for v in outcome.verdicts} == {"openvino int8-phases"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seconds": 0}, "0 seconds were asked for; give a number above 0"),
        ({"quality": -1}, "a quality of -1 dB was asked for; give a number from 0"),
        ({"quality": float("nan")}, "a quality of nan dB was asked for"),
        ({"batches": [0]}, "the batch sizes are"),
        ({"batches": [1, 64]}, "a batch of 64 was asked for; of this model at most 32 pictures are computed at a time"),
        ({"backends": ["abacus"]}, "there is no backend 'abacus'"),
        ({"size": (16, 16)}, "a picture size was given, but this dcgan model takes no picture"),
    ],
)
def test_requests_that_make_no_sense_start_no_process(arguments, message, bundle, monkeypatch):
    monkeypatch.setattr(tuning, "Worker", None)
    with pytest.raises(ganrt.RequestError, match=message):
        tune(bundle.folder, **arguments)


def test_a_quality_that_nothing_reaches_says_what_was_found(several, pretend):
    pretend(by_precision)
    with pytest.raises(ganrt.MachineError, match=r"(?s)nothing on this machine .* at 150 dB or more:.*pytorch: 120"):
        tune(several.folder, quality=150, seconds=60)
    assert tuned.find(several) is None


def test_large_pictures_are_tuned_at_the_batches_that_fit(several):
    output = dataclasses.replace(several.spec.output, size=(1024, 1024))
    assert tuning._batch_sizes(output, None) == [1, 5]
    assert tuning._batch_sizes(several.spec.output, None) == [1, 8, 32]


OUTCOME = Outcome(
    bundle="faces.ganrt",
    record=tuned.Tuned(
        key="k",
        quality=35.0,
        date="2026-11-25T22:00:00+00:00",
        versions={},
        choices=(
            tuned.Choice(
                *("openvino", "int8-phases", "cpu", {"threads": 2}, "int8", 36.4),
                {1: tuned.Timing(0.003, 0.0029, 0.0031), 8: tuned.Timing(0.024, None, None)},
            ),
        ),
        winners={1: 0, 8: 0},
    ),
    untuned="onnxruntime fp32-phases",
    verdicts=(
        Verdict(1, "openvino int8-phases threads=2", Estimate(0.003, 0.0029, 0.0031), 36.4, Estimate(4.5, 4.4, 4.6),
                "every other is slower"),
        Verdict(8, "openvino int8-phases threads=2", Estimate(0.024, None, None), 36.4, None, "the time was up"),
    ),
    left_out={"onnxruntime [fp32]": "at first sight at least 5.0 times as slow as the best"},
    environment=replace(ENVIRONMENT, foreign_share=0.3),
    seconds=60.0,
)  # fmt: skip


def test_the_table_shows_winners_times_ratios_and_reasons():
    console = Console(width=160, no_color=True)
    with console.capture() as captured:
        print_tuned(OUTCOME, console)
    first, second = (line.split() for line in captured.get().splitlines() if line.lstrip().startswith(("1 ", "8 ")))
    shown = " ".join(captured.get().split())
    assert first[:8] == ["1", "openvino", "int8-phases", "threads=2", "3.00", "2.90-3.10", "333", "4.50x"]
    assert second[4:8] == ["24.0", "-", "333", "-"]
    assert "every other is slower" in shown
    assert "against onnxruntime fp32-phases, which load picks without tuning" in shown
    assert "onnxruntime [fp32] left out: at first sight at least 5.0 times as slow as the best" in shown
    assert "warning other programs used 30% of the processor" in shown
    assert "load picks openvino int8-phases threads=2 from now on (tuned on 2026-11-25 for 35 dB" in shown


def test_a_real_bundle_is_tuned_and_load_takes_the_winner(bundle: Bundle, cache: Path) -> None:
    told: list[str] = []
    outcome = tune(bundle.folder, batches=[1, 5], seconds=6, backends=["onnxruntime", "openvino"],
                   progress=lambda share, text: told.append(text))  # fmt: skip
    assert told[0] == f"loading {outcome.untuned}"
    assert {v.batch for v in outcome.verdicts} == {1, 5}
    choice, _ = outcome.record.pick(5)
    with ganrt.load(bundle.folder, batch=5) as generator, ganrt.load(bundle.folder, "pytorch") as original:
        session = generator.session
        assert (session.backend, session.device) == (choice.backend, choice.device)
        assert session.details["threads"] == str(choice.options.get("threads", "default"))
        assert generator.seconds == choice.seconds
        assert np.abs(generator.sample(37, seed=7).astype(int) - original.sample(37, seed=7)).max() <= 1
    assert cache in next(cache.rglob("tuned/*.json")).parents
