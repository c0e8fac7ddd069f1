"""An NVIDIA GPU through cuda-core: memory, streams, page-locked arrays, waiting with a deadline, and DLPack arrays.

Buffers, streams and events are cuda-core's own objects.
"""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, repeat
from typing import Any

import cuda.core as core
import numpy as np
from cuda.core.utils import StridedMemoryView

from ganrt.backend import first_line, library_version
from ganrt.errors import DeviceLostError, DeviceMemoryError, GanrtError, MachineError, RequestError
from ganrt.feeds import Array
from ganrt.machine import has_nvidia_gpu, nvidia_details

_KDLCPU, _KDLCUDA = 1, 2
"""DLPack's DLDeviceType."""
_POLLS, _SHORT_NAPS, _SHORT_S, _LONG_S = 200, 100, 1e-4, 1e-3
_OUT_OF_MEMORY = ("OUT_OF_MEMORY", "out of memory", "Failed to allocate memory")
"""Texts in the errors of CUDA, and of libraries above it, when an allocation fails."""
_never = threading.Event()
"""Waiting for it sleeps; only the clock of the benchmark imports `time`."""


def is_out_of_memory(reason: str) -> bool:
    """Return whether an error of CUDA, or of a library above it, is that of a failed allocation."""
    return any(text in reason for text in _OUT_OF_MEMORY)


@contextmanager
def translate_errors(action: str) -> Iterator[None]:
    """Turn CUDA's exceptions into DeviceMemoryError, after which the session works on, or DeviceLostError, after which
    it does not: CUDA keeps reporting any error but a failed allocation, and it may come from earlier work.

    `action` begins the message.
    """
    try:
        yield
    except GanrtError:
        raise
    except Exception as error:  # cuda-core's exceptions have no common base but this
        reason = first_line(error)
        if isinstance(error, MemoryError) or is_out_of_memory(reason):
            raise DeviceMemoryError(f"{action}: the GPU has too little memory left ({reason})") from error
        raise DeviceLostError(f"{action} failed: {reason}; load the bundle again") from error


class Gpu:
    """One GPU, in the context that all libraries of this process share. A thread must call `make_current` before it
    works with anything that was made here."""

    def __init__(self, number: int) -> None:
        """Raises MachineError if there is no such GPU. On a machine without any, no library is called."""
        if not has_nvidia_gpu():
            raise MachineError(f"cuda:{number} was asked for, but this machine has no NVIDIA GPU; use device='cpu'")
        try:
            count = len(core.Device.get_all_devices())
        except Exception as error:  # the driver's loader has no exception type of its own
            raise MachineError(f"CUDA does not start on this machine: {first_line(error)}") from error
        if number >= count:
            raise MachineError(f"cuda:{number} was asked for, but the last GPU here is cuda:{count - 1}")
        self.number = number
        with translate_errors(f"starting CUDA on cuda:{number}"):
            self._device: core.Device = core.Device(number)
            self.make_current()
            self.name = str(self._device.name)
            self.capability = "{}.{}".format(*self._device.compute_capability)

    def make_current(self) -> None:
        """Make this the GPU that the calling thread works with. Raises DeviceLostError."""
        with translate_errors(f"selecting cuda:{self.number}"):
            self._device.set_current()

    def describe(self) -> dict[str, str]:
        """Return the facts that results may depend on: GPU, compute capability, driver, cuda-core."""
        return {
            "gpu": self.name,
            "compute capability": self.capability,
            "driver": nvidia_details().get("driver", "?"),
            "cuda-core": library_version("cuda-core"),
        }

    def new_stream(self) -> core.Stream:
        """Return a stream that does not synchronize with the default stream."""
        return self._device.create_stream()

    def new_event(self) -> core.Event:
        return self._device.create_event()

    def allocate_memory(self, size: int, stream: core.Stream) -> core.Buffer:
        """Return `size` bytes of device memory (at least 1), aligned to 256 bytes or more. Raises DeviceMemoryError."""
        with translate_errors(f"allocating {size} bytes on {self.name}"):
            return self._device.allocate(max(size, 1), stream=stream)

    def allocate_pinned(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> PinnedArray:
        """Return a page-locked array on the host. Raises DeviceMemoryError."""
        size = max(math.prod(shape) * dtype.itemsize, 1)
        with translate_errors(f"page-locking {size} bytes"):
            return PinnedArray(core.LegacyPinnedMemoryResource().allocate(size), shape, dtype)

    def compile(self, source: str, kernels: tuple[str, ...]) -> dict[str, core.Kernel]:
        """Compile kernels of a CUDA C++ source for this GPU. Each product and sum is rounded by itself, as in NumPy."""
        with translate_errors("compiling a kernel"):
            options = core.ProgramOptions(std="c++17", arch=f"sm_{self.capability.replace('.', '')}", fma=False)
            program: core.Program = core.Program(source, "c++", options)
            code: core.ObjectCode = program.compile("cubin")
            return {name: code.get_kernel(name) for name in kernels}


class PinnedArray:
    """Page-locked memory: `buffer` for copies by the GPU, `array` for the host."""

    def __init__(self, buffer: core.Buffer, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.buffer: core.Buffer = buffer
        raw = (ctypes.c_ubyte * int(buffer.size)).from_address(int(buffer.handle))
        self.array: Array = np.frombuffer(memoryview(raw), dtype, math.prod(shape)).reshape(shape)

    def close(self) -> None:
        """Free the memory. `array` must not be used afterwards."""
        self.buffer.close()


def wait_for_event(event: core.Event, deadline: float) -> None:
    """Wait until all work before the event is done. Raises DeviceLostError after `deadline` seconds, or when CUDA
    reports an error of that work.

    Polls without a pause at first, because a small model is done by then, and sleeps between later polls.
    """
    with translate_errors("work on the GPU"):
        for nap in _list_naps(deadline):
            if event.is_done:
                return
            if nap:
                _never.wait(nap)
    raise DeviceLostError(
        f"the GPU did not answer within {deadline:g} seconds, and this session is over: load the bundle again, or "
        "allow more time with the option `deadline`"
    )


def _list_naps(deadline: float) -> Iterator[float]:
    """Yield the seconds to sleep after each poll; `deadline` in all."""
    long = math.ceil(max(deadline - _SHORT_NAPS * _SHORT_S, 0) / _LONG_S)
    return chain(repeat(0.0, _POLLS), repeat(_SHORT_S, _SHORT_NAPS), repeat(_LONG_S, long))


class DeviceArray:
    """Device memory that other libraries read through DLPack, without a copy.

    The session owns the memory; it is valid until the session's next `submit`. The consumer names the stream that will
    read it (`torch.from_dlpack`, `jax.dlpack`, `cupy.from_dlpack` do), and that stream waits for the values; the host
    does not.
    """

    def __init__(
        self,
        gpu: Gpu,
        buffer: core.Buffer,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        ready: core.Event,
        to_host: Callable[[], Array],
    ) -> None:
        """
        Args:
            ready: recorded behind the work that makes the values.
            to_host: waits for the values and returns a copy on the host.
        """
        self.shape, self.dtype = shape, dtype
        self._gpu, self._buffer, self._ready, self._to_host = gpu, buffer, ready, to_host

    def __dlpack_device__(self) -> tuple[int, int]:
        return _KDLCUDA, self._gpu.number

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """Return a capsule.

        Args:
            stream: the consumer's, as the array API standard defines it for CUDA: None or 1 the legacy default stream,
                2 the thread's default stream, -1 no ordering, else a handle.
            dl_device: (1, 0) asks for a copy on the host.
        """
        if dl_device is not None and dl_device[0] == _KDLCPU:
            return self._to_host().__dlpack__(max_version=max_version)
        if copy:
            raise BufferError("device memory is shared without a copy; copy it after from_dlpack")
        with translate_errors("sharing an array"):
            self._gpu.make_current()
            if stream != -1:
                _get_consumer_stream(stream).wait(self._ready)
            view: StridedMemoryView = StridedMemoryView.from_buffer(self._buffer, self.shape, dtype=self.dtype)
            return view.__dlpack__(stream=-1, max_version=max_version)


class BorrowedArray:
    """Another library's array on a GPU, taken through DLPack. It must be C-contiguous and must not change until the
    work that reads it is done. The stream given waits for the work that makes it."""

    def __init__(self, gpu: Gpu, name: str, array: object, stream: core.Stream) -> None:
        """Raises RequestError, naming the input, if it is no such array."""
        try:
            view: StridedMemoryView = StridedMemoryView.from_any_interface(array, stream_ptr=int(stream.handle))
            self.shape = tuple(int(side) for side in view.shape)
            self.dtype: np.dtype[Any] = np.dtype(view.dtype)
            on_gpu, number, strides = view.is_device_accessible, int(view.device_id), view.strides
            address = int(view.ptr)
        except Exception as error:  # the producer's or cuda-core's
            raise RequestError(f"{name} cannot be taken as an array on {gpu.name}: {first_line(error)}") from error
        if not on_gpu or number != gpu.number:
            raise RequestError(f"{name} is on another device; this session takes arrays on cuda:{gpu.number}")
        if strides is not None and tuple(strides) != _compute_strides(self.shape):
            raise RequestError(f"{name} is not C-contiguous; make it so first")
        self._owner = view
        self.nbytes = math.prod(self.shape) * self.dtype.itemsize
        self.buffer: core.Buffer = core.Buffer.from_handle(address, self.nbytes, owner=view)


def _compute_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of a C-contiguous array, in elements."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _get_consumer_stream(stream: int | None) -> core.Stream:
    if stream in (None, 0, 1):
        return core.LEGACY_DEFAULT_STREAM
    return core.PER_THREAD_DEFAULT_STREAM if stream == 2 else core.Stream.from_handle(stream)
