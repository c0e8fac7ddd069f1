"""What the steps on a GPU machine do with engines of NVIDIA's two libraries: build, read, prove, capture, measure."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

from ganrt.atomic import write_file
from ganrt.backend import open_session
from ganrt.bundle import Bundle
from ganrt.errors import MachineError
from ganrt.session_config import SessionConfig

from .. import clock
from .bundles import SPEED, find_bundle
from .runner import Setting
from .session_checks import (
    BATCHES,
    check_contract,
    check_graphs,
    draw_inputs,
    measure_variant,
    prove_variant,
    read_bundle,
    run_each,
    share_pictures,
)

if TYPE_CHECKING:
    import tensorrt as trt

    from ganrt.gpu import Gpu, Library, LoadedEngine

_SIZE = "128x128"
"""Of pictures; engines take those of the golden samples too."""
_PRECISIONS = ("fp32", "fp16", "int8")


def build_variant(setting: Setting, backend: str, name: str, variant: str, *options: str) -> str:
    """Build an engine for each batch size with `ganrt build`, which proves it where it runs.

    Returns what it reports, and the seconds. Raises MachineError with its error.
    """
    folder = find_bundle(setting.bundles, name)
    shapes = [text for batch in BATCHES for text in ("--batch", str(batch))]
    if Bundle.read(folder).spec.images:
        shapes += ["--size", _SIZE]
    command = ["build", str(folder), "--backend", backend, "--variant", variant, *shapes, *options]
    started = clock.now_ns()
    code, output, errors = run_ganrt(*command)
    if code:
        raise MachineError(f"{name}, {variant}: {errors}")
    path, _, report = output.partition(": ")
    return f"{name}, {report or path} ({(clock.now_ns() - started) / 1e9:.1f} s)"


def run_ganrt(*arguments: str) -> tuple[int, str, str]:
    """Run a command of ganrt. Returns its exit code, standard output, and its error or last line of standard error."""
    done = subprocess.run([sys.executable, "-m", "ganrt", *arguments], capture_output=True, text=True, check=False)
    if done.returncode < 0:
        return done.returncode, done.stdout.strip(), f"it was killed by {signal.Signals(-done.returncode).name}"
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return done.returncode, done.stdout.strip(), (errors or lines)[-1]


def choose_variants(bundle: Bundle, precision: str, backend: str) -> list[str]:
    """Return the variants of a precision that engines are built of: all forms in float16, else the first choice for a
    GPU."""
    from ganrt.gpu import list_engine_variants

    names = list_engine_variants(bundle, precision, backend)
    return names if precision == "fp16" else names[:1]


def list_variants(setting: Setting, backend: str) -> list[str]:
    """Return the variants of the bundle for throughput that engines are built of."""
    bundle = read_bundle(setting)
    return [name for precision in _PRECISIONS for name in choose_variants(bundle, precision, backend)]


def inspect_engines(setting: Setting, backend: str) -> str:
    """Deserialize the engines, and keep the inspector's JSON in BACKEND-VARIANT.json beside the results."""
    variants = list_variants(setting, backend)
    setting.require_gpu(", ".join(variants))
    from ganrt.gpu import Gpu

    library, gpu = load_library(backend), Gpu(0)
    return run_each(partial(_inspect_engine, setting, library, gpu), variants)


def load_library(backend: str) -> Library:
    """Return the library of a backend."""
    from ganrt.gpu import load_tensorrt, load_tensorrt_rtx

    return load_tensorrt_rtx() if backend == "tensorrt-rtx" else load_tensorrt()


def _inspect_engine(setting: Setting, library: Library, gpu: Gpu, variant: str) -> str:
    from ganrt.gpu import load_cached_engine

    started = clock.now_ns()
    loaded: LoadedEngine = load_cached_engine(library, read_bundle(setting), variant, gpu)
    milliseconds = (clock.now_ns() - started) / 1e6
    lib = library.trt
    inspector: trt.EngineInspector = loaded.engine.create_engine_inspector()
    text = str(inspector.get_engine_information(lib.LayerInformationFormat.JSON))
    file = setting.results / f"{library.backend}-{variant}.json"
    write_file(file, text.encode())
    return f"{variant} loaded in {milliseconds:.0f} ms, {file.name} has {len(text)} characters"


def prove_engines(setting: Setting, backend: str) -> str:
    """Every engine makes the images of the original."""
    variants = list_variants(setting, backend)
    setting.require_gpu(", ".join(variants))
    return run_each(partial(prove_variant, setting, backend, SPEED), variants)


def capture_graphs(setting: Setting, backend: str) -> str:
    """The work of every engine and batch size is captured as a CUDA graph, whose replay makes the same images."""
    variants = list_variants(setting, backend)
    setting.require_gpu(", ".join(variants))
    return run_each(partial(check_graphs, setting, backend), variants)


def keep_contract(setting: Setting, backend: str, name: str) -> str:
    """The backend keeps the contract of a session."""
    variant = read_bundle(setting, name).in_precision("fp32", gpu=True)[0]
    setting.require_gpu(variant)
    return check_contract(setting, backend, name, variant)


def share_with_torch(setting: Setting, backend: str) -> str:
    """Pictures and latents are shared with torch on the GPU."""
    variant = read_bundle(setting).in_precision("fp16", gpu=True)[0]
    setting.require_gpu(variant)
    return share_pictures(setting, backend, variant)


def time_start(setting: Setting, backend: str, kernels: bool) -> str:
    """Time from a plan on disk to the first batch.

    Args:
        kernels: whether TensorRT for RTX finds the kernels that it compiled before.
    """
    bundle, variant = read_bundle(setting), list_variants(setting, backend)[1]
    setting.require_gpu(variant)
    from ganrt.gpu import Gpu, engine_cache

    os.environ["CUDA_CACHE_DISABLE"] = str(int(not kernels))  # the driver keeps kernels too; read when CUDA starts
    library, gpu = load_library(backend), Gpu(0)
    machine = library.describe_machine(gpu.name, gpu.capability)
    engine = engine_cache.find_engine(bundle.digest(variant), machine)
    file = engine_cache.find_kernels(engine.sha256, machine)
    if not kernels:
        file.unlink(missing_ok=True)
    inputs, started = draw_inputs(bundle, 1), clock.now_ns()
    with open_session(bundle, SessionConfig(backend, variant, setting.device)) as session:
        opened = clock.now_ns()
        session.submit(inputs).wait()
        first = clock.now_ns()
    kept = f"{file.stat().st_size} bytes of kernels" if file.is_file() else "no kernels kept"
    return (
        f"{variant}: opened in {(opened - started) / 1e6:.0f} ms, first batch {(first - opened) / 1e6:.0f} ms, {kept}"
    )


def measure_engines(setting: Setting, backend: str) -> str:
    """Images per second of every engine and batch size."""
    variants = list_variants(setting, backend)
    setting.require_gpu(", ".join(variants))
    return run_each(partial(measure_variant, setting, backend), variants)
