"""The programs of a GPU session that are ready to run, by the shapes of their inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from ganrt.gpu.double_buffering import DeviceProgram

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
"""Shape of each input by its name, always in the same order."""
ProgramT = TypeVar("ProgramT", bound="DeviceProgram")
_CAPACITY = 12


class ProgramCache(Generic[ProgramT]):
    """Keeps a limited number of programs; the least recently used one makes room for a new one.

    Each program holds device memory, and a model that takes pictures of any size can be asked for any number of shapes.
    """

    def __init__(self, before_close: Callable[[ProgramT], None], capacity: int = _CAPACITY) -> None:
        """
        Args:
            before_close: waits for all work of a program that is about to be closed.
            capacity: the most programs that are kept, at least 1.
        """
        self._before_close, self._capacity = before_close, capacity
        self._programs: dict[tuple[tuple[int, ...], ...], ProgramT] = {}
        # a dict keeps the order of insertion: the least recently used program is the first

    def __len__(self) -> int:
        return len(self._programs)

    def __iter__(self) -> Iterator[ProgramT]:
        return iter(self._programs.values())

    def get(self, shapes: Shapes) -> ProgramT | None:
        """Return the program for these shapes and mark it as used, or None."""
        key = tuple(shapes.values())
        if key in self._programs:
            self._programs[key] = self._programs.pop(key)
        return self._programs.get(key)

    def add(self, shapes: Shapes, make: Callable[[], ProgramT]) -> ProgramT:
        """Make a program for shapes that have none. Others are closed before it is made, so that it can have their
        memory. What `make` raises is passed on."""
        surplus = max(len(self._programs) - self._capacity + 1, 0)
        self._close(list(self._programs.values())[:surplus])
        program = self._programs[tuple(shapes.values())] = make()
        return program

    def close_size(self, size: int) -> None:
        """Close the programs for batches of a size."""
        self._close([program for program in self._programs.values() if program.size == size])

    def close(self) -> None:
        """Close all programs."""
        self._close(list(self._programs.values()))

    def _close(self, programs: list[ProgramT]) -> None:
        for program in programs:
            self._before_close(program)
            program.close()
        self._programs = {key: program for key, program in self._programs.items() if program not in programs}
