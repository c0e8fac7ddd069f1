"""The cache of programs closes the least recently used one to make room, and frees its memory first."""

from __future__ import annotations

from typing import Any

import pytest

from ganrt.errors import DeviceMemoryError
from ganrt.gpu.program_cache import ProgramCache


class Memory:
    """Bytes in use, and what happened in which order."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0
        self.events: list[str] = []


class FakeProgram:
    """Takes as many bytes as its batch has rows."""

    def __init__(self, memory: Memory, size: int, width: int) -> None:
        if memory.used + size > memory.limit:
            raise DeviceMemoryError("no memory")
        self.memory, self.size, self.width = memory, size, width
        memory.used += size
        memory.events.append(f"make {width}")

    def close(self) -> None:
        self.memory.used -= self.size
        self.memory.events.append(f"close {self.width}")


class Cache:
    """A cache of three programs, used as sessions use it."""

    def __init__(self, limit: int = 100) -> None:
        self.memory = Memory(limit)
        self.programs: ProgramCache[Any] = ProgramCache(
            lambda program: self.memory.events.append(f"wait {program.width}"), capacity=3
        )

    def use(self, width: int, size: int = 1) -> FakeProgram:
        shapes = {"x": (size, width)}
        found = self.programs.get(shapes)
        return found or self.programs.add(shapes, lambda: FakeProgram(self.memory, size, width))

    def widths(self) -> set[int]:
        return {program.width for program in self.programs}


def test_a_shape_keeps_its_program() -> None:
    cache = Cache()
    first = cache.use(1)
    assert cache.use(1) is first and cache.use(2) is not first and cache.use(1, size=2) is not first
    assert len(cache.programs) == 3


def test_the_least_recently_used_program_makes_room_and_a_hot_one_stays() -> None:
    cache = Cache()
    hot = cache.use(1)
    for width in range(2, 20):
        cache.use(width)
        assert cache.use(1) is hot
    assert cache.widths() == {1, 18, 19}


def test_room_is_made_before_a_program_is_made() -> None:
    """So that a full GPU can hold the new program; and nothing is closed while it works."""
    cache = Cache(limit=3)
    for width in (1, 2, 3, 4):
        cache.use(width)
    assert cache.memory.events[3:] == ["wait 1", "close 1", "make 4"] and cache.memory.used == 3


def test_a_program_that_cannot_be_made_leaves_the_others() -> None:
    cache = Cache(limit=2)
    cache.use(1)
    with pytest.raises(DeviceMemoryError):
        cache.use(2, size=2)
    assert cache.widths() == {1} and cache.memory.used == 1


def test_a_look_at_an_unknown_shape_closes_nothing() -> None:
    cache = Cache()
    for width in (1, 2, 3):
        cache.use(width)
    assert cache.programs.get({"x": (1, 9)}) is None and cache.widths() == {1, 2, 3}


def test_programs_are_closed_by_their_batch_size_or_all() -> None:
    cache = Cache()
    cache.use(1)
    cache.use(2, size=4)
    cache.use(3, size=4)
    cache.programs.close_size(4)
    assert cache.widths() == {1} and cache.memory.used == 1
    cache.programs.close()
    assert cache.widths() == set() and cache.memory.used == 0
    assert cache.memory.events[-2:] == ["wait 1", "close 1"]
