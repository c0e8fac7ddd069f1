"""Commands that turn a checkpoint into something proven: `export` and `verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ganrt.cli.options import (
    FILE,
    bundle_argument,
    config_option,
    device_option,
    export_options,
    import_extra,
    overwrite_option,
)
from ganrt.cli.parsing import parse_decibels, parse_numbers, parse_settings
from ganrt.cli.terminal import log, print_proofs
from ganrt.errors import VerificationError

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
def verify(bundle: Path | str, backends: tuple[str, ...], device: str) -> None:
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
