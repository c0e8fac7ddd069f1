"""The order of rounds, with a pretended clock and pretended workers."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from fakes.workers import SECOND, Clock

from ganrt.bench import schedule
from ganrt.bench.cases import Case, Setup, check_batches, setups
from ganrt.bench.process import WorkerFailed
from ganrt.bench.schedule import Track
from ganrt.bench.worker import Failure, Order, Round
from ganrt.errors import RequestError


@dataclass
class Pretended:
    """Takes `call_ns` per call and image, and breaks at the round number `breaks`."""

    clock: Clock
    call_ns: int
    log: list[tuple["Pretended", Order]]
    breaks: int | None = None
    jitter: tuple[int, ...] = (0,)
    orders: list[Order] = field(default_factory=list)

    def round(self, order: Order) -> Round:
        if len(self.orders) == self.breaks:
            raise WorkerFailed(Failure("Died", "killed"))
        self.orders.append(order)
        self.log.append((self, order))
        one = self.call_ns * order.batch + self.jitter[len(self.orders) % len(self.jitter)]
        self.clock.time += 2 * one * order.pairs
        return Round((one,) * order.pairs, (one,) * order.pairs, True, None)


def _tracks(*timers: Pretended, batches: tuple[int, ...] = (1,), slow: bool = False) -> list[Track]:
    made = []
    for k, timer in enumerate(timers):
        setup = Setup(Path("x.ganrt"), f"backend{k}", "fp32", "cpu")
        made += [Track(Case(setup, batch, slow and k == 0), timer) for batch in batches]
    return made


def _run(tracks: list[Track], clock: Clock, seconds: float) -> list[str]:
    told: list[str] = []
    schedule.run(tracks, clock.time + round(seconds * SECOND), clock, told.append)
    return told


def test_rounds_of_all_cases_take_turns_in_changing_order():
    clock, log = Clock(), []
    noisy = (0, 400_000, 900_000)
    timers = [Pretended(clock, 1_000_000, log, jitter=noisy) for _ in range(3)]
    tracks = _tracks(*timers)
    _run(tracks, clock, 20)
    counts = [len(t.rounds) for t in tracks]
    assert min(counts) > 15
    assert max(counts) - min(counts) <= 1
    sweeps = [[track for track in tracks if number in track.rounds] for number in range(min(counts) - 1)]
    assert all(len(sweep) == 3 for sweep in sweeps)
    measured = log[-3 * (min(counts) - 1) :]
    assert len({tuple(id(timer) for timer, _ in measured[k : k + 3]) for k in range(0, len(measured) - 3, 3)}) > 1


def test_sure_numbers_end_it_before_the_time_is_up():
    clock = Clock()
    tracks = _tracks(Pretended(clock, 1_000_000, []), Pretended(clock, 2_000_000, []))
    _run(tracks, clock, 600)
    assert all(track.sure and track.steady for track in tracks)
    assert clock.time < 60 * SECOND


def test_the_deadline_holds_and_a_slow_case_does_not_starve_the_others():
    clock, log = Clock(), []
    slow = Pretended(clock, SECOND, log)
    quick = [Pretended(clock, 1_000_000, log, jitter=(0, 500_000, 900_000)) for _ in range(3)]
    tracks = _tracks(slow, *quick, slow=True)
    _run(tracks, clock, 30)
    assert clock.time <= 31 * SECOND
    assert tracks[0].rounds
    assert not tracks[0].steady
    assert tracks[0].spent_ns < 15 * SECOND
    assert min(len(t.rounds) for t in tracks[1:]) >= 12


def test_every_case_gets_one_round_even_without_time():
    clock = Clock()
    tracks = _tracks(Pretended(clock, 5 * SECOND, []), Pretended(clock, SECOND, []), batches=(1, 2))
    _run(tracks, clock, 0)
    assert [len(track.rounds) for track in tracks] == [1, 1, 1, 1]


def test_a_worker_that_dies_takes_its_own_cases_with_it_and_no_others():
    clock = Clock()
    tracks = _tracks(Pretended(clock, 1_000_000, [], breaks=8), Pretended(clock, 1_000_000, []), batches=(1, 4))
    _run(tracks, clock, 20)
    assert [track.failure and track.failure.kind for track in tracks] == ["Died", "Died", None, None]
    assert all(len(track.rounds) > 5 for track in tracks[2:])


def test_no_call_sees_the_inputs_of_an_earlier_one():
    clock = Clock()
    timer = Pretended(clock, 1_000_000, [])
    _run(_tracks(timer), clock, 5)
    ends = [order.first + (order.pairs + 1) * order.batch for order in timer.orders]
    assert [order.first for order in timer.orders] == [0, *ends[:-1]]


def test_progress_is_told_a_few_times():
    clock = Clock()
    told = _run(_tracks(Pretended(clock, 1_000_000, [], jitter=(0, 700_000))), clock, 30)
    assert told[0] == "warming up backend0, batch 1"
    assert 3 < len(told) < 15


@pytest.mark.parametrize("batches", [[], [0], [1, -1], [True], [1.0], ["8"]])
def test_batch_sizes_that_are_none_are_refused(batches):
    with pytest.raises(RequestError, match="batch sizes"):
        check_batches(batches)


def test_setups_are_the_pairs_of_a_backend_and_a_variant_that_it_runs(bundle):
    fast = replace(bundle.variants["fp32"], passes=("phases",))
    variants = {**bundle.variants, "fp32-phases": fast, "bf16-phases": replace(fast, precision="bf16")}
    several = replace(bundle, variants=variants)
    found = [setup.name for setup in setups(several, ["pytorch", "onnxruntime", "openvino"], None, "auto")]
    assert found == [
        *("pytorch", "onnxruntime", "onnxruntime fp32-phases"),
        *("openvino", "openvino fp32-phases", "openvino bf16-phases"),
    ]
    with pytest.raises(RequestError, match="none of pytorch runs bf16-phases"):
        setups(several, ["pytorch"], ["bf16-phases"], "auto")


def test_unknown_backends_are_refused_with_the_names_there_are(bundle):
    assert [s.backend for s in setups(bundle, ["openvino", "openvino"], ["fp32"], "auto")] == ["openvino"]
    with pytest.raises(RequestError, match=r"no backend 'onnx'; choose from .*onnxruntime"):
        setups(bundle, ["onnx"], None, "auto")
    with pytest.raises(RequestError, match="no backend was named"):
        setups(bundle, [], None, "auto")
