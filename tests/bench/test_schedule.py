"""The order of rounds, with a fake clock and fake workers."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from fakes.workers import SECOND, FakeClock

from ganrt.bench import schedule
from ganrt.bench.cases import Case, Setup, check_batches, list_setups
from ganrt.bench.process import WorkerFailed
from ganrt.bench.schedule import Track
from ganrt.bench.worker import Failure, Round, RoundRequest
from ganrt.bundle import Bundle
from ganrt.errors import RequestError
from ganrt.session_config import SessionConfig


@dataclass
class FakeTimer:
    """Takes `call_ns` per call and image, and fails at the round number `breaks`."""

    clock: FakeClock
    call_ns: int
    log: list[tuple["FakeTimer", RoundRequest]]
    breaks: int | None = None
    jitter: tuple[int, ...] = (0,)
    requests: list[RoundRequest] = field(default_factory=list)

    def time_round(self, request: RoundRequest) -> Round:
        if len(self.requests) == self.breaks:
            raise WorkerFailed(Failure("Died", "killed"))
        self.requests.append(request)
        self.log.append((self, request))
        one = self.call_ns * request.batch + self.jitter[len(self.requests) % len(self.jitter)]
        self.clock.time += 2 * one * request.pairs
        return Round((one,) * request.pairs, (one,) * request.pairs, True, None)


def make_tracks(*timers: FakeTimer, batches: tuple[int, ...] = (1,), slow: bool = False) -> list[Track]:
    made = []
    for k, timer in enumerate(timers):
        setup = Setup(Path("x.ganrt"), SessionConfig(f"backend{k}"))
        made += [Track(Case(setup, batch, slow and k == 0), timer) for batch in batches]
    return made


def run(tracks: list[Track], clock: FakeClock, seconds: float) -> list[str]:
    lines: list[str] = []
    schedule.run(tracks, clock.time + round(seconds * SECOND), clock, lines.append)
    return lines


def test_rounds_of_all_cases_alternate_in_changing_order() -> None:
    clock = FakeClock()
    log: list[tuple[FakeTimer, RoundRequest]] = []
    noisy = (0, 400_000, 900_000)
    timers = [FakeTimer(clock, 1_000_000, log, jitter=noisy) for _ in range(3)]
    tracks = make_tracks(*timers)
    run(tracks, clock, 20)
    counts = [len(t.rounds) for t in tracks]
    assert min(counts) > 15
    assert max(counts) - min(counts) <= 1
    sweeps = [[track for track in tracks if number in track.rounds] for number in range(min(counts) - 1)]
    assert all(len(sweep) == 3 for sweep in sweeps)
    measured = log[-3 * (min(counts) - 1) :]
    assert len({tuple(id(timer) for timer, _ in measured[k : k + 3]) for k in range(0, len(measured) - 3, 3)}) > 1


def test_converged_figures_end_it_before_the_time_is_up() -> None:
    clock = FakeClock()
    tracks = make_tracks(FakeTimer(clock, 1_000_000, []), FakeTimer(clock, 2_000_000, []))
    run(tracks, clock, 600)
    assert all(track.converged and track.steady for track in tracks)
    assert clock.time < 60 * SECOND


def test_the_deadline_holds_and_a_slow_case_does_not_starve_the_others() -> None:
    clock = FakeClock()
    log: list[tuple[FakeTimer, RoundRequest]] = []
    slow = FakeTimer(clock, SECOND, log)
    quick = [FakeTimer(clock, 1_000_000, log, jitter=(0, 500_000, 900_000)) for _ in range(3)]
    tracks = make_tracks(slow, *quick, slow=True)
    run(tracks, clock, 30)
    assert clock.time <= 31 * SECOND
    assert tracks[0].rounds
    assert not tracks[0].steady
    assert tracks[0].spent_ns < 15 * SECOND
    assert min(len(t.rounds) for t in tracks[1:]) >= 12


def test_every_case_gets_one_round_even_without_time() -> None:
    clock = FakeClock()
    tracks = make_tracks(FakeTimer(clock, 5 * SECOND, []), FakeTimer(clock, SECOND, []), batches=(1, 2))
    run(tracks, clock, 0)
    assert [len(track.rounds) for track in tracks] == [1, 1, 1, 1]


def test_a_worker_that_dies_ends_its_own_cases_and_no_others() -> None:
    clock = FakeClock()
    tracks = make_tracks(FakeTimer(clock, 1_000_000, [], breaks=8), FakeTimer(clock, 1_000_000, []), batches=(1, 4))
    run(tracks, clock, 20)
    assert [track.failure and track.failure.kind for track in tracks] == ["Died", "Died", None, None]
    assert all(len(track.rounds) > 5 for track in tracks[2:])


def test_a_round_takes_a_sixteenth_of_the_timed_share() -> None:
    clock = FakeClock()
    [track] = make_tracks(FakeTimer(clock, 1_000_000, []))
    run([track], clock, 8)
    assert track.round_ns == 0.4 * 8 * SECOND / 16


def test_a_warm_up_that_varies_by_ten_percent_is_not_steady() -> None:
    clock = FakeClock()
    [track] = make_tracks(FakeTimer(clock, 1_000_000, [], jitter=(0, 100_000)))
    run([track], clock, 100)
    assert not track.steady and len(track.warm_up) == 10


def test_no_call_reuses_the_inputs_of_an_earlier_one() -> None:
    clock = FakeClock()
    timer = FakeTimer(clock, 1_000_000, [])
    run(make_tracks(timer), clock, 5)
    ends = [request.first + (request.pairs + 1) * request.batch for request in timer.requests]
    assert [request.first for request in timer.requests] == [0, *ends[:-1]]


def test_progress_is_logged_a_few_times() -> None:
    clock = FakeClock()
    lines = run(make_tracks(FakeTimer(clock, 1_000_000, [], jitter=(0, 700_000))), clock, 30)
    assert lines[0] == "warming up backend0, batch 1"
    assert 3 < len(lines) < 15


@pytest.mark.parametrize("batches", [[], [0], [1, -1], [True], [1.0], ["8"]])
def test_invalid_batch_sizes_are_rejected(batches: Any) -> None:
    with pytest.raises(RequestError, match="batch sizes"):
        check_batches(batches)


def test_setups_are_the_pairs_of_a_backend_and_a_variant_that_it_runs(bundle: Bundle) -> None:
    fast = replace(bundle.variants["fp32"], passes=("phases",))
    variants = {**bundle.variants, "fp32-phases": fast, "bf16-phases": replace(fast, precision="bf16")}
    several = replace(bundle, variants=variants)
    found = [setup.name for setup in list_setups(several, ["pytorch", "onnxruntime", "openvino"], None, "auto")]
    assert found == [
        *("pytorch", "onnxruntime", "onnxruntime fp32-phases"),
        *("openvino", "openvino fp32-phases", "openvino bf16-phases"),
    ]
    with pytest.raises(RequestError, match="none of pytorch runs bf16-phases"):
        list_setups(several, ["pytorch"], ["bf16-phases"], "auto")


def test_names_of_setups_are_the_same_on_every_device(bundle: Bundle) -> None:
    [setup] = list_setups(bundle, ["onnxruntime"], ["fp32"], "cuda:1")
    assert (setup.name, setup.config.device) == ("onnxruntime", "cuda:1")
    config = replace(setup.config, variant="fp32-phases", options={"threads": 2})
    assert replace(setup, config=config).name == "onnxruntime fp32-phases threads=2"


def test_unknown_backends_are_rejected_with_the_known_names(bundle: Bundle) -> None:
    assert [s.config.backend for s in list_setups(bundle, ["openvino", "openvino"], ["fp32"], "auto")] == ["openvino"]
    with pytest.raises(RequestError, match=r"no backend 'onnx'; choose from .*onnxruntime"):
        list_setups(bundle, ["onnx"], None, "auto")
    with pytest.raises(RequestError, match="no backend was named"):
        list_setups(bundle, [], None, "auto")
