"""Two batches of an engine in flight: while one is computed, the results of the other are copied out.

Streams and their order, of one batch in one slot:

    compute   copy inputs in · run the program · copy its outputs aside · event `computed`
    copying   wait for `computed` · copy the outputs to page-locked memory · event `copied`

All programs run on the one compute stream, which orders the use of their memory. What a slot has set aside stays until
the slot is used again, and that is only after `copied` was waited for. Nothing is allocated once a batch size has run
in both slots.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import cuda.core as core
import numpy as np

from ganrt.feeds import Array
from ganrt.gpu.device import DeviceArray, Gpu, PinnedArray, translate_errors, wait_for_event


class DeviceProgram(Protocol):
    """Runs batches of one shape on one stream, at fixed addresses (`engine_program.Program` is the one of TensorRT)."""

    @property
    def size(self) -> int:
        """Rows of a batch."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Of inputs and outputs, by name."""

    @property
    def dtypes(self) -> Mapping[str, np.dtype[Any]]: ...

    @property
    def inputs(self) -> Mapping[str, core.Buffer]: ...

    @property
    def outputs(self) -> Mapping[str, core.Buffer]: ...

    def nbytes(self, name: str) -> int:
        """Of an input or output."""

    def enqueue(self, stream: core.Stream) -> None:
        """Put one batch on the stream. Raises DeviceLostError."""


class Lane:
    """The buffers of one program in one slot, each made when it is first needed."""

    def __init__(self, gpu: Gpu, program: DeviceProgram, stream: core.Stream) -> None:
        self.program = program
        self._gpu, self._stream = gpu, stream
        self.inputs: dict[str, PinnedArray] = {}
        self.aside: dict[str, core.Buffer] = {}
        self.results: dict[str, PinnedArray] = {}

    def prepare(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Take the memory for these. Raises DeviceMemoryError."""
        program = self.program
        for name in inputs:
            if name not in self.inputs:
                self.inputs[name] = self._gpu.pinned(program.shapes[name], program.dtypes[name])
        for name in outputs:
            if name not in self.aside:
                self.aside[name] = self._gpu.memory(program.nbytes(name), self._stream)
            if name not in self.results:
                self.results[name] = self._gpu.pinned(program.shapes[name], program.dtypes[name])

    def close(self) -> None:
        for pinned in (*self.inputs.values(), *self.results.values()):
            pinned.close()
        for memory in self.aside.values():
            memory.close(self._stream)


class Flight:
    """One batch under way in a slot, and its results once they have been taken out of it."""

    def __init__(self, slot: Slot, lane: Lane, outputs: Sequence[str]) -> None:
        self.slot, self.lane, self.outputs = slot, lane, tuple(outputs)
        self.holds: object = None
        """What the work reads and must not be given back before it is done."""
        self.results: dict[str, Array] | None = None

    def land(self, deadline: float) -> dict[str, Array]:
        """Wait for the results and copy them to memory that is the caller's. Raises DeviceLostError."""
        if self.results is None:
            wait_for_event(self.slot.copied, deadline)
            self.results = {name: self.lane.results[name].array.copy() for name in self.outputs}
            self.slot.flight = self.holds = None
        return self.results

    def array(self, gpu: Gpu, name: str, rows: int, deadline: float) -> DeviceArray:
        """The first rows of an output on the device, valid until the slot is used again."""
        program = self.lane.program
        return DeviceArray(
            gpu,
            self.lane.aside[name],
            (rows, *program.shapes[name][1:]),
            program.dtypes[name],
            self.slot.computed,
            lambda: self.land(deadline)[name][:rows],
        )


class Slot:
    """A place for one batch under way."""

    def __init__(self, gpu: Gpu, compute: core.Stream, copying: core.Stream) -> None:
        self._gpu, self._compute, self._copying = gpu, compute, copying
        self.computed: core.Event = gpu.event()
        self.copied: core.Event = gpu.event()
        self.lanes: dict[DeviceProgram, Lane] = {}
        self.flight: Flight | None = None

    def settle(self, deadline: float) -> None:
        """Make the slot free: the results of the batch in it are taken out, if nobody has asked for them yet."""
        if self.flight is not None:
            self.flight.land(deadline)

    def lane(self, program: DeviceProgram) -> Lane:
        if program not in self.lanes:
            self.lanes[program] = Lane(self._gpu, program, self._compute)
        return self.lanes[program]

    def drain(self, deadline: float) -> None:
        """Wait until the compute stream is done; the slot is free."""
        with translate_errors("waiting for the GPU"):
            self._compute.record(self.computed)
        wait_for_event(self.computed, deadline)

    def drop(self, program: DeviceProgram) -> None:
        """Give the memory of a program's lane back; the slot is free."""
        if program in self.lanes:
            self.lanes.pop(program).close()

    def start(
        self,
        lane: Lane,
        feeds: Mapping[str, Array],
        outputs: Sequence[str],
        draw: Callable[[DeviceProgram], None] | None,
    ) -> Flight:
        """Put a batch on the streams; the slot is free and the lane prepared. The feeds are the caller's again.

        Args:
            draw: puts on the compute stream what makes the inputs that are not in the feeds, and holds what that reads.
        """
        program: DeviceProgram = lane.program
        compute, copying = self._compute, self._copying
        for name, array in feeds.items():
            pinned = lane.inputs[name]
            np.copyto(pinned.array, array, casting="same_kind")
        with translate_errors(f"a batch of {program.size}"):
            for name in feeds:
                program.inputs[name].copy_from(lane.inputs[name].buffer, stream=compute)
            if draw is not None:
                draw(program)
            program.enqueue(compute)
            for name in outputs:
                lane.aside[name].copy_from(program.outputs[name], stream=compute)
            compute.record(self.computed)
            copying.wait(self.computed)
            for name in outputs:
                lane.results[name].buffer.copy_from(lane.aside[name], stream=copying)
            copying.record(self.copied)
        self.flight = Flight(self, lane, outputs)
        self.flight.holds = draw
        return self.flight

    def close(self) -> None:
        for lane in self.lanes.values():
            lane.close()
        self.computed.close()
        self.copied.close()
