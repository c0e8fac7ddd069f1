"""An NVIDIA GPU through cuda-core: memory, streams, page-locked buffers, waiting that ends, and arrays for others.

Only GPU backends import this file. cuda-core's objects are used as they are; what is here is what they lack.
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
"""DLDeviceType."""
_POLLS, _SHORT_NAPS, _SHORT_S, _LONG_S = 200, 100, 1e-4, 1e-3
_NO_MEMORY = ("OUT_OF_MEMORY", "out of memory", "Failed to allocate memory")
"""What CUDA, and what libraries above it, say when an allocation is refused."""
_never = threading.Event()


@contextmanager
def translate_errors(what: str) -> Iterator[None]:
    """Turn whatever CUDA raises into DeviceMemoryError, after which all goes on, or DeviceLostError, after which
    nothing does: a CUDA error other than a refused allocation may come from work of long ago, and stays."""
    try:
        yield
    except GanrtError:
        raise
    except Exception as error:  # cuda-core's exceptions have no common base but this
        reason = first_line(error)
        if isinstance(error, MemoryError) or any(words in reason for words in _NO_MEMORY):
            raise DeviceMemoryError(f"{what}: the GPU has too little memory left ({reason})") from error
        raise DeviceLostError(f"{what} failed: {reason}; load the bundle again") from error


class Gpu:
    """One GPU, in the context that all libraries of this process share. A thread calls `enter` before it works with
    anything that was made here."""

    def __init__(self, number: int) -> None:
        """Raises MachineError when there is no such GPU. No library is touched on a machine without any."""
        if not has_nvidia_gpu():
            raise MachineError(f"cuda:{number} was asked for, but this machine has no NVIDIA GPU; use device='cpu'")
        try:
            count = len(core.Device.get_all_devices())
        except Exception as error:  # of the driver's loader
            raise MachineError(f"CUDA does not start on this machine: {first_line(error)}") from error
        if number >= count:
            raise MachineError(f"cuda:{number} was asked for, but the last GPU here is cuda:{count - 1}")
        self.number = number
        with translate_errors(f"starting CUDA on cuda:{number}"):
            self._device: core.Device = core.Device(number)
            self.enter()
            self.name = str(self._device.name)
            self.capability = "{}.{}".format(*self._device.compute_capability)

    def enter(self) -> None:
        """Make the GPU the one that this thread works with. Raises DeviceLostError."""
        with translate_errors(f"turning to cuda:{self.number}"):
            self._device.set_current()

    def details(self) -> dict[str, str]:
        """What results may depend on."""
        return {
            "gpu": self.name,
            "compute capability": self.capability,
            "driver": nvidia_details().get("driver", "?"),
            "cuda-core": library_version("cuda-core"),
        }

    def stream(self) -> core.Stream:
        """A stream of its own, which does not wait for the default one."""
        return self._device.create_stream()

    def event(self) -> core.Event:
        return self._device.create_event()

    def memory(self, size: int, stream: core.Stream) -> core.Buffer:
        """Device memory, at least one byte, aligned to 256 or more. Raises DeviceMemoryError."""
        with translate_errors(f"taking {size} bytes on {self.name}"):
            return self._device.allocate(max(size, 1), stream=stream)

    def pinned(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> PinnedArray:
        """A page-locked array on the host. Raises DeviceMemoryError."""
        size = max(math.prod(shape) * dtype.itemsize, 1)
        with translate_errors(f"page-locking {size} bytes"):
            return PinnedArray(core.LegacyPinnedMemoryResource().allocate(size), shape, dtype)

    def compile(self, source: str, kernels: tuple[str, ...]) -> dict[str, core.Kernel]:
        """Kernels of a CUDA C++ source, compiled for this GPU. Products and sums are rounded one by one, as NumPy
        does."""
        with translate_errors("compiling a kernel"):
            options = core.ProgramOptions(std="c++17", arch=f"sm_{self.capability.replace('.', '')}", fma=False)
            program: core.Program = core.Program(source, "c++", options)
            code: core.ObjectCode = program.compile("cubin")
            return {name: code.get_kernel(name) for name in kernels}


class PinnedArray:
    """Page-locked memory, as `buffer` for copies of the GPU and as `array` for the host."""

    def __init__(self, buffer: core.Buffer, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.buffer: core.Buffer = buffer
        raw = (ctypes.c_ubyte * int(buffer.size)).from_address(int(buffer.handle))
        self.array: Array = np.frombuffer(memoryview(raw), dtype, math.prod(shape)).reshape(shape)

    def close(self) -> None:
        """Give the memory back; `array` must not be looked at again."""
        self.buffer.close()


def wait_for_event(event: core.Event, deadline: float) -> None:
    """Return once everything before the event is done. Raises DeviceLostError after `deadline` seconds, or when CUDA
    reports an error of that work.

    The first moments are spent asking, because a small model is done within them; then the thread naps, so that others
    can work and a GPU that hangs is noticed.
    """
    with translate_errors("work on the GPU"):
        for nap in _naps(deadline):
            if event.is_done:
                return
            if nap:
                _never.wait(nap)
    raise DeviceLostError(
        f"the GPU did not answer within {deadline:g} seconds, and this session is over: load the bundle again, or "
        "allow more time with the option `deadline`"
    )


def _naps(deadline: float) -> Iterator[float]:
    long = math.ceil(max(deadline - _SHORT_NAPS * _SHORT_S, 0) / _LONG_S)
    return chain(repeat(0.0, _POLLS), repeat(_SHORT_S, _SHORT_NAPS), repeat(_LONG_S, long))


class DeviceArray:
    """Device memory that others read through DLPack, without a copy.

    The memory stays the session's: it is valid until the session's next `submit`. Whoever takes it names the stream
    that will read it (`torch.from_dlpack`, `jax.dlpack`, `cupy.from_dlpack` do), and that stream waits for the values;
    the host does not.
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
        """`ready` is recorded behind the work that makes the values; `to_host` waits and copies them."""
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
        """A capsule. `stream` as the array API standard has it for CUDA: None or 1 the legacy default stream, 2 the
        default stream of the thread, -1 no ordering, else a handle. For `dl_device` = (1, 0) the values come as a copy
        on the host."""
        if dl_device is not None and dl_device[0] == _KDLCPU:
            return self._to_host().__dlpack__(max_version=max_version)
        if copy:
            raise BufferError("device memory is handed out as it is; copy it yourself")
        with translate_errors("handing an array over"):
            self._gpu.enter()
            if stream != -1:
                _consumer(stream).wait(self._ready)
            view: StridedMemoryView = StridedMemoryView.from_buffer(self._buffer, self.shape, dtype=self.dtype)
            return view.__dlpack__(stream=-1, max_version=max_version)


class BorrowedArray:
    """An array of somebody else on a GPU, taken through DLPack: C-contiguous, and ordered behind the work that makes it
    on the stream that it was taken for. It must stay as it is until the work that reads it is done."""

    def __init__(self, gpu: Gpu, name: str, array: object, stream: core.Stream) -> None:
        """Raises RequestError naming the input when it is no such array."""
        try:
            view: StridedMemoryView = StridedMemoryView.from_any_interface(array, stream_ptr=int(stream.handle))
            self.shape = tuple(int(side) for side in view.shape)
            self.dtype: np.dtype[Any] = np.dtype(view.dtype)
            on_gpu, number, strides = view.is_device_accessible, int(view.device_id), view.strides
            address = int(view.ptr)
        except Exception as error:  # of the producer, or of cuda-core
            raise RequestError(f"{name} cannot be taken as an array on {gpu.name}: {first_line(error)}") from error
        if not on_gpu or number != gpu.number:
            raise RequestError(f"{name} is on another device; this session takes arrays on cuda:{gpu.number}")
        if strides is not None and tuple(strides) != _contiguous(self.shape):
            raise RequestError(f"{name} is not C-contiguous; make it so first")
        self._owner = view
        self.nbytes = math.prod(self.shape) * self.dtype.itemsize
        self.buffer: core.Buffer = core.Buffer.from_handle(address, self.nbytes, owner=view)


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides in elements."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _consumer(stream: int | None) -> core.Stream:
    if stream in (None, 0, 1):
        return core.LEGACY_DEFAULT_STREAM
    return core.PER_THREAD_DEFAULT_STREAM if stream == 2 else core.Stream.from_handle(stream)
