"""Memory that requests share."""

import pytest

from ganrt.errors import OverloadedError, TooLargeError
from ganrt.machine import machine_memory, usable_memory
from ganrt.serve.byte_budget import ByteBudget


def test_bytes_are_taken_and_given_back() -> None:
    budget = ByteBudget(100)
    with budget.reserve() as first, budget.reserve() as second:
        first.grow(60)
        second.grow(40)
        assert budget.taken == 100
        with pytest.raises(OverloadedError, match="other requests use the memory of the server") as raised:
            second.grow(1)
        assert raised.value.retry_after_s == 1.0 and budget.taken == 100 and second.bytes == 40
    assert budget.taken == 0


def test_some_are_given_back_early() -> None:
    budget = ByteBudget(100)
    with budget.reserve() as reservation:
        reservation.grow(90)
        reservation.shrink_to(20)
        assert budget.taken == reservation.bytes == 20
    assert budget.taken == 0


def test_they_are_given_back_after_an_error() -> None:
    budget = ByteBudget(100)
    with pytest.raises(KeyError), budget.reserve() as reservation:
        reservation.grow(100)
        raise KeyError
    assert budget.taken == 0


def test_a_request_that_never_fits_is_too_large() -> None:
    budget = ByteBudget(100)
    with budget.reserve() as reservation:
        reservation.grow(60)
        with pytest.raises(TooLargeError, match="the request needs 101 bytes of memory; the server has 100"):
            reservation.grow(41)
        assert reservation.bytes == 60


def test_the_default_is_a_quarter_of_the_memory() -> None:
    assert ByteBudget().limit == usable_memory() // 4 <= machine_memory() // 4


def test_the_limit_of_a_container_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganrt.machine.read_memory_limit", lambda: 2**20)
    assert usable_memory() == 2**20
    monkeypatch.setattr("ganrt.machine.read_memory_limit", lambda: 2**60)
    assert usable_memory() == machine_memory()
