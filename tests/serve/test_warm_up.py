"""A model is run at every batch size before it serves."""

from collections.abc import Callable

import pytest
from fakes.sessions import SPEC, UPSCALER
from helpers.gated_session import GatedSession

from ganrt.errors import BackendError
from ganrt.feeds import Array, Feeds
from ganrt.generator import Generator
from ganrt.serve.warm_up import choose_largest_batch, warm_up
from ganrt.spec import Spec


def run(
    monkeypatch: pytest.MonkeyPatch,
    cost: Callable[[int], float],
    largest: int = 32,
    sizes: tuple[int, ...] = (),
    spec: Spec = SPEC,
) -> tuple[dict[int, float], list[int]]:
    """Warm up a model whose batches take the seconds that `cost` says, by a clock of its own."""
    moment = [0.0]

    def fault(feeds: Feeds) -> Array | None:
        moment[0] += cost(len(next(iter(feeds.values()))))
        return None

    monkeypatch.setattr("ganrt.serve.warm_up.now", lambda: moment[0])
    session = GatedSession(spec, batch_sizes=sizes, fault=fault)
    return warm_up("faces", Generator(spec, session), largest), session.batches


def test_every_size_is_run_twice_and_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, batches = run(monkeypatch, lambda rows: 1.0 + rows / 100)
    assert batches == [1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 32, 32]
    assert seconds == pytest.approx({rows: 1.0 + rows / 100 for rows in (1, 2, 4, 8, 16, 32)})
    assert choose_largest_batch(seconds) == 32


def test_it_stops_where_larger_batches_are_not_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, batches = run(monkeypatch, lambda rows: 0.5 + rows / 2)
    assert seconds.keys() == {1, 2, 4, 8, 16, 32}, "each is a little faster per image"
    seconds, batches = run(monkeypatch, lambda rows: float(rows))
    assert batches == [1, 1, 2, 2, 4, 4] and choose_largest_batch(seconds) == 1


def test_a_size_that_a_session_has_is_run_even_so(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, _ = run(monkeypatch, lambda rows: float(rows), sizes=(1, 4, 8, 16, 32, 64))
    assert seconds.keys() == {1, 4, 8, 16, 32}
    assert run(monkeypatch, lambda rows: 1.0, sizes=(64, 128))[0].keys() == {64}


def test_the_largest_size_need_not_be_a_power_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, lambda rows: 1.0, largest=12)[0].keys() == {1, 2, 4, 8, 12}
    assert run(monkeypatch, lambda rows: 1.0, largest=1)[0].keys() == {1}


def test_models_that_take_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, lambda rows: 1.0, largest=4, spec=UPSCALER)[0].keys() == {1, 2, 4}


def test_the_smallest_batch_that_is_nearly_the_fastest_is_chosen() -> None:
    assert choose_largest_batch({1: 1.0, 8: 1.25, 16: 2.2, 32: 4.2}) == 16
    assert choose_largest_batch({1: 0.0}) == 1


def test_a_batch_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(rows: int) -> float:
        if rows == 4:
            raise ValueError("no kernel")
        return 1.0 / rows

    with pytest.raises(BackendError, match=r"faces failed on a batch of 4 while it was warmed up: .*no kernel"):
        run(monkeypatch, fail)
