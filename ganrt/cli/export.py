"""Commands that turn a checkpoint into something proven: `export`, `verify`, `build`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import ganrt
from ganrt.cli.options import (
    FILE,
    bundle_argument,
    config_option,
    device_option,
    engine_options,
    export_options,
    import_extra,
    overwrite_option,
    variant_option,
)
from ganrt.cli.parsing import parse_decibels, parse_numbers, parse_settings
from ganrt.cli.terminal import log, print_proofs, show_progress
from ganrt.errors import VerificationError
from ganrt.images import parse_size

_named_backends_option = click.option(
    "--backend",
    "backends",
    multiple=True,
    metavar="NAME",
    show_default="all that run here, each of which may be refused",
    help="A backend that must make the original's images; repeatable.",
)


@click.command()
@click.argument("source")
@click.option("--out", required=True, type=FILE, metavar="BUNDLE", help="Bundle to create, such as faces.ganrt.")
@export_options
@_named_backends_option
@config_option
@overwrite_option
def export(
    source: str, out: Path, precision: str, form: str, quality: str, config: tuple[str, ...], **chosen: Any
) -> None:
    """Export a trained generator as a verified bundle.

    Every variant is compared with the PyTorch original on every installed backend. A backend that cannot run a variant,
    or makes other images with it, is listed as refused, and `ganrt.load` does not use it. Exits with code 1 when no
    backend makes the original's images with a variant, or when one that was named with --backend does not.

    SOURCE is a RUN folder of `ganrt train`, a checkpoint of a known family (.safetensors, .pth, .pt), or
    package.module:factory, a function that returns a torch.nn.Module and a ganrt.Spec.
    """
    exporter = import_extra("ganrt.export.exporter", "export", "exporting")
    chosen["bind"] = parse_numbers(chosen["bind"], "--bind")
    chosen |= {"precisions": precision.split(","), "forms": form.split(","), "quality": parse_decibels(quality)}
    bundle = exporter.export(source, out, config=parse_settings(config), progress=log, **chosen)
    for name, variant in bundle.variants.items():
        print_proofs(f"{out}: {name}", variant.proofs)


@click.command()
@bundle_argument
@_named_backends_option
@device_option
def verify(bundle: Path, backends: tuple[str, ...], device: str) -> None:
    """Compare every variant with the PyTorch original.

    Runs each variant on the bundle's golden samples and writes the result into the bundle. Exits with code 1 when no
    backend reproduces the original's images with a variant, or when one that was named with --backend does not.
    """
    exporter = import_extra("ganrt.export.verification", "export", "verifying")
    found = exporter.verify(bundle, backends=backends or None, device=device, progress=log)
    for name, proofs in found.proofs.items():
        print_proofs(f"{bundle}: {name}", proofs)
    if found.failures:
        raise VerificationError(f"{bundle} failed: {found.failures[0]}")


@click.command()
@bundle_argument
@click.option("--backend", default="tensorrt", type=click.Choice(["tensorrt"]), help="Backend to build an engine for.")
@click.option("--precision", default="fp32", help="Precision of the variant to build: fp32, fp16 or int8.")
@variant_option
@device_option
@engine_options
@click.option("--rebuild", is_flag=True, help="Build the engine even if the cache has it.")
def build(
    bundle: Path, backend: str, precision: str, variant: str | None, device: str, rebuild: bool, **wanted: Any
) -> None:
    """Build a TensorRT engine ahead of the first request.

    Builds it for the GPU of this machine, verifies it on the bundle's golden samples and keeps it in the engine cache.
    """
    engines = import_extra("ganrt.export.engines", "tensorrt", "building engines")
    read = ganrt.Bundle.read(bundle)
    name = variant or read.in_precision(precision)[0]
    wanted |= {
        "size": parse_size(wanted["size"]) if wanted["size"] else None,
        "batches": tuple(sorted(set(wanted["batches"]))) or (1, 8, 32),
    }
    with show_progress(f"building {name}") as progress:
        options = engines.EngineOptions(**wanted)
        engine = engines.build(read, variant=name, options=options, device=device, rebuild=rebuild, progress=progress)
    with ganrt.load(bundle, backend, device=device, variant=name) as generator:
        shares = generator.session.details["computed in"]
    click.echo(f"{engine.path}: {name} in {shares}, proven on {engine.key.machine.gpu}")
