"""The number of processors that a process can keep busy."""

import os

import pytest

from ganrt import machine
from ganrt.machine import default_threads, machine_cores, usable_cores


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of eight processors, of which this process may run on four."""
    monkeypatch.setattr(machine, "machine_cores", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    monkeypatch.delattr(os, "process_cpu_count", raising=False)


@pytest.mark.parametrize(
    ("quota", "cores"), [(None, 4), (0.01, 1), (0.5, 1), (1.0, 1), (1.5, 2), (3.0, 3), (3.01, 4), (4.0, 4), (64.0, 4)]
)
@pytest.mark.usefixtures("eight_cores")
def test_the_quota_is_rounded_up(monkeypatch: pytest.MonkeyPatch, quota: float | None, cores: int) -> None:
    monkeypatch.setattr(machine, "read_cpu_quota", lambda: quota)
    assert usable_cores() == cores == default_threads()


@pytest.mark.parametrize(("quota", "threads"), [(None, None), (7.5, None), (6.0, 6), (0.2, 1)])
@pytest.mark.usefixtures("eight_cores")
def test_the_whole_machine_needs_no_number_of_threads(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, threads: int | None
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(machine, "read_cpu_quota", lambda: quota)
    assert default_threads() == threads


@pytest.mark.usefixtures("eight_cores")
def test_a_number_given_to_python_replaces_the_affinity_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.13 returns PYTHON_CPU_COUNT from `os.process_cpu_count`."""
    monkeypatch.setattr(machine, "read_cpu_quota", lambda: None)
    for given in (2, 6):
        monkeypatch.setattr(os, "process_cpu_count", lambda given=given: given, raising=False)
        assert usable_cores() == given == default_threads()
    monkeypatch.setattr(machine, "read_cpu_quota", lambda: 3.0)
    assert usable_cores() == 3


def test_this_machine() -> None:
    assert 1 <= usable_cores() <= machine_cores()
