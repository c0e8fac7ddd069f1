"""Double buffering: while one batch is computed, the results of the batch before it are copied out.

The order of the two streams, for one batch in one slot:

    compute   copy inputs in · run the program · copy its outputs to staging buffers · record `computed`
    copying   wait for `computed` · copy the staging buffers to page-locked memory · record `copied`

All programs run on the one compute stream, which orders their use of memory. A slot's staging buffers keep their values
until the slot is used again, which happens only after `copied` was waited for. Nothing is allocated once a batch size
has run in both slots.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import cuda.core as core
import numpy as np

from ganrt.feeds import Array
from ganrt.gpu.device import DeviceArray, Gpu, PinnedArray, translate_errors, wait_for_event


class DeviceProgram(Protocol):
    """Runs batches of one shape on one stream, with inputs and outputs at fixed addresses."""

    @property
    def size(self) -> int:
        """Rows of a batch."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of each input and output by its name."""

    @property
    def dtypes(self) -> Mapping[str, np.dtype[Any]]:
        """Type of each input and output by its name."""

    @property
    def inputs(self) -> Mapping[str, core.Buffer]:
        """Device memory of each input by its name."""

    @property
    def outputs(self) -> Mapping[str, core.Buffer]:
        """Device memory of each output by its name; the next batch overwrites it."""

    def count_bytes(self, name: str) -> int:
        """Return the size of an input or output."""

    def enqueue(self, stream: core.Stream) -> None:
        """Put one batch on the stream. Raises DeviceLostError."""

    def close(self) -> None:
        """Free the memory, once all work is done."""


class Buffers:
    """The memory that one slot has for one program, allocated on first use."""

    def __init__(self, gpu: Gpu, program: DeviceProgram, stream: core.Stream) -> None:
        self.program = program
        self._gpu, self._stream = gpu, stream
        self.inputs: dict[str, PinnedArray] = {}
        """On the host."""
        self.staging: dict[str, core.Buffer] = {}
        """Copies of the outputs on the device."""
        self.results: dict[str, PinnedArray] = {}
        """Copies of the outputs on the host."""

    def allocate_for(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Allocate what these inputs and outputs still need. Raises DeviceMemoryError."""
        program = self.program
        for name in inputs:
            if name not in self.inputs:
                self.inputs[name] = self._gpu.allocate_pinned(program.shapes[name], program.dtypes[name])
        for name in outputs:
            if name not in self.staging:
                self.staging[name] = self._gpu.allocate_memory(program.count_bytes(name), self._stream)
            if name not in self.results:
                self.results[name] = self._gpu.allocate_pinned(program.shapes[name], program.dtypes[name])

    def close(self) -> None:
        """Free the memory, once all work is done."""
        for pinned in (*self.inputs.values(), *self.results.values()):
            pinned.close()
        for memory in self.staging.values():
            memory.close(self._stream)


class InFlightBatch:
    """A batch whose work is on the streams; later, its results."""

    def __init__(self, slot: BufferSlot, buffers: Buffers, outputs: Sequence[str]) -> None:
        self.slot, self.buffers, self.outputs = slot, buffers, tuple(outputs)
        self.keep_alive: object = None
        """Owns memory that the work reads."""
        self.results: dict[str, Array] | None = None
        """Copies that belong to the caller, once the batch was collected."""

    def collect(self, deadline: float) -> dict[str, Array]:
        """Wait for the results, copy them and free the slot. Raises DeviceLostError after `deadline` seconds."""
        if self.results is None:
            wait_for_event(self.slot.copied, deadline)
            self.results = {name: self.buffers.results[name].array.copy() for name in self.outputs}
            self.slot.batch = self.keep_alive = None
        return self.results

    def make_device_array(self, gpu: Gpu, name: str, rows: int, deadline: float) -> DeviceArray:
        """Return the first rows of an output on the device, valid until the slot is used again."""
        program = self.buffers.program
        return DeviceArray(
            gpu,
            self.buffers.staging[name],
            (rows, *program.shapes[name][1:]),
            program.dtypes[name],
            self.slot.computed,
            lambda: self.collect(deadline)[name][:rows],
        )


class BufferSlot:
    """Buffers and events for one batch in flight."""

    def __init__(self, gpu: Gpu, compute: core.Stream, copying: core.Stream) -> None:
        self._gpu, self._compute, self._copying = gpu, compute, copying
        self.computed: core.Event = gpu.new_event()
        """Recorded behind the copies to the staging buffers."""
        self.copied: core.Event = gpu.new_event()
        """Recorded behind the copies to the host."""
        self.buffers: dict[DeviceProgram, Buffers] = {}
        self.batch: InFlightBatch | None = None
        """The batch in flight, until it was collected."""

    def collect_batch(self, deadline: float) -> None:
        """Free the slot: collect the batch in it if nobody has done so yet."""
        if self.batch is not None:
            self.batch.collect(deadline)

    def get_buffers(self, program: DeviceProgram) -> Buffers:
        if program not in self.buffers:
            self.buffers[program] = Buffers(self._gpu, program, self._compute)
        return self.buffers[program]

    def drain_compute(self, deadline: float) -> None:
        """Wait until the compute stream is done. The slot must be free."""
        with translate_errors("waiting for the GPU"):
            self._compute.record(self.computed)
        wait_for_event(self.computed, deadline)

    def free_buffers(self, program: DeviceProgram) -> None:
        """Free the memory for a program. The slot must be free."""
        if program in self.buffers:
            self.buffers.pop(program).close()

    def start(
        self,
        buffers: Buffers,
        feeds: Mapping[str, Array],
        outputs: Sequence[str],
        fill_inputs: Callable[[DeviceProgram], None] | None,
    ) -> InFlightBatch:
        """Put a batch on the streams. The slot must be free and the buffers allocated. The feeds are copied first, so
        the caller may reuse them.

        Args:
            fill_inputs: puts on the compute stream what makes the other inputs. It is kept alive, with the memory that
                this work reads, until the batch is collected.
        """
        program: DeviceProgram = buffers.program
        compute, copying = self._compute, self._copying
        for name, array in feeds.items():
            pinned = buffers.inputs[name]
            np.copyto(pinned.array, array, casting="same_kind")
        with translate_errors(f"a batch of {program.size}"):
            for name in feeds:
                program.inputs[name].copy_from(buffers.inputs[name].buffer, stream=compute)
            if fill_inputs is not None:
                fill_inputs(program)
            program.enqueue(compute)
            for name in outputs:
                buffers.staging[name].copy_from(program.outputs[name], stream=compute)
            compute.record(self.computed)
            copying.wait(self.computed)
            for name in outputs:
                buffers.results[name].buffer.copy_from(buffers.staging[name], stream=copying)
            copying.record(self.copied)
        self.batch = InFlightBatch(self, buffers, outputs)
        self.batch.keep_alive = fill_inputs
        return self.batch

    def close(self) -> None:
        """Free all memory and events, once all work is done."""
        for buffers in self.buffers.values():
            buffers.close()
        self.computed.close()
        self.copied.close()
