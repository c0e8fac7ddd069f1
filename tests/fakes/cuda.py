"""A fake GPU: cuda-core's names over host memory, with the work of streams done as late as their order allows.

Work on a stream is done when somebody waits for it, with all work that comes before it in its stream or by events, and
no other work (`late`); or some of it at any moment that the order allows (`eager`). So a missing wait, a buffer reused
too early or a result read too early gives a wrong picture. Fresh memory holds garbage. `calls` records every call and
`work` every piece of work.
"""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fakes.strict import make_strict
from helpers import foreign_api

API = foreign_api.read_versions("cuda_core_api.json")


class CUDAError(Exception):
    """As cuda-core's."""


class Work:
    """A piece of work on a stream, to be done after others."""

    def __init__(self, what: str, after: list[Work], act: Callable[[], None], stream: int) -> None:
        self.what, self.after, self.act, self.stream = what, after, act, stream
        self.done = False
        self.buffers: tuple[int, ...] = ()
        """Source and target addresses of a copy."""
        self.bytes = 0

    def comes_after(self, other: Work) -> bool:
        """Whether the order of streams and events puts this after another."""
        remaining, seen = [self], set()
        while remaining:
            one = remaining.pop()
            if one is other:
                return True
            if id(one) not in seen:
                seen.add(id(one))
                remaining += one.after
        return False


class FakeCuda:
    """The state of the GPU, and the faults it has."""

    def __init__(self, count: int = 1, limit: int = 2**40, seed: int | None = None) -> None:
        """
        Args:
            limit: bytes of device memory.
            seed: of the random order of `eager`; None for `late`.
        """
        self.count, self.limit = count, limit
        self.random = None if seed is None else random.Random(seed)
        self.favoured = 0
        self.make: dict[str, Any] = {}
        """The strict classes, once the fake is installed."""
        self.calls: list[str] = []
        self.work: list[Work] = []
        self.memory: dict[int, np.ndarray] = {}
        self.keep: list[np.ndarray] = []
        self.used = 0
        self.streams: dict[int, Any] = {}
        self.threads = threading.local()
        self.error = ""
        self.hangs = False
        self.capture_fails = False
        self.break_at: str | None = None
        self.kernels: dict[str, Callable[..., None]] = {}
        self.name, self.capability = "NVIDIA Fake 100", (9, 0)

    def note(self, call: str) -> None:
        """Record a call of the library; raise CUDA's error if there is one."""
        self.calls.append(call)
        if self.error:
            raise CUDAError(self.error)
        if not getattr(self.threads, "entered", False):
            raise CUDAError("CUDA_ERROR_INVALID_CONTEXT: this thread has no current context")
        if self.random is not None:
            self.run_some(self.random)

    def run_some(self, chance: random.Random) -> None:
        """Do some work that the order allows, on one stream for a while and then on another, so that each gets far
        ahead."""
        if chance.random() < 0.1:
            self.favoured = chance.choice([*self.streams, 0])
        for _ in range(chance.randrange(6)):
            ready = [w for w in self.work if not w.done and all(a.done for a in w.after)]
            ready = [w for w in ready if w.stream == self.favoured]
            if ready:
                self.run(ready[0])

    def enqueue(self, stream: Any, what: str, act: Callable[[], None], also_after: tuple[Work, ...] = ()) -> None:
        if stream._capture is not None:
            stream._capture.append((what, act))
            return
        after = [w for w in (stream._last, *also_after) if w is not None and not w.done]
        stream._last = Work(what, after, act, stream._number)
        self.work.append(stream._last)

    def run(self, work: Work) -> None:
        if work.what == self.break_at:
            self.error = "CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered"
        if self.error:
            raise CUDAError(self.error)
        work.act()
        work.done = True

    def finish(self, work: Work | None) -> None:
        """Do a piece of work and everything that must come before it."""
        stack = [work] if work is not None else []
        while stack:
            one = stack[-1]
            missing = [w for w in one.after if not w.done]
            if one.done or not missing:
                stack.pop()
                if not one.done:
                    self.run(one)
            stack += missing

    def allocate(self, size: int, device: bool) -> int:
        if device and self.used + size > self.limit:
            raise CUDAError("CUDA_ERROR_OUT_OF_MEMORY: the API call failed because it was unable to allocate memory")
        whole = np.full(size + 256, 0xCD, np.uint8)
        first = -whole.ctypes.data % 256
        memory = whole[first : first + size]
        self.keep.append(whole)
        self.memory[memory.ctypes.data] = memory
        self.used += size * device
        return memory.ctypes.data

    def free(self, address: int, device: bool) -> None:
        self.used -= self.memory.pop(address).size * device

    def get_memory(self, address: int) -> np.ndarray:
        """Return the memory at an address that is allocated."""
        if address not in self.memory:
            raise CUDAError(f"CUDA_ERROR_ILLEGAL_ADDRESS: nothing is allocated at {address:#x}")
        return self.memory[address]

    def count_calls(self, call: str) -> int:
        return sum(name == call for name in self.calls)


def install(monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda, version: str = "1.2.2") -> None:
    """Install the fake as `cuda.core`."""
    api = API[version]
    made = {name: make_strict(api, name, behaviour) for name, behaviour in define_classes(cuda).items()}
    core = ModuleType("cuda.core")
    core.__dict__.update(made)
    core.__dict__.update(launch=_launch(cuda))
    core.__dict__.update({name: object() for name in ("LEGACY_DEFAULT_STREAM", "PER_THREAD_DEFAULT_STREAM")})
    stream = made["Stream"]
    for name in ("LEGACY_DEFAULT_STREAM", "PER_THREAD_DEFAULT_STREAM"):
        core.__dict__[name] = stream(cuda)
    cuda.make = made
    for name, parts in {
        "cuda": {},
        "cuda.core": core.__dict__,
        "cuda.core.utils": made,
        "cuda.core.graph": made,
    }.items():
        module = ModuleType(name)
        module.__dict__.update({k: v for k, v in parts.items() if not k.startswith("__")})
        module.__dict__.update(__path__=[])
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["cuda"].core = sys.modules["cuda.core"]  # type: ignore[attr-defined]


def _launch(cuda: FakeCuda) -> Callable[..., None]:
    def launch(stream: Any, config: Any, kernel: Any, *kernel_args: Any) -> None:
        cuda.note(f"launch {kernel._name}")
        cuda.enqueue(stream, f"kernel {kernel._name}", lambda: cuda.kernels[kernel._name](cuda, config, *kernel_args))

    return launch


def define_classes(cuda: FakeCuda) -> dict[str, type]:
    """Return the behaviour of cuda-core's classes, by name."""

    class Device:
        def __init__(self, device_id: int = 0) -> None:
            if not 0 <= device_id < cuda.count:
                raise ValueError(f"device_id must be >= 0 and < {cuda.count}, got {device_id}")
            self._number = device_id

        @staticmethod
        def get_all_devices() -> tuple[int, ...]:
            return tuple(range(cuda.count))

        def set_current(self, ctx: Any = None) -> None:
            if cuda.error:
                raise CUDAError(cuda.error)
            cuda.threads.entered = True

        name = property(lambda self: cuda.name)
        compute_capability = property(lambda self: cuda.capability)

        def create_stream(self, obj: Any = None, options: Any = None) -> Any:
            cuda.note("create_stream")
            return cuda.make["Stream"](cuda)

        def create_event(self, options: Any = None) -> Any:
            cuda.note("create_event")
            return cuda.make["Event"](cuda)

        def allocate(self, size: int, *, stream: Any) -> Any:
            cuda.note("allocate")
            if stream._capture is not None:
                raise CUDAError("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED: memory was allocated while a graph is captured")
            return cuda.make["Buffer"](cuda, size, True)

    class Stream:
        def __init__(self, owner: FakeCuda) -> None:
            self._number = 1000 + 7 * len(owner.streams)
            owner.streams[self._number] = self
            self._last: Work | None = None
            self._capture: list[Any] | None = None
            self._closed = False

        handle = property(lambda self: self._number)

        @staticmethod
        def from_handle(handle: int) -> Any:
            return cuda.streams[handle]

        def sync(self) -> None:
            cuda.note("stream.sync")
            if self._capture is not None:
                raise CUDAError("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED: a stream that is captured was waited for")
            cuda.finish(self._last)

        def record(self, event: Any = None, options: Any = None) -> Any:
            cuda.note("record")
            cuda.enqueue(self, "record", lambda: None)
            event._work = self._last
            return event

        def wait(self, event_or_stream: Any) -> None:
            cuda.note("stream.wait")
            work = event_or_stream._work
            cuda.enqueue(self, "wait", lambda: None, () if work is None else (work,))

        def create_graph_builder(self) -> Any:
            cuda.note("create_graph_builder")
            return cuda.make["GraphBuilder"](self)

        def close(self) -> None:
            self._closed = True

    class Event:
        def __init__(self, owner: FakeCuda) -> None:
            self._work: Work | None = None
            self._asked = False
            self._closed = False

        @property
        def is_done(self) -> bool:
            cuda.note("event.is_done")
            if self._work is None or self._work.done:
                return True
            if cuda.hangs:
                return False
            cuda.finish(self._work)
            return False

        def close(self) -> None:
            self._closed = True

    class Buffer:
        def __init__(self, owner: FakeCuda, size: int, device: bool) -> None:
            self._address, self._bytes, self._device = owner.allocate(size, device), size, device
            self._closed = False

        @staticmethod
        def from_handle(ptr: int, size: int, mr: Any = None, owner: Any = None, **_: Any) -> Any:
            cuda.note("from_handle")
            assert mr is None and owner is not None
            made = cuda.make["Buffer"].__new__(cuda.make["Buffer"])
            made._address, made._bytes, made._device, made._closed = ptr, size, True, False
            return made

        handle = property(lambda self: self._address)
        size = property(lambda self: self._bytes)

        def copy_from(self, src: Any, *, stream: Any, options: Any = None) -> None:
            cuda.note("copy_from")
            if src._closed or src._bytes != self._bytes:
                raise ValueError(f"buffer sizes mismatch between src and dst ({src._bytes} and {self._bytes})")
            source, target = src._address, self._address
            kind = f"copy {'device' if src._device else 'host'} to {'device' if self._device else 'host'}"
            cuda.enqueue(stream, kind, lambda: np.copyto(cuda.get_memory(target), cuda.get_memory(source)))
            if cuda.work and cuda.work[-1] is stream._last:
                stream._last.buffers, stream._last.bytes = (source, target), self._bytes

        def fill(self, value: int, *, stream: Any) -> None:
            cuda.note("fill")
            target = self._address
            cuda.enqueue(stream, "fill", lambda: cuda.get_memory(target).fill(value))

        def close(self, stream: Any = None) -> None:
            if not self._closed:
                self._closed = True
                cuda.free(self._address, self._device)

    class LegacyPinnedMemoryResource:
        def allocate(self, size: int, *, stream: Any = None) -> Any:
            cuda.note("allocate pinned")
            return cuda.make["Buffer"](cuda, size, False)

    class GraphBuilder:
        def __init__(self, stream: Any) -> None:
            self._stream = stream
            self._captured: list[Any] = []
            self._closed = False

        def begin_building(self, mode: str = "relaxed") -> Any:
            cuda.note("begin_building")
            assert mode == "thread_local"
            self._stream._capture = self._captured
            return self

        def end_building(self) -> Any:
            cuda.note("end_building")
            self._stream._capture = None
            if cuda.capture_fails:
                raise CUDAError("CUDA_ERROR_STREAM_CAPTURE_INVALIDATED: operation failed due to a previous error")
            return self

        def complete(self, options: Any = None) -> Any:
            cuda.note("complete")
            return cuda.make["Graph"](list(self._captured))

        def close(self) -> None:
            self._stream._capture = None
            self._closed = True

    class Graph:
        def __init__(self, captured: list[Any]) -> None:
            self._captured = captured
            self._closed = False

        def launch(self, stream: Any) -> None:
            cuda.note("graph.launch")

            def act() -> None:
                for _, one in self._captured:
                    one()

            cuda.enqueue(stream, "graph", act)

        def close(self) -> None:
            self._closed = True

    class StridedMemoryView:
        @staticmethod
        def from_any_interface(obj: Any, stream_ptr: int) -> Any:
            """Take an object with `buffer`, `shape`, `dtype` and `ready`, such as the tests' ForeignArray."""
            cuda.note("from_any_interface")
            cuda.streams[stream_ptr].wait(obj.ready)
            view = cuda.make["StridedMemoryView"]()
            view._ptr, view._shape, view._dtype = obj.buffer._address, obj.shape, obj.dtype
            view._device_id, view._is_device_accessible, view._strides = obj.device_id, obj.device_id >= 0, obj.strides
            return view

        ptr, shape, dtype, device_id, is_device_accessible, strides = (0, (), 0, 0, False, ())

        @staticmethod
        def from_buffer(
            buffer: Any,
            shape: Any,
            strides: Any = None,
            *,
            itemsize: Any = None,
            dtype: Any = None,
            is_readonly: Any = 0,
        ) -> Any:
            cuda.note("view")
            view = cuda.make["StridedMemoryView"]()
            view._array = cuda.get_memory(buffer._address).view(dtype).reshape(shape)
            return view

        def __dlpack__(
            self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: Any = None
        ) -> Any:
            return self._array.__dlpack__(max_version=max_version)  # type: ignore[attr-defined]

    class Program:
        def __init__(self, code: str, code_type: str, options: Any = None) -> None:
            assert code_type == "c++" and options._options["fma"] is False
            self._code = code

        def compile(self, target_type: str, name_expressions: Any = (), logs: Any = None, *, cache: Any = None) -> Any:
            cuda.note("compile")
            return cuda.make["ObjectCode"]()

    class ProgramOptions:
        def __init__(self, **options: Any) -> None:
            self._options = options

    class ObjectCode:
        def get_kernel(self, name: str) -> Any:
            return cuda.make["Kernel"](name)

    class Kernel:
        def __init__(self, name: str) -> None:
            self._name = name

    class LaunchConfig:
        def __init__(self, **options: Any) -> None:
            self._options = options

    return {name: value for name, value in locals().items() if isinstance(value, type)}
