"""The race of setups: which one is dropped when and which one wins, with fake processes and a fake clock."""

import re
from pathlib import Path

import pytest
from fakes.workers import SECOND, Behaviour, FakeClock, FakeWorker, fake_processes
from helpers.optional import unwrap

from ganrt.bench import race
from ganrt.bench.cases import Setup
from ganrt.bench.race import Race
from ganrt.bench.statistics import MIN_ROUNDS
from ganrt.bench.worker import Failure
from ganrt.session_config import SessionConfig


def make_setup(name: str) -> Setup:
    return Setup(Path("x.ganrt"), SessionConfig(name))


START = 100 * SECOND
"""When every race begins."""


class Trial:
    """A race of named setups; the first is the baseline."""

    def __init__(self, seconds: float, batches: tuple[int, ...] = (1, 8), quality: float = 60.0, **setups: Behaviour):
        self.clock = FakeClock()
        self.clock.time = START
        self.progress: list[tuple[float, str]] = []
        start, self.started = fake_processes(self.clock, lambda s: setups[s.config.backend])
        span = (START, START + round(seconds * SECOND))
        self.race = Race(batches, quality, span, lambda share, text: self.progress.append((share, text)),
                         self.clock, start)  # fmt: skip
        for k, name in enumerate(setups):
            self.race.enter(make_setup(name), baseline=not k)

    @property
    def elapsed(self) -> int:
        return self.clock.time - START

    def decide(self) -> "Trial":
        self.race.decide()
        return self

    def winner(self, batch: int) -> tuple[str, str]:
        found = unwrap(self.race.find_winner(batch))
        return found.racer.setup.name, found.reason

    def worker(self, name: str) -> FakeWorker:
        return next(w for w in self.started if w.setup.config.backend == name)


def test_the_fastest_wins_before_the_time_is_up() -> None:
    trial = Trial(600, plain=Behaviour(10), quick=Behaviour(6), middle=Behaviour(8)).decide()
    assert trial.winner(1) == trial.winner(8) == ("quick", "all others are slower")
    assert unwrap(trial.race.find_winner(1)).decided
    assert trial.elapsed < 60 * SECOND
    assert all(worker.closed for worker in trial.started)
    assert trial.race.left_out == {}


def test_each_batch_size_has_its_own_winner() -> None:
    trial = Trial(600, batches=(1, 32), small=Behaviour(1, scale=1), large=Behaviour(5, scale=0.1)).decide()
    assert trial.winner(1)[0] == "small"
    assert trial.winner(32)[0] == "large"


def test_setups_that_are_hopeless_at_every_size_are_dropped_after_their_first_calls() -> None:
    trial = Trial(600, plain=Behaviour(10), quick=Behaviour(2), bad=Behaviour(30), other=Behaviour(3))
    assert list(trial.race.left_out) == ["bad"]
    assert re.fullmatch(r"first calls at least 1[45]\.\d times as slow as the best", trial.race.left_out["bad"])
    assert trial.worker("bad").closed and trial.worker("bad").rounds == 3
    assert not trial.worker("plain").closed, "the baseline is always measured"
    trial.decide()
    assert trial.winner(8)[0] == "quick"


def test_disturbed_first_calls_drop_nothing() -> None:
    trial = Trial(600, batches=(1,), plain=Behaviour(1), quick=Behaviour(0.9, disturbed=5))
    assert trial.race.left_out == {}


def test_the_best_so_far_is_dropped_when_a_much_faster_one_enters() -> None:
    trial = Trial(600, plain=Behaviour(30), good=Behaviour(9), better=Behaviour(2))
    assert trial.race.left_out["good"].startswith("first calls at least 4.")
    assert [r.setup.name for r in trial.race.racers] == ["plain", "better"]


def test_a_setup_that_is_good_at_one_size_stays_for_that_size() -> None:
    trial = Trial(600, batches=(1, 32), small=Behaviour(1, scale=1), large=Behaviour(7, scale=0.1))
    assert trial.race.left_out == {}
    trial.decide()
    assert trial.winner(1)[0] == "small" and trial.winner(32)[0] == "large"
    racers = {r.setup.name: r for r in trial.race.racers}
    assert len(racers["large"].tracks[1].rounds) == 3, "where it has lost, it is not measured any longer"


def test_equals_are_decided_when_the_regret_is_next_to_nothing() -> None:
    trial = Trial(3000, one=Behaviour(10, noise=0.01), two=Behaviour(10.01, noise=0.01)).decide()
    name, reason = trial.winner(1)
    other = {"one": "two", "two": "one"}[name]
    assert re.fullmatch(rf"{other} may be faster, by at most [012]\.\d%", reason)
    assert unwrap(trial.race.find_winner(1)).decided
    assert trial.elapsed < 300 * SECOND


def test_noisy_equals_are_measured_until_they_are_decided() -> None:
    trial = Trial(3000, batches=(1,), one=Behaviour(10, noise=0.2), two=Behaviour(10.3, noise=0.2)).decide()
    assert all(len(racer.tracks[1].rounds) > MIN_ROUNDS for racer in trial.race.racers)
    assert "ran out" not in trial.winner(1)[1]


def test_a_winner_without_rivals_gets_an_interval() -> None:
    trial = Trial(600, batches=(1,), alone=Behaviour(10)).decide()
    assert len(trial.race.racers[0].tracks[1].rounds) == MIN_ROUNDS


def test_a_short_first_call_is_repeated_and_a_long_one_is_not() -> None:
    trial = Trial(600, batches=(1,), short=Behaviour(140), long=Behaviour(160))
    assert (trial.worker("short").rounds, trial.worker("long").rounds) == (2, 1)


def test_without_time_the_baseline_wins_over_what_only_seems_faster() -> None:
    trial = Trial(3, one=Behaviour(10, noise=0.3), two=Behaviour(8, noise=0.3)).decide()
    medians = {racer.setup.name: unwrap(racer.estimate_seconds(8)).value for racer in trial.race.racers}
    assert medians["two"] < medians["one"], "the coin fell for the other"
    assert unwrap(trial.race.find_winner(8)) == (
        trial.race.racers[0],
        False,
        "the time ran out before two could be ruled out",
    )
    assert trial.elapsed < 10 * SECOND


def test_without_time_what_is_measurably_faster_than_the_baseline_wins() -> None:
    fast = Behaviour(5, noise=0.3, load_s=0.1)
    trial = Trial(2, batches=(1,), one=Behaviour(8, noise=0.3, load_s=0.1), two=fast, three=fast).decide()
    found = unwrap(trial.race.find_winner(1))
    other = {"two": "three", "three": "two"}[found.racer.setup.name]
    assert not found.decided and found.reason == f"the time ran out before {other} could be ruled out"


def test_without_time_a_few_rounds_are_enough_for_what_is_several_times_as_fast() -> None:
    fast = Behaviour(50, noise=0.3, load_s=0.1)
    trial = Trial(6, batches=(1,), one=Behaviour(300, noise=0.1, load_s=0.1), two=fast, three=fast).decide()
    found = unwrap(trial.race.find_winner(1))
    assert (found.racer.setup.name, found.decided) == ("three", False)
    assert found.reason == "the time ran out before two could be ruled out", "the baseline is"
    assert len(trial.race.racers[0].tracks[1].rounds) < MIN_ROUNDS


def test_a_baseline_that_is_far_behind_needs_no_interval() -> None:
    trial = Trial(7, batches=(1,), one=Behaviour(400, load_s=0.1), two=Behaviour(50, load_s=0.1)).decide()
    assert len(trial.race.racers[0].tracks[1].rounds) < MIN_ROUNDS
    assert unwrap(trial.race.find_winner(1))[1:] == (True, "all others are slower")


def test_without_time_a_baseline_that_may_not_win_does_not() -> None:
    trial = Trial(3, quality=100, one=Behaviour(10, psnr=80, noise=0.3), two=Behaviour(9.9, noise=0.3),
                  three=Behaviour(9.9, noise=0.3)).decide()  # fmt: skip
    assert trial.winner(8)[0] in ("two", "three")


def test_a_much_slower_setup_needs_no_full_interval() -> None:
    trial = Trial(3000, batches=(1,), plain=Behaviour(5), quick=Behaviour(5.5), late=Behaviour(9)).decide()
    late = next(r for r in trial.race.racers if r.setup.name == "late")
    assert trial.winner(1)[0] == "plain"
    assert len(late.tracks[1].rounds) <= 6


def test_a_setup_that_falls_far_behind_later_is_beaten_after_three_rounds() -> None:
    trial = Trial(3000, batches=(1,), plain=Behaviour(5), late=Behaviour(9))
    trial.worker("late").behaviour.ms = 50
    late = trial.race.racers[1]
    trial.decide()
    assert len(late.tracks[1].rounds) == 3
    assert trial.winner(1) == ("plain", "all others are slower")


def test_setups_below_the_quality_and_slow_ones_take_no_part() -> None:
    trial = Trial(600, quality=40, plain=Behaviour(10), coarse=Behaviour(1, psnr=36.4), oracle=Behaviour(1, slow=True),
                broken=Behaviour(failure=Failure("BundleError", "its graph is damaged")),
                absent=Behaviour(failure=Failure("MissingLibraryError", "absent needs it")))  # fmt: skip
    assert trial.race.left_out == {
        "coarse": "36.4 dB, but 40 dB are required",
        "oracle": "slow by design",
        "broken": "failed: its graph is damaged",
        "absent": "not installed: absent needs it",
    }
    assert all(trial.worker(name).closed for name in trial.race.left_out)
    assert trial.decide().winner(1) == ("plain", "no other came close")


def test_a_baseline_below_the_quality_is_measured_but_cannot_win() -> None:
    trial = Trial(600, quality=100, plain=Behaviour(1, psnr=80), exact=Behaviour(9)).decide()
    assert trial.winner(1) == ("exact", "no other came close")
    assert len(trial.race.racers[0].tracks[1].rounds) >= 6
    assert trial.elapsed < 300 * SECOND


def test_a_worker_that_dies_does_not_win() -> None:
    trial = Trial(600, plain=Behaviour(10), quick=Behaviour(6, dies_after=12)).decide()
    assert trial.winner(1)[0] == trial.winner(8)[0] == "plain"
    assert trial.race.racers[1].failure_reason == "its process was killed by SIGKILL"


def test_setups_that_are_not_loaded_in_time_are_named() -> None:
    trial = Trial(10, first=Behaviour(10), second=Behaviour(9, load_s=6), third=Behaviour(1))
    assert trial.race.left_out == {"third": "not tried: no time left"}
    found = unwrap(trial.decide().race.find_winner(1))
    assert found[1:] == (False, "the time ran out before all were tried") and found.racer.setup.name == "second"


def test_no_process_starts_without_enough_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "read_memory", lambda name: {"MemAvailable": 500 * 2**20}[name])
    trial = Trial(600, first=Behaviour(10, peak_mib=300), second=Behaviour(9, peak_mib=400), third=Behaviour(1))
    assert trial.race.left_out == {"third": "not tried: there is not enough memory for another process"}
    assert len(trial.started) == 2


def test_progress_is_a_share_and_a_text() -> None:
    trial = Trial(600, plain=Behaviour(10), quick=Behaviour(6)).decide()
    shares, texts = zip(*trial.progress, strict=True)
    assert texts[0] == "loading plain"
    states = [text for text in texts if text.startswith("candidates left")]
    assert states[0] == "candidates left: batch 1: 2, batch 8: 2"
    assert texts[-1] == "candidates left: batch 1: decided, batch 8: decided"
    assert (
        list(shares) == sorted(shares) and shares[0] == 0 and shares[-1] == pytest.approx(trial.elapsed / 600 / SECOND)
    )
