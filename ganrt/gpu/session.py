"""A session whose work is on a GPU: two batches in flight, inputs drawn and pictures made there, and what happens when
memory runs out or the GPU fails. A backend says what a program is: something that runs batches of one shape."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import cuda.core as core
import numpy as np

from ganrt.backend import Pending, PictureSession
from ganrt.checks import is_finite
from ganrt.errors import BackendError, DeviceLostError, DeviceMemoryError, GanrtError, RequestError
from ganrt.feeds import Array, Draw, Feeds, require
from ganrt.gpu.device import BorrowedArray, Gpu, translate_errors
from ganrt.gpu.latents import DeviceLatents
from ganrt.gpu.requests import Given, Held, Request, Sampled
from ganrt.gpu.slots import DeviceProgram, Flight, Slot
from ganrt.gpu.tensor_names import FINITENESS_TENSOR
from ganrt.spec import Spec

_log = logging.getLogger(__name__)
_SLOTS = 2
_DEADLINE_S = 60.0
_ABANDONED: list[object] = []
"""Sessions on a GPU that is lost or hangs: work there may still write to their memory, so it is never given back."""


def parse_deadline(options: Mapping[str, Any]) -> float:
    """The option `deadline`, seconds that the GPU may take for a batch. Raises RequestError."""
    deadline = options.get("deadline", _DEADLINE_S)
    if not is_finite(deadline) or deadline <= 0:
        raise RequestError(f"deadline is {deadline!r}; it must be a number of seconds above 0")
    return float(deadline)


class DevicePrograms(Protocol):
    """What a backend can run, by shape. `engine_programs.Programs` is the one of TensorRT."""

    def batch_sizes(self) -> tuple[int, ...]:
        """Ascending."""

    def of(self, size: int, given: Mapping[str, tuple[int, ...]]) -> DeviceProgram:
        """The program for a batch of inputs of these shapes, made if it is not there; those that are not given are
        drawn. Raises DeviceMemoryError, RequestError."""

    def drop_size(self, size: int) -> None:
        """Give back what batches of a size have taken."""

    def close(self) -> None:
        """Free everything, after all work has been waited for."""


class DeviceSession(PictureSession):
    """`Session` and `PictureSession` on the programs of a backend."""

    def __init__(
        self,
        name: tuple[str, str],
        spec: Spec,
        gpu: Gpu,
        details: Mapping[str, str],
        deadline: float,
        programs: Callable[[core.Stream, Callable[[DeviceProgram], None]], DevicePrograms],
    ) -> None:
        """
        Args:
            name: backend and precision.
            deadline: seconds that the GPU may take for a batch.
            programs: makes the programs, for the stream that all work is put on, and with a function that waits for
                all work of a program before that is given up.
        """
        (self.backend, self.precision), self.device = name, f"cuda:{gpu.number}"
        self.details = {**details, **gpu.details()}
        self._spec, self._gpu, self._deadline = spec, gpu, deadline
        self._over = ""
        self._compute, self._copying = gpu.stream(), gpu.stream()
        self._slots = [Slot(gpu, self._compute, self._copying) for _ in range(_SLOTS)]
        self._turn = 0
        self._latents: DeviceLatents | None = None
        self._programs = programs(self._compute, self._settle)
        self.batch_sizes = self._programs.batch_sizes()
        self._largest = self.batch_sizes[-1]

    def restrict(self, batches: Sequence[int]) -> None:
        """Use some of the batch sizes only. Raises RequestError."""
        if not batches or not set(batches) <= set(self.batch_sizes):
            self.close()
            raise RequestError(f"batches are {batches}; this session has {self.batch_sizes}: choose some of them")
        self.batch_sizes = tuple(sorted(set(batches)))
        self._largest = self.batch_sizes[-1]

    def submit(self, feeds: Feeds) -> Pending:
        self._require_open()
        rows = require(self._spec, feeds, self.batch_sizes)
        return self._begin(Given(self._spec, feeds), rows)

    def submit_draw(self, draw: Draw) -> Pending:
        self._require_open()
        most = self.batch_sizes[-1]
        if not 1 <= draw.rows <= most:
            raise RequestError(f"{draw.rows} samples were asked for at a time; this session takes 1 to {most}")
        size = next(size for size in self.batch_sizes if size >= draw.rows)
        return self._begin(Sampled(self._spec, draw.part(0, size)), draw.rows)

    def submit_arrays(self, arrays: Mapping[str, Any]) -> Pending:
        """`submit` of arrays on this session's GPU that others made (of torch, JAX, CuPy: anything with DLPack or the
        CUDA array interface), copied within the GPU.

        Our stream waits for what makes them, as far as their library tells; the host does not. They must stay as they
        are until the results have been waited for. Raises RequestError when they do not fit.
        """
        self._require_open()
        with translate_errors("taking arrays"):
            self._gpu.enter()
            held = {name: BorrowedArray(self._gpu, name, array, self._compute) for name, array in arrays.items()}
        rows = require(self._spec, {n: np.empty(a.shape, a.dtype) for n, a in held.items()}, self.batch_sizes)
        return self._begin(Held(self._spec, held), rows)

    def close(self) -> None:
        if self._over:
            return
        self._over = "is closed; load the bundle again"
        try:
            self._gpu.enter()
            for slot in self._slots:
                slot.settle(self._deadline)
            with translate_errors("closing a session"):
                for part in (self._programs, *self._slots, self._compute, self._copying):
                    part.close()
        except GanrtError as error:
            _ABANDONED.append(self.__dict__.copy())
            _log.warning("the GPU failed while a session was closed, and its memory stays taken: %s", error)
        self._slots.clear()

    def _begin(self, request: Request, rows: int) -> Pending:
        """Start a batch of which the first rows are wanted."""
        try:
            with translate_errors(f"a batch of {request.rows}"):
                self._gpu.enter()
                return _Pending(self, self._submit(request), rows)
        except DeviceLostError as error:
            self._lose(error)
            raise

    def _submit(self, request: Request) -> list[Flight]:
        """One flight, or several of a batch that does not fit into memory."""
        size = request.rows
        if size > self._largest:
            return self._in_parts(request)
        try:
            return [self._start(request)]
        except DeviceMemoryError as error:
            self._programs.drop_size(size)
            smaller = [other for other in self.batch_sizes if other < size]
            if not smaller:
                raise
            self._largest = smaller[-1]
            _log.warning("%s; batches of %d are computed as batches of %d from now on", error, size, self._largest)
            return self._in_parts(request)

    def _start(self, request: Request) -> Flight:
        """Start a batch in the next slot. All memory is taken before anything is put on a stream, so that a refusal
        leaves nothing half done."""
        slot = self._slots[self._turn]
        slot.settle(self._deadline)
        feeds = request.feeds()
        lane = slot.lane(self._programs.of(request.rows, request.shapes()))
        lane.prepare(list(feeds), request.outputs)
        draw = None
        if request.draw is not None:
            draw = self._drawing(request.draw)
        elif isinstance(request, Held):
            draw = self._copying_in(request.arrays, lane.program)
        self._turn = (self._turn + 1) % _SLOTS
        return slot.start(lane, feeds, request.outputs, draw)

    def _drawing(self, draw: Draw) -> Callable[[DeviceProgram], None]:
        if self._latents is None:
            self._latents = DeviceLatents(self._gpu)
        latents = self._latents
        return lambda program: latents.put(self._spec, draw, program.inputs, program.dtypes, self._compute)

    def _copying_in(
        self, arrays: Mapping[str, BorrowedArray], program: DeviceProgram
    ) -> Callable[[DeviceProgram], None]:
        for name, array in arrays.items():
            if array.dtype != program.dtypes[name]:
                raise RequestError(f"{name} is {array.dtype}; this session takes {program.dtypes[name]} on the GPU")

        def copy(program: DeviceProgram) -> None:
            for name, array in arrays.items():
                program.inputs[name].copy_from(array.buffer, stream=self._compute)

        return copy

    def _settle(self, program: DeviceProgram) -> None:
        """Wait for all work, that of a batch which failed half-way included, and give back what the slots have taken
        for a program."""
        for slot in self._slots:
            slot.settle(self._deadline)
            slot.drain(self._deadline)
            slot.drop(program)

    def _in_parts(self, request: Request) -> list[Flight]:
        part = self._largest
        return [flight for first in range(0, request.rows, part) for flight in self._submit(request.part(first, part))]

    def land(self, flights: list[Flight], rows: int) -> dict[str, Array]:
        """The results of a batch, by the name of the output; a GPU that fails here ends the session."""
        if any(flight.results is None for flight in flights):
            self._require_open()
        try:
            self._gpu.enter()
            parts = [flight.land(self._deadline) for flight in flights]
        except DeviceLostError as error:
            self._lose(error)
            raise
        found = (
            parts[0] if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        )
        _require_finite({name: array[:rows] for name, array in found.items()})
        return {self._spec.output.name: found[flights[0].outputs[0]][:rows]}

    def on_device(self, flights: list[Flight], rows: int) -> dict[str, Any]:
        self._require_open()
        if len(flights) > 1:
            raise DeviceMemoryError(
                f"a batch of {rows} does not fit into the GPU's memory in one piece, so there is no array of it there: "
                "ask for fewer images at a time"
            )
        return {self._spec.output.name: flights[0].array(self._gpu, flights[0].outputs[0], rows, self._deadline)}

    def _lose(self, error: DeviceLostError) -> None:
        """Nothing of this session is touched again."""
        self._over = f"ended when the GPU failed ({error})"
        _ABANDONED.append((self._slots, self._programs, self._compute, self._copying))

    def _require_open(self) -> None:
        if self._over:
            raise BackendError(f"this {self.backend} session {self._over}")


class _Pending(Pending):
    def __init__(self, session: DeviceSession, flights: list[Flight], rows: int) -> None:
        self._session, self._flights, self._rows = session, flights, rows

    def wait(self) -> dict[str, Array]:
        return self._session.land(self._flights, self._rows)

    def device_arrays(self) -> dict[str, Any]:
        return self._session.on_device(self._flights, self._rows)


def _require_finite(found: Mapping[str, Array]) -> None:
    """Raise BackendError where an image has values that uint8 has no word for."""
    level = found.get(FINITENESS_TENSOR)
    if level is not None and not np.isfinite(level).all():
        raise BackendError(
            f"image {int(np.argmin(np.isfinite(level)))} of the batch has values that are not finite (overflow in "
            "reduced precision?)"
        )
