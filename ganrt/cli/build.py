"""`ganrt build`: engines for NVIDIA GPUs ahead of the first request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

import ganrt
from ganrt.atomic import check_output
from ganrt.backend import import_backend
from ganrt.bundle import Bundle
from ganrt.cli.engines import choose_variant, make_engine_options
from ganrt.cli.options import (
    FILE,
    bundle_argument,
    device_option,
    engine_options,
    import_extra,
    overwrite_option,
    variant_option,
)
from ganrt.cli.terminal import show_progress
from ganrt.errors import MachineError, RequestError
from ganrt.gpu import engine_cache
from ganrt.images import parse_size
from ganrt.machine import has_nvidia_gpu, parse_device
from ganrt.spec import Spec

_ONLY_TENSORRT = {
    "ranged": ("--ranged", "it is compiled for each batch size"),
    "optimization_level": ("--optimization-level", "it is compiled without timing kernels"),
    "workspace_mib": ("--workspace", "it is compiled without timing kernels"),
    "version_compatible": ("--version-compatible", "an engine runs on one version of the library"),
    "hardware_compatible": ("--hardware", "--target names the GPUs"),
    "refittable": ("--refit", "it is compiled in seconds"),
    "stripped": ("--strip", "it is compiled in seconds"),
}
"""Options that TensorRT for RTX has no use for, and why."""


@click.command()
@bundle_argument
@click.option(
    "--backend",
    default="tensorrt",
    type=click.Choice(["tensorrt", "tensorrt-rtx"]),
    help="Backend to build an engine for.",
)
@click.option("--precision", default="fp32", help="Precision of the variant to build: fp32, fp16, int8 or fp8.")
@variant_option
@device_option
@engine_options
@click.option(
    "--target",
    "targets",
    metavar="LIST",
    show_default="the GPU of this machine, else sm86,sm89,sm120",
    help="GPUs to compile for, separated by commas; tensorrt-rtx only.",
)
@click.option("--out", type=FILE, metavar="FILE.plan", help="Also write the engine to a file, for another machine.")
@overwrite_option
@click.option("--rebuild", is_flag=True, help="Build the engine even if the cache has it.")
def build(
    bundle: Path | str,
    backend: str,
    precision: str,
    variant: str | None,
    device: str,
    out: Path | None,
    rebuild: bool,
    overwrite: bool,
    **wanted: Any,
) -> None:
    """Build an engine ahead of the first request.

    TensorRT builds it for the GPU of this machine and verifies it on the bundle's golden samples. TensorRT for RTX
    compiles it on any machine, for the GPUs named by --target; on a machine with such a GPU it is verified too. Engines
    are kept in this machine's engine cache.
    """
    if out is not None:
        check_output(out, overwrite)
    _check_options(backend, device)
    engines = import_extra("ganrt.export.engines", backend, "building engines")
    read = ganrt.Bundle.read(bundle)
    name = variant or choose_variant(read, precision, backend)
    wanted |= {
        "size": _parse_size(read.spec, wanted["size"]),
        "batches": tuple(sorted(set(wanted["batches"]))) or (1, 8, 32),
        "targets": None if wanted["targets"] is None else tuple(map(str.strip, wanted["targets"].split(","))),
    }
    options = make_engine_options(backend, device, **wanted)
    with show_progress(f"building {name}") as progress:
        engine = engines.build(read, variant=name, options=options, device=device, rebuild=rebuild, progress=progress)
    if out is not None:
        sidecar = engine_cache.write_copy(engine, engine_cache.read_plan(engine), out)
        click.echo(
            f"{out}: a copy, described in {sidecar.name}; load it with "
            f'ganrt.load({str(bundle)!r}, "{backend}", variant="{name}", engine={str(out)!r}, '
            f'sha256="{engine.sha256}")'
        )
    click.echo(_prove_engine(engine, read, bundle, name, device))


def _parse_size(spec: Spec, text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    if all(item.size is not None for item in spec.images):
        raise RequestError("--size is for models that take pictures of any size, and this one does not: leave it out")
    return parse_size(text)


def _check_options(backend: str, device: str) -> None:
    """Raise RequestError for options that the backend has no use for, MachineError for the CPU."""
    if parse_device(device)[0] == "cpu":
        raise MachineError("engines are built for NVIDIA GPUs; the CPU was asked for")
    given = click.get_current_context().get_parameter_source
    if backend == "tensorrt" and given("targets") is ParameterSource.COMMANDLINE:
        raise RequestError("--target is for tensorrt-rtx; tensorrt builds for the GPU of this machine: leave it out")
    for parameter, (option, reason) in _ONLY_TENSORRT.items() if backend == "tensorrt-rtx" else ():
        if given(parameter) is ParameterSource.COMMANDLINE:
            raise RequestError(f"{option} has no meaning for tensorrt-rtx, because {reason}; leave it out")


def _prove_engine(engine: engine_cache.Engine, read: Bundle, bundle: Path | str, variant: str, device: str) -> str:
    """Load the engine, which proves it, if this machine has a GPU that it runs on; return what to report."""
    targets = engine.key.options.get("targets")
    shares = ", ".join(f"{precision} {share:.0%}" for precision, share in engine.notes["computed in"].items())
    computed_in = shares or "the types of the graph"
    built = f"{engine.path}: {variant}" + (f" for {', '.join(targets)}" if targets else "")
    if Bundle.GOLDEN not in read.files:
        return f"{built}, in {computed_in}; built, and never proven: a bare ONNX file has no golden samples"
    if targets and not (has_nvidia_gpu() and _runs_here(engine, device)):
        return f"{built}, in {computed_in}; built, not proven: the first load on such a GPU proves it"
    with ganrt.load(bundle, engine.key.machine.backend, device=device, variant=variant) as generator:
        return f"{built} in {generator.session.details['computed in']}, proven on {generator.session.details['gpu']}"


def _runs_here(engine: engine_cache.Engine, device: str) -> bool:
    import_backend("tensorrt-rtx")
    from ganrt.gpu import Gpu, load_tensorrt_rtx

    gpu = Gpu(parse_device(device)[1])
    machine = load_tensorrt_rtx().describe_machine(gpu.name, gpu.capability)
    return engine_cache.explain_misfit(engine.key, machine) is None
