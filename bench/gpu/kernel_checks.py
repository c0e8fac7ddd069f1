"""Step 1 on a GPU machine: what needs no inference library. Kernels, streams, CUDA graphs, DLPack, and PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from ganrt.bundle import Bundle
from ganrt.errors import BackendError
from ganrt.feeds import Array, draw_rows
from ganrt.images import to_uint8
from ganrt.sample_request import Draw, SampleRequest, find_truncations, mix_requests
from ganrt.spec import Label, Latent, Output, Scalar, Spec
from ganrt.testing import check_backend

from .. import clock
from .bundles import list_bundles
from .runner import Check, Setting, read_gpu_facts

if TYPE_CHECKING:
    import cuda.core as core
    from cuda.core.graph import Graph, GraphBuilder

    from ganrt.gpu import Gpu

_ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_120")
_DRAWN = Spec(
    "drawn",
    (
        Latent("resampled", (513,), truncation="resampled"),
        Latent("scaled", (7,), truncation="scaled", default=0.5),
        Latent("uniform", (2, 3), distribution="uniform", range=(-2.0, 2.0)),
        Label("index", 1000, "index"),
        Scalar("truncation", (0.0, 2.0), 1.0),
    ),
    Output(1, (0.0, 1.0), (4, 4)),
)
_ONE_HOT = Spec("drawn", (Latent("z", (5,)), Label("y", 11, "one_hot")), Output(1, (0.0, 1.0), (4, 4)))
_REQUESTS = tuple(
    SampleRequest(rows, seed, start, None, truncation)
    for seed, start, rows in ((0, 0, 1), (2**40 + 7, 2**32 - 100, 256), (2**64 - 1, 2**63, 33))
    for truncation in (None, 0.0, 0.7, 2.0)
)
_MIXED = (1, 33, 256)
"""Rows of batches of many requests."""
_RANGES = ((-1.0, 1.0), (0.0, 1.0), (0.0, 255.0), (-2.5, 0.5))
_KERNEL = "ganrt_add_late"
_SOURCE = f"""
extern "C" __global__ void {_KERNEL}(float *values, unsigned long long count, float added, long long cycles) {{
    unsigned long long place = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x;
    for (long long start = clock64(); clock64() - start < cycles;) {{}}
    if (place < count) values[place] += added;
}}
"""
"""Adds to values, but only after some clock cycles, so that work which does not wait for it reads too early."""
_CYCLES = 20_000_000
"""Some 10 ms."""
_COUNT, _THREADS = 4096, 128
_REPLAYS = 5


def report_gpu(setting: Setting) -> str:
    """The GPU and its driver answer."""
    setting.require_gpu("nvidia-smi and CUDA need a driver")
    from ganrt.gpu import Gpu

    facts = read_gpu_facts() | Gpu(0).describe()
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def compile_sources(setting: Setting) -> str:
    """NVRTC compiles the sources for every architecture; this needs no GPU."""
    import cuda.core as core

    from ganrt.gpu import latents, pictures

    compiled = []
    for architecture in _ARCHITECTURES:
        sizes = []
        for source in (latents.read_source(), pictures.read_source(), _SOURCE):
            options = core.ProgramOptions(std="c++17", arch=architecture, fma=False)
            program: core.Program = core.Program(source, "c++", options)
            code: core.ObjectCode = program.compile("cubin")
            sizes.append(len(code.code))
        compiled.append(f"{architecture} {'+'.join(map(str, sizes))} bytes")
    return ", ".join(compiled)


def compare_draws(setting: Setting) -> str:
    """The device draws what the host draws, bit for bit: all distributions, truncations and labels."""
    host = [(spec, draw, draw_rows(spec, draw)) for spec in (_DRAWN, _ONE_HOT) for draw in _list_draws(spec)]
    values = sum(array.size for _, _, feeds in host for array in feeds.values())
    setting.require_gpu(f"{len(host)} draws of {values} values on the host")
    from ganrt.gpu import Gpu, latents

    gpu = Gpu(0)
    stream = gpu.new_stream()
    most = max(draw.rows for _, draw, _ in host)
    kernels = {spec: latents.DeviceLatents(gpu, spec, most, 1, stream) for spec in (_DRAWN, _ONE_HOT)}
    for spec, draw, feeds in host:
        for labels in (np.int64, np.int32):  # TensorRT 8.6 takes int32
            right = {name: array.astype(labels) if array.dtype.kind == "i" else array for name, array in feeds.items()}
            memories = {name: gpu.allocate_memory(array.nbytes, stream) for name, array in right.items()}
            enqueue = kernels[spec].prepare(0, draw, {name: array.dtype for name, array in right.items()})
            enqueue(memories)
            for name, array in right.items():
                _require_equal(read_back(gpu, memories[name], array, stream), array, f"{name} of {draw}")
    return f"{len(host)} draws, {values} values, all bits equal"


def _list_draws(spec: Spec) -> Iterator[Draw]:
    """One seed for all rows, and rows of many requests."""
    for request in _REQUESTS:
        if request.truncation is None or find_truncations(spec) is not None:
            yield request.take_rows(0, request.rows)
    for rows in _MIXED:
        yield mix_requests(spec, rows)


def compare_pictures(setting: Setting) -> str:
    """The kernel makes the pictures of `to_uint8`, and marks images that are not finite."""
    cases = [(value_range, _make_image(shape, value_range)) for value_range in _RANGES for shape in _SHAPES]
    right = [to_uint8(image, value_range) for value_range, image in cases]
    setting.require_gpu(f"{len(cases)} images, {sum(made.size for made in right)} values on the host")
    from ganrt.gpu import Gpu, pictures

    gpu = Gpu(0)
    stream, kernel = gpu.new_stream(), pictures.DevicePictures(gpu)
    for (value_range, image), wanted in zip(cases, right, strict=True):
        for broken in (None, np.nan, np.inf):
            given = image.copy()
            if broken is not None:
                given[-1, 0, 0, 0] = broken
            source = write_to_device(gpu, given, stream)
            made = gpu.allocate_memory(wanted.nbytes, stream)
            finiteness = gpu.allocate_memory(4 * len(given), stream)
            kernel.enqueue(source, made, finiteness, given.shape, value_range, stream)
            found = read_back(gpu, made, wanted, stream)
            marks = read_back(gpu, finiteness, np.empty(len(given), np.float32), stream)
            marked = np.zeros(len(given), bool)
            marked[-1] = broken is not None
            _require_equal(np.isnan(marks), marked, f"the marks of images with {broken}")
            whole = len(given) if broken is None else len(given) - 1
            _require_equal(found[:whole], wanted[:whole], f"the pictures of {value_range}")
    return f"{3 * len(cases)} launches, all bits equal; NaN and infinity are marked"


_SHAPES = ((1, 1, 1, 1), (3, 3, 5, 7), (2, 4, 64, 64))


def _make_image(shape: tuple[int, ...], value_range: tuple[float, float]) -> Array:
    """Values on and between the steps of uint8, halves among them, and some outside the range."""
    low, high = value_range
    steps = np.arange(math.prod(shape), dtype=np.float32) / 2 % 300 - 20
    image: Array = (np.float32(low) + steps * np.float32((high - low) / 255)).reshape(shape)
    return image


def order_streams(setting: Setting) -> str:
    """Work on one stream waits for an event of another, and a CUDA graph of a kernel can be launched again."""
    setting.require_gpu("streams need a GPU")
    from ganrt.gpu import Gpu

    gpu = Gpu(0)
    first, second, done = gpu.new_stream(), gpu.new_stream(), gpu.new_event()
    kernel = gpu.compile(_SOURCE, (_KERNEL,))[_KERNEL]
    zeros = np.zeros(_COUNT, np.float32)
    memory = write_to_device(gpu, zeros, first)
    _add_late(kernel, memory, 3.0, first)
    first.record(done)
    enqueued = clock.now_ns()
    second.wait(done)
    found = read_back(gpu, memory, zeros, second)
    waited = (clock.now_ns() - enqueued) / 1e6
    _require_equal(found, zeros + 3, "what the second stream reads after the event")
    graph = _capture(first, lambda: _add_late(kernel, memory, 0.5, first))
    _require_equal(read_back(gpu, memory, zeros, first), zeros + 3, "values after a capture, which runs nothing")
    for _ in range(_REPLAYS):
        graph.launch(first)
    _require_equal(read_back(gpu, memory, zeros, first), zeros + 3 + 0.5 * _REPLAYS, "values after the replays")
    return f"the second stream waited {waited:.1f} ms for the kernel of the first; {_REPLAYS} replays of a graph"


def _capture(stream: core.Stream, act: Callable[[], None]) -> Graph:
    """Capture what `act` puts on a stream."""
    builder: GraphBuilder = stream.create_graph_builder()
    builder.begin_building("thread_local")
    try:
        act()
    finally:
        builder.end_building()  # in any case: a stream that stays in capture does no work
    return builder.complete()


def _add_late(kernel: core.Kernel, memory: core.Buffer, added: float, stream: core.Stream) -> None:
    import cuda.core as core

    config = core.LaunchConfig(grid=-(-_COUNT // _THREADS), block=_THREADS)
    core.launch(stream, config, kernel, memory, np.uint64(_COUNT), np.float32(added), np.int64(_CYCLES))


def share_with_torch(setting: Setting) -> str:
    """torch reads device memory through DLPack once the kernel that fills it is done, and its arrays are taken in the
    order of its streams."""
    import torch
    from torch.utils.dlpack import from_dlpack

    setting.require_gpu(f"torch {torch.__version__} is there")
    from ganrt.gpu import BorrowedArray, DeviceArray, Gpu

    gpu = Gpu(0)
    stream, ready = gpu.new_stream(), gpu.new_event()
    kernel, zeros = gpu.compile(_SOURCE, (_KERNEL,))[_KERNEL], np.zeros(_COUNT, np.float32)
    memory = write_to_device(gpu, zeros, stream)
    _add_late(kernel, memory, 3.0, stream)
    stream.record(ready)
    array = DeviceArray(gpu, memory, zeros.shape, zeros.dtype, ready, lambda: read_back(gpu, memory, zeros, stream))
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(side):
        taken = from_dlpack(array)
        doubled = taken * 2
    side.synchronize()
    if taken.data_ptr() != int(memory.handle):
        raise BackendError("torch made a copy of the array")
    _require_equal(doubled.cpu().numpy(), zeros + 6, "what torch computes of the array on a side stream")
    with torch.cuda.stream(side):
        torch.cuda._sleep(_CYCLES)  # type: ignore[no-untyped-call]
        tensor = torch.full((_COUNT,), 7.0, device="cuda")
        borrowed = BorrowedArray(gpu, "x", tensor, stream)
    found = read_back(gpu, borrowed.buffer, zeros, stream)
    _require_equal(found, zeros + 7, "what is read of torch's array")
    torch.cuda.synchronize()
    return "both ways without a copy and in the order of the streams"


def check_pytorch(setting: Setting) -> str:
    """PyTorch on CUDA keeps the contract of a session, on each bundle."""
    folders = list_bundles(setting.bundles)
    for folder in folders:
        check_backend("pytorch", Bundle.read(folder), device=setting.device, life_cycle=False)
    text = f"{', '.join(folder.stem for folder in folders)} on {setting.device}"
    setting.require_gpu(text)
    return text


def write_to_device(gpu: Gpu, values: Array, stream: core.Stream) -> core.Buffer:
    """Return device memory with values, copied before this returns."""
    pinned = gpu.allocate_pinned(values.shape, values.dtype)
    np.copyto(pinned.array, values)
    memory = gpu.allocate_memory(values.nbytes, stream)
    memory.copy_from(pinned.buffer, stream=stream)
    stream.sync()
    pinned.close()
    return memory


def read_back(gpu: Gpu, memory: core.Buffer, like: Array, stream: core.Stream) -> Array:
    """Return what is in device memory after the work on a stream, with the shape and dtype of `like`."""
    pinned = gpu.allocate_pinned(like.shape, like.dtype)
    pinned.buffer.copy_from(memory, stream=stream)
    stream.sync()
    values: Array = pinned.array.copy()
    pinned.close()
    return values


def _require_equal(found: Array, right: Array, what: str) -> None:
    """Raise BackendError unless all bits are equal."""
    different = int((found.view(np.uint8) != right.view(np.uint8)).sum()) if found.shape == right.shape else found.size
    if found.dtype != right.dtype or different:
        raise BackendError(f"{what}: {different} bytes of {right.nbytes} differ between the device and the host")


CHECKS = (
    Check("the GPU answers", report_gpu, 30),
    Check("the CUDA sources compile with NVRTC", compile_sources, 60),
    Check("the device draws what the host draws", compare_draws, 60),
    Check("the device makes the pictures of the host", compare_pictures, 60),
    Check("streams, events and a CUDA graph", order_streams, 30),
    Check("DLPack to and from torch", share_with_torch, 60),
    Check("PyTorch keeps the contract", check_pytorch, 90),
)
