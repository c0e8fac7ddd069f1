"""The kernels that draw inputs on a GPU give the words and values of `ganrt.latents`. The same source is compiled for
the CPU, so this needs no GPU."""

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.gpu import Start, start
from fakes.sessions import CLASSES, SPEC

import ganrt.gpu
from ganrt.feeds import draw_rows
from ganrt.images import to_uint8
from ganrt.latents import normal
from ganrt.levels import Levels, find_hull, find_levels
from ganrt.random_values import read_random_values
from ganrt.sample_request import Draw
from ganrt.spec import Label, Latent, Output, Scalar, Spec

__all__ = ["start"]
_PRELUDE = """
#include <cmath>
#include <cstring>
using std::copysign; using std::fabs; using std::fmin; using std::log; using std::sqrt;
#define __global__
#define __device__
#define __constant__
struct Index { unsigned int x; };
static Index blockIdx, threadIdx, blockDim;
static double __longlong_as_double(long long bits) { double value; std::memcpy(&value, &bits, 8); return value; }
"""
_TYPES = {
    np.uint64: ctypes.c_uint64,
    np.uint32: ctypes.c_uint32,
    np.float64: ctypes.c_double,
    np.float32: ctypes.c_float,
}
_NAMED = {ctypes.c_uint64: "u64", ctypes.c_uint32: "u32", ctypes.c_double: "double", ctypes.c_float: "float"}

Run = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The kernels as C++ functions, each with a loop over its threads."""
    compiler = shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler on this machine")
    folder = tmp_path_factory.mktemp("kernels")
    (folder / "kernels.cpp").write_text(_PRELUDE + SOURCE + PICTURES + LOOPS)
    made = folder / "kernels.so"
    flags = ["-O2", "-std=c++17", "-ffp-contract=off", "-Wall", "-Werror", "-Wno-unknown-pragmas", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, "-o", made, folder / "kernels.cpp"], check=True)
    return ctypes.CDLL(str(made))


SOURCE = read_random_values("__device__", "__constant__ double")
SOURCE += (Path(ganrt.gpu.__file__).parent / "latents.cu").read_text()
PICTURES = (Path(ganrt.gpu.__file__).parent / "pictures.cu").read_text()
SIGNATURES = {
    "ganrt_normal": ("float", "u64 a, u32 b, u32 c, u32 d, u32 e"),
    "ganrt_uniform": ("float", "u64 a, u32 b, u32 c, u32 d, double e, double f"),
    "ganrt_label_int64": ("long long", "u64 a, u32 b, u32 c, u32 d, u32 e"),
    "ganrt_label_int32": ("int", "u64 a, u32 b, u32 c, u32 d, u32 e"),
    "ganrt_label_one_hot": ("float", "u64 a, u32 b, u32 c, u32 d, u32 e"),
    "ganrt_fill": ("float", "u64 a, u32 b, u32 c"),
}
PICTURES_LOOP = """
extern "C" void run_ganrt_pictures(float *image, unsigned char *pictures, float *finiteness, u64 a, u32 b, u32 c,
                                   u32 d, u32 e, u32 f, float g, float h, float i) {
  blockDim.x = 1;
  threadIdx.x = 0;
  for (blockIdx.x = 0; blockIdx.x < a; blockIdx.x++)
    ganrt_pictures(image, pictures, finiteness, a, b, c, d, e, f, g, h, i);
}
"""
LOOPS = PICTURES_LOOP + "".join(
    f'extern "C" void run_{name}({kind} *out, u64 *table, unsigned int grid, unsigned int block, {arguments}) {{\n'
    f"  blockDim.x = block;\n  for (blockIdx.x = 0; blockIdx.x < grid; blockIdx.x++)\n"
    f"    for (threadIdx.x = 0; threadIdx.x < block; threadIdx.x++)\n"
    f"      {name}(out, table, {', '.join(part.split()[-1] for part in arguments.split(', '))});\n}}\n"
    for name, (kind, arguments) in SIGNATURES.items()
)


def run_kernel(
    library: ctypes.CDLL,
    kernel: str,
    out: np.ndarray,
    table: np.ndarray,
    grid: int,
    block: int,
    *arguments: np.generic,
) -> None:
    """Run a kernel with arguments of the given types, as a launch does."""
    values = [_TYPES[type(value)](value.item()) for value in arguments]
    found = [_NAMED[type(value)] for value in values]
    assert found == [part.split()[0] for part in SIGNATURES[kernel][1].split(", ")]
    function = getattr(library, f"run_{kernel}")
    function.restype = None
    buffers = (ctypes.c_void_p(out.ctypes.data), ctypes.c_void_p(table.ctypes.data))
    function(*buffers, ctypes.c_uint32(grid), ctypes.c_uint32(block), *values)


def draw_on_device(
    library: ctypes.CDLL, module: Any, spec: Spec, wish: Draw, dtypes: dict[str, Any]
) -> dict[str, np.ndarray]:
    """Draw all inputs with the launches of a session."""
    shapes = {name: array.shape for name, array in draw_rows(spec, wish).items()}
    plan = module.plan_draw(spec, wish, dtypes)
    assert plan.table.shape == (wish.rows, module.count_columns(spec)) and plan.table.flags.c_contiguous
    made = {}
    for name, (kernel, threads, arguments) in plan.launches.items():
        made[name] = np.full(shapes[name], 7, dtypes[name])
        run_kernel(library, kernel, made[name], plan.table, -(-threads // 128), 128, *arguments)
    return made


SCALED = Spec(
    "scaled",
    (
        Latent("z", (130,), truncation="scaled", default=0.5),
        Label("y", 1000, "index"),
        Scalar("truncation", (0.0, 2.0), 1.0),
    ),
    Output(3, (-1.0, 1.0), (4, 4)),
)


def make_draw(seed: int, first: int, rows: int, **others: Any) -> Draw:
    indices = np.arange(rows, dtype=np.uint64) + np.uint64(first)
    return Draw(np.full(rows, seed, np.uint64), indices, **others)


NAN = np.nan
MIXED = Draw(
    np.array([7, 2**64 - 1, 0, 2**40 + 7, 7, 7, 2**32, 2**63 + 1, 5], np.uint64),
    np.array([0, 2**64 - 1, 2**32 - 1, 3, 2**32, 0, 1, 2**63, 0], np.uint64),
    np.array([-1, 9, 0, -1, 3, 3, 9, -1, 5]),
    np.array([0.7, NAN, 0.0, 1.3, 0.7, NAN, 2.0, 1e-3, 0.5]),
)
"""A row for each of nine requests."""


@pytest.mark.parametrize("truncation", [None, 0.7, 1.3])
@pytest.mark.parametrize("start_at", [0, 2**32 - 3, 2**63])
@pytest.mark.parametrize("spec", [SPEC, CLASSES, SCALED], ids=lambda spec: spec.family)
def test_the_device_draws_what_the_host_draws(
    start: Start, library: ctypes.CDLL, spec: Spec, start_at: int, truncation: float | None
) -> None:
    limits = None if truncation is None or spec is CLASSES else np.full(9, truncation)  # CLASSES has none
    wish = make_draw(2**40 + 7, start_at, 9, truncation=limits)
    require_equal_draws(start, library, spec, wish)


@pytest.mark.parametrize("spec", [SPEC, CLASSES, SCALED], ids=lambda spec: spec.family)
def test_the_device_draws_rows_of_several_requests(start: Start, library: ctypes.CDLL, spec: Spec) -> None:
    require_equal_draws(start, library, spec, MIXED)


def require_equal_draws(start: Start, library: ctypes.CDLL, spec: Spec, wish: Draw) -> None:
    module = start().modules["ganrt.gpu.latents"]
    host = draw_rows(spec, wish)
    found = draw_on_device(library, module, spec, wish, {name: array.dtype for name, array in host.items()})
    assert set(found) == set(host)
    for name, array in host.items():
        assert np.array_equal(found[name], array), name


def test_labels_can_be_int32(start: Start, library: ctypes.CDLL) -> None:
    module = start().modules["ganrt.gpu.latents"]
    dtypes = {"z": np.dtype(np.float32), "y": np.dtype(np.int32), "truncation": np.dtype(np.float32)}
    for wish in (make_draw(3, 5, 40), MIXED):
        assert np.array_equal(draw_on_device(library, module, SCALED, wish, dtypes)["y"], draw_rows(SCALED, wish)["y"])


def test_only_the_first_label_can_be_chosen(start: Start, library: ctypes.CDLL) -> None:
    spec = Spec("two", (Label("y", 10), Label("style", 10)), Output(1, (0.0, 1.0), (4, 4)))
    require_equal_draws(start, library, spec, MIXED)


def test_a_million_values_are_equal_to_the_last_bit(library: ctypes.CDLL) -> None:
    """Tails included: one of a million is beyond 4.9 standard deviations."""
    rows, size = 64, 2**14
    out = np.empty((rows, size), np.float32)
    line = np.array([0.0, 1.0, 1.0]).view(np.uint64)
    table = np.array([[7, row, *line] for row in range(rows)], np.uint64)
    place = (np.uint64(rows), np.uint32(5), np.uint32(2), np.uint32(0), np.uint32(size))
    run_kernel(library, "ganrt_normal", out, table, rows * size // 4 // 128, 128, *place)
    assert np.array_equal(out, normal(7, 0, rows, 0, size)) and np.abs(out).max() > 4.5
    assert out[0, :4].tolist() == [np.float32(v) for v in ("1.6911626", "0.67496884", "-1.2046078", "-1.3679883")]


NORMALIZED = Output(3, (0.0, 1.0), None, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), order="bgr")


@pytest.mark.parametrize("levels", [(-1.0, 1.0), (0.0, 255.0), (-3.5, 0.25), find_levels(NORMALIZED)])
def test_the_device_makes_the_pictures_of_the_host(start: Start, library: ctypes.CDLL, levels: Levels) -> None:
    module = start().modules["ganrt.gpu.pictures"]
    low, high = find_hull(levels)
    images = np.random.default_rng(3).uniform(low - 0.1, high + 0.1, (3, 3, 5, 7)).astype(np.float32)
    halves = (low + (np.arange(255) + 0.5) * (high - low) / 255).astype(np.float32)
    images.reshape(-1)[:255] = halves
    pictures, finiteness = np.full((3, 5, 7, 3), 9, np.uint8), np.zeros(3, np.float32)

    def make() -> None:
        buffers = [ctypes.c_void_p(array.ctypes.data) for array in (images, pictures, finiteness)]
        for arguments in module.build_arguments(images.shape, levels):
            library.run_ganrt_pictures(*buffers, *(_TYPES[type(v)](v.item()) for v in arguments))

    make()
    assert np.array_equal(pictures, to_uint8(images, levels)) and not finiteness.any()
    images[1, 2, 3, 4] = np.nan
    images[2, 0, 0, 0] = -np.inf
    make()
    assert np.isfinite(finiteness).tolist() == [True, False, False]


def test_the_source_is_the_file_behind_the_coefficients(start: Start) -> None:
    assert start().modules["ganrt.gpu.latents"].read_source() == SOURCE


def test_nvrtc_compiles_the_source() -> None:
    """For an old and a new GPU that TensorRT 10 and 11 run on. NVRTC needs no GPU."""
    nvrtc: Any = pytest.importorskip("cuda.bindings.nvrtc", reason="NVRTC is not installed", exc_type=ImportError)
    for arch in ("sm_75", "sm_90"):
        made = nvrtc.nvrtcCreateProgram((SOURCE + PICTURES).encode(), b"latents.cu", 0, [], [])
        try:
            error, program = made
        except ValueError:
            pytest.skip("NVRTC does not start here")
        options = [b"--std=c++17", f"--gpu-architecture={arch}".encode(), b"--fmad=false"]
        (error,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        _, size = nvrtc.nvrtcGetProgramLogSize(program)
        log = bytes(size + 64)  # NVRTC writes into it, and Python shares short ones
        nvrtc.nvrtcGetProgramLog(program, log)
        assert error == nvrtc.nvrtcResult.NVRTC_SUCCESS, log.decode()
        _, size = nvrtc.nvrtcGetCUBINSize(program)
        assert size > 1000
