"""Many candidates, one winner: who is dropped when, with pretended processes and a pretended clock."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes.workers import SECOND, Clock, Model, Pretended, world

from ganrt.bench import race as module
from ganrt.bench.cases import Setup
from ganrt.bench.race import Contest
from ganrt.bench.worker import Failure


def setup(name: str, **options: int) -> Setup:
    return Setup(Path("x.ganrt"), name, "fp32", "auto", options=tuple(options.items()))


class Race:
    """A contest of named models; the first is what the others are compared with."""

    def __init__(self, seconds: float, batches: tuple[int, ...] = (1, 8), quality: float = 60.0, **models: Model):
        self.clock, self.told = Clock(), []
        start, self.started = world(self.clock, lambda s: models[s.backend])
        span = (0, round(seconds * SECOND))
        self.contest = Contest(batches, quality, span, lambda share, text: self.told.append((share, text)),
                               self.clock, start)  # fmt: skip
        for k, name in enumerate(models):
            self.contest.enter(setup(name), baseline=not k)

    def decide(self) -> "Race":
        self.contest.decide()
        return self

    def winner(self, batch: int) -> tuple[str, str]:
        entrant, reason = self.contest.winner(batch)
        return entrant.setup.name, reason

    def worker(self, name: str) -> Pretended:
        return next(w for w in self.started if w.setup.backend == name)


def test_the_fastest_wins_and_the_time_is_not_used_up() -> None:
    race = Race(600, plain=Model(10), quick=Model(6), middle=Model(8)).decide()
    assert race.winner(1) == race.winner(8) == ("quick", "every other is slower")
    assert race.clock.time < 60 * SECOND
    assert all(worker.closed for worker in race.started)
    assert race.contest.left_out == {}


def test_each_batch_size_has_its_own_winner() -> None:
    race = Race(600, batches=(1, 32), small=Model(1, scale=1), large=Model(5, scale=0.1)).decide()
    assert race.winner(1)[0] == "small"
    assert race.winner(32)[0] == "large"


def test_those_that_are_hopeless_everywhere_are_ended_at_first_sight() -> None:
    race = Race(600, plain=Model(10), quick=Model(2), bad=Model(30), other=Model(3))
    assert list(race.contest.left_out) == ["bad"]
    assert re.fullmatch(r"at first sight at least 1[45]\.\d times as slow as the best", race.contest.left_out["bad"])
    assert race.worker("bad").closed and race.worker("bad").rounds == 3
    assert not race.worker("plain").closed, "the baseline is measured all the same"
    race.decide()
    assert race.winner(8)[0] == "quick"


def test_what_disturbs_some_calls_drops_nobody_at_first_sight() -> None:
    race = Race(600, batches=(1,), plain=Model(1), quick=Model(0.9, disturbed=5))
    assert race.contest.left_out == {}


def test_one_that_was_best_until_a_faster_came_is_dropped_then() -> None:
    race = Race(600, plain=Model(30), good=Model(9), better=Model(2))
    assert race.contest.left_out["good"].startswith("at first sight at least 4.")
    assert [e.setup.name for e in race.contest.entrants] == ["plain", "better"]


def test_one_that_is_good_at_one_size_stays_for_it() -> None:
    race = Race(600, batches=(1, 32), small=Model(1, scale=1), large=Model(7, scale=0.1))
    assert race.contest.left_out == {}
    race.decide()
    assert race.winner(1)[0] == "small" and race.winner(32)[0] == "large"
    entrants = {e.setup.name: e for e in race.contest.entrants}
    assert len(entrants["large"].tracks[1].rounds) == 3, "it is not measured on where it has lost"


def test_equals_are_settled_when_the_choice_costs_next_to_nothing() -> None:
    race = Race(3000, one=Model(10, noise=0.01), two=Model(10.01, noise=0.01)).decide()
    name, reason = race.winner(1)
    other = {"one": "two", "two": "one"}[name]
    assert re.fullmatch(rf"{other} may be faster, by [012]\.\d% at most", reason)
    assert race.clock.time < 300 * SECOND


def test_without_time_the_best_so_far_wins_and_says_so() -> None:
    race = Race(3, one=Model(10, noise=0.3), two=Model(9, noise=0.3)).decide()
    name, reason = race.winner(8)
    assert reason.startswith("the time was up before it was told apart from ") and name not in reason
    assert race.clock.time < 10 * SECOND


def test_a_slow_one_does_not_keep_the_others_waiting_for_its_interval() -> None:
    race = Race(3000, batches=(1,), plain=Model(5), quick=Model(5.5), late=Model(9)).decide()
    late = next(e for e in race.contest.entrants if e.setup.name == "late")
    assert race.winner(1)[0] == "plain"
    assert len(late.tracks[1].rounds) <= 6


def test_one_that_falls_far_behind_later_is_dropped_after_three_rounds() -> None:
    race = Race(3000, batches=(1,), plain=Model(5), late=Model(9))
    race.worker("late").model.ms = 50
    late = race.contest.entrants[1]
    race.decide()
    assert len(late.tracks[1].rounds) == 3
    assert race.winner(1) == ("plain", "every other is slower")


def test_too_poor_and_too_slow_ones_take_no_part() -> None:
    race = Race(600, quality=40, plain=Model(10), coarse=Model(1, psnr=36.4), oracle=Model(1, slow=True),
                broken=Model(failure=Failure("BundleError", "its graph is damaged")),
                absent=Model(failure=Failure("MissingLibraryError", "absent needs it")))  # fmt: skip
    assert race.contest.left_out == {
        "coarse": "36.4 dB, where 40 dB are asked for",
        "oracle": "slow by design",
        "broken": "failed: its graph is damaged",
        "absent": "not installed: absent needs it",
    }
    assert all(race.worker(name).closed for name in race.contest.left_out)
    assert race.decide().winner(1) == ("plain", "nothing else came near")


def test_a_baseline_below_the_quality_is_measured_but_cannot_win() -> None:
    race = Race(600, quality=100, plain=Model(1, psnr=80), exact=Model(9)).decide()
    assert race.winner(1) == ("exact", "nothing else came near")
    assert len(race.contest.entrants[0].tracks[1].rounds) >= 6
    assert race.clock.time < 300 * SECOND


def test_a_worker_that_dies_is_no_winner() -> None:
    race = Race(600, plain=Model(10), quick=Model(6, dies_after=12)).decide()
    assert race.winner(1)[0] == race.winner(8)[0] == "plain"
    assert race.contest.entrants[1].failed == "its process was killed by SIGKILL"


def test_those_that_the_time_does_not_reach_are_named() -> None:
    race = Race(10, first=Model(10), second=Model(9, load_s=6), third=Model(1))
    assert race.contest.left_out == {"third": "not tried: the time was up"}
    assert race.decide().winner(1)[0] == "second"


def test_no_more_processes_than_the_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    free = SimpleNamespace(available=500 * 2**20)
    monkeypatch.setattr(module.psutil, "virtual_memory", lambda: free)
    race = Race(600, first=Model(10, peak_mib=300), second=Model(9, peak_mib=400), third=Model(1))
    assert race.contest.left_out == {"third": "not tried: there is not enough memory for one more process"}
    assert len(race.started) == 2


def test_progress_is_a_share_and_a_text() -> None:
    race = Race(600, plain=Model(10), quick=Model(6)).decide()
    shares, texts = zip(*race.told, strict=True)
    assert texts[0] == "loading plain"
    assert any(text.startswith("candidates left: batch 1: 2") for text in texts)
    assert texts[-1] == "candidates left: batch 1: decided, batch 8: decided"
    assert list(shares) == sorted(shares) and shares[0] >= 0 and shares[-1] <= 1
