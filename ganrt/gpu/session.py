"""A session on a GPU: two batches in flight, inputs drawn and pictures made on the device, and what happens when memory
runs out or the GPU fails. A backend provides the programs, each of which runs batches of one shape."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import cuda.core as core
import numpy as np

from ganrt.backend import Pending, PictureSession
from ganrt.checks import is_finite
from ganrt.errors import BackendError, DeviceLostError, DeviceMemoryError, GanrtError, RequestError
from ganrt.feeds import Array, Feeds, check_feeds
from ganrt.gpu.device import BorrowedArray, Gpu, translate_errors
from ganrt.gpu.double_buffering import BufferSlot, DeviceProgram, InFlightBatch
from ganrt.gpu.latents import DeviceLatents
from ganrt.gpu.requests import DeviceRequest, DrawRequest, HostRequest, Request
from ganrt.gpu.tensor_names import FINITENESS_TENSOR
from ganrt.sample_request import Draw
from ganrt.spec import Spec

_log = logging.getLogger(__name__)
_SLOTS = 2
_DEADLINE_S = 60.0
_ABANDONED: list[object] = []
"""Sessions on a GPU that failed or hangs. Work there may still write to their memory, so it is never freed."""

FillInputs = Callable[[DeviceProgram], None]
"""Puts on the compute stream what fills inputs of a program."""


def parse_deadline(options: Mapping[str, Any]) -> float:
    """Return the option `deadline`: seconds that the GPU may take for a batch. Raises RequestError."""
    deadline = options.get("deadline", _DEADLINE_S)
    if not is_finite(deadline) or deadline <= 0:
        raise RequestError(f"deadline is {deadline!r}; it must be a number of seconds above 0")
    return float(deadline)


class DevicePrograms(Protocol):
    """The programs of a backend (`TrtPrograms`, `OrtPrograms`)."""

    def list_batch_sizes(self) -> tuple[int, ...]:
        """Return the batch sizes that there can be programs for, ascending."""

    def get_program(self, size: int, given: Mapping[str, tuple[int, ...]]) -> DeviceProgram:
        """Return the program for a batch of `size` rows whose given inputs have these shapes, making it on first use.
        Inputs that are not given are drawn. Raises DeviceMemoryError, RequestError."""

    def close_size(self, size: int) -> None:
        """Free what batches of a size have allocated."""

    def close(self) -> None:
        """Free everything, once all work is done."""


class DeviceSession(PictureSession):
    """`Session` and `PictureSession` on the programs of a backend."""

    def __init__(
        self,
        name: tuple[str, str],
        spec: Spec,
        gpu: Gpu,
        details: Mapping[str, str],
        deadline: float,
        make_programs: Callable[[core.Stream, FillInputs], DevicePrograms],
    ) -> None:
        """
        Args:
            name: backend and precision.
            deadline: seconds that the GPU may take for a batch.
            make_programs: gets the stream that all work is put on, and a function that waits for all work of a program,
                to be called before the program is closed.
        """
        (self.backend, self.precision), self.device = name, f"cuda:{gpu.number}"
        self.details = {**details, **gpu.describe()}
        self._spec, self._gpu, self._deadline = spec, gpu, deadline
        self._closed_reason = ""
        self._compute, self._copying = gpu.new_stream(), gpu.new_stream()
        self._slots = [BufferSlot(gpu, self._compute, self._copying) for _ in range(_SLOTS)]
        self._next_slot = 0
        self._latents: DeviceLatents | None = None
        self._programs = make_programs(self._compute, self._release_program)
        self.batch_sizes = (1,) if spec.single else self._programs.list_batch_sizes()
        self._largest = self.batch_sizes[-1]

    def restrict_batches(self, batches: Sequence[int]) -> None:
        """Use only some of the batch sizes. Raises RequestError."""
        if not batches or not set(batches) <= set(self.batch_sizes):
            self.close()
            raise RequestError(f"batches are {batches}; this session has {self.batch_sizes}: choose some of them")
        self.batch_sizes = tuple(sorted(set(batches)))
        self._largest = self.batch_sizes[-1]

    def submit(self, feeds: Feeds) -> Pending:
        self._check_open()
        rows = check_feeds(self._spec, feeds, self.batch_sizes)
        return self._submit_request(HostRequest(self._spec, feeds), rows)

    def submit_draw(self, draw: Draw) -> Pending:
        self._check_open()
        most = self.batch_sizes[-1]
        if not 1 <= draw.rows <= most:
            raise RequestError(f"{draw.rows} samples were asked for at a time; this session takes 1 to {most}")
        size = next(size for size in self.batch_sizes if size >= draw.rows)
        return self._submit_request(DrawRequest(self._spec, draw.take_rows(0, size)), draw.rows)

    def submit_arrays(self, arrays: Mapping[str, Any]) -> Pending:
        """`submit` of other libraries' arrays on this session's GPU (torch, JAX, CuPy: anything with DLPack or the CUDA
        array interface), copied within the GPU.

        The session's stream waits for the work that makes them, as far as their library reports it; the host does not.
        The arrays must not change until the results have been waited for. Raises RequestError when they do not fit.
        """
        self._check_open()
        with translate_errors("taking arrays"):
            self._gpu.make_current()
            borrowed = {name: BorrowedArray(self._gpu, name, array, self._compute) for name, array in arrays.items()}
        rows = check_feeds(self._spec, {n: np.empty(a.shape, a.dtype) for n, a in borrowed.items()}, self.batch_sizes)
        return self._submit_request(DeviceRequest(self._spec, borrowed), rows)

    def close(self) -> None:
        if self._closed_reason:
            return
        self._closed_reason = "is closed; load the bundle again"
        if self.is_inherited:  # a CUDA context does not survive a fork
            return
        try:
            self._gpu.make_current()
            for slot in self._slots:
                slot.collect_batch(self._deadline)
            with translate_errors("closing a session"):
                drawing = [self._latents] if self._latents is not None else []
                for part in (self._programs, *self._slots, *drawing, self._compute, self._copying):
                    part.close()
        except GanrtError as error:
            _ABANDONED.append(self.__dict__.copy())
            _log.warning("the GPU failed while a session was closed, and its memory stays allocated: %s", error)
        self._slots.clear()

    def _submit_request(self, request: Request, rows: int) -> Pending:
        """Start a batch whose first `rows` rows are wanted."""
        try:
            with translate_errors(f"a batch of {request.rows}"):
                self._gpu.make_current()
                return _DevicePending(self, self._start_or_split(request), rows)
        except DeviceLostError as error:
            self._abandon(error)
            raise

    def _start_or_split(self, request: Request) -> list[InFlightBatch]:
        """Start a batch as one, or as several if it does not fit into memory."""
        size = request.rows
        if size > self._largest:
            return self._start_parts(request)
        try:
            return [self._start_batch(request)]
        except DeviceMemoryError as error:
            self._programs.close_size(size)
            smaller = [other for other in self.batch_sizes if other < size]
            if not smaller:
                raise
            self._largest = smaller[-1]
            _log.warning("%s; batches of %d are computed as batches of %d from now on", error, size, self._largest)
            return self._start_parts(request)

    def _start_parts(self, request: Request) -> list[InFlightBatch]:
        part = self._largest
        starts = range(0, request.rows, part)
        return [batch for first in starts for batch in self._start_or_split(request.split_off(first, part))]

    def _start_batch(self, request: Request) -> InFlightBatch:
        """Start a batch in the next slot. All memory is allocated before anything is put on a stream, so that a failed
        allocation leaves no work half enqueued."""
        slot = self._slots[self._next_slot]
        slot.collect_batch(self._deadline)
        feeds = request.feeds()
        buffers = slot.get_buffers(self._programs.get_program(request.rows, request.shapes()))
        buffers.allocate_for(list(feeds), request.outputs)
        fill_inputs = None
        if request.draw is not None:
            fill_inputs = self._prepare_draw(request.draw, buffers.program.dtypes)
        elif isinstance(request, DeviceRequest):
            fill_inputs = self._prepare_copy(request.arrays, buffers.program)
        self._next_slot = (self._next_slot + 1) % _SLOTS
        return slot.start(buffers, feeds, request.outputs, fill_inputs)

    def _prepare_draw(self, draw: Draw, dtypes: Mapping[str, np.dtype[Any]]) -> FillInputs:
        if self._latents is None:
            self._latents = DeviceLatents(self._gpu, self._spec, self.batch_sizes[-1], _SLOTS, self._compute)
        enqueue = self._latents.prepare(self._next_slot, draw, dtypes)
        return lambda program: enqueue(program.inputs)

    def _prepare_copy(self, arrays: Mapping[str, BorrowedArray], program: DeviceProgram) -> FillInputs:
        for name, array in arrays.items():
            if array.dtype != program.dtypes[name]:
                raise RequestError(f"{name} is {array.dtype}; this session takes {program.dtypes[name]} on the GPU")

        def copy(program: DeviceProgram) -> None:
            for name, array in arrays.items():
                program.inputs[name].copy_from(array.buffer, stream=self._compute)

        return copy

    def _release_program(self, program: DeviceProgram) -> None:
        """Wait for all work, even that of a batch that failed half-way, and free the slots' memory for a program."""
        for slot in self._slots:
            slot.collect_batch(self._deadline)
            slot.drain_compute(self._deadline)
            slot.free_buffers(program)

    def collect(self, batches: list[InFlightBatch], rows: int) -> dict[str, Array]:
        """Wait for the first `rows` rows of a batch and return them by the name of the output. A GPU that fails here
        ends the session."""
        if any(batch.results is None for batch in batches):
            self._check_open()
        try:
            self._gpu.make_current()
            parts = [batch.collect(self._deadline) for batch in batches]
        except DeviceLostError as error:
            self._abandon(error)
            raise
        found = (
            parts[0] if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        )
        _check_finite({name: array[:rows] for name, array in found.items()})
        return {self._spec.output.name: found[batches[0].outputs[0]][:rows]}

    def get_device_arrays(self, batches: list[InFlightBatch], rows: int) -> dict[str, Any]:
        """Return the first `rows` rows of a batch on the device, by the name of the output."""
        self._check_open()
        if len(batches) > 1:
            raise DeviceMemoryError(
                f"a batch of {rows} does not fit into the GPU's memory in one piece, so there is no array of it there: "
                "ask for fewer images at a time"
            )
        (batch,) = batches
        array = batch.make_device_array(self._gpu, batch.outputs[0], rows, self._deadline)
        return {self._spec.output.name: array}

    def _abandon(self, error: DeviceLostError) -> None:
        """End the session without touching anything of it again."""
        self._closed_reason = f"ended when the GPU failed ({error})"
        _ABANDONED.append((self._slots, self._programs, self._latents, self._compute, self._copying))

    def _check_open(self) -> None:
        if self._closed_reason:
            raise BackendError(f"this {self.backend} session {self._closed_reason}")
        self.reject_inherited()


class _DevicePending(Pending):
    def __init__(self, session: DeviceSession, batches: list[InFlightBatch], rows: int) -> None:
        self._session, self._batches, self._rows = session, batches, rows

    def wait(self) -> dict[str, Array]:
        return self._session.collect(self._batches, self._rows)

    def device_arrays(self) -> dict[str, Any]:
        return self._session.get_device_arrays(self._batches, self._rows)


def _check_finite(found: Mapping[str, Array]) -> None:
    """Raise BackendError if an image has values that are not finite; its uint8 picture cannot show it."""
    finiteness = found.get(FINITENESS_TENSOR)
    if finiteness is not None and not np.isfinite(finiteness).all():
        raise BackendError(
            f"image {int(np.argmin(np.isfinite(finiteness)))} of the batch has values that are not finite (overflow in "
            "reduced precision?)"
        )
