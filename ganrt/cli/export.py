"""Commands that turn a generator into something proven: `export` and `verify`; and `spec`, what an ONNX file takes."""

from __future__ import annotations

import json
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
from ganrt.errors import ArtifactError, BundleError, VerificationError
from ganrt.json_reader import read_json
from ganrt.spec import Spec

_LARGEST_SPEC = 2**20
"""Bytes."""

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
@click.option(
    "--spec",
    "described",
    type=FILE,
    metavar="FILE.json",
    show_default="guessed",
    help="Inputs and output of an ONNX file, as `ganrt spec` prints them.",
)
@overwrite_option
def export(
    source: str,
    out: Path,
    precision: str,
    form: str,
    quality: str,
    config: tuple[str, ...],
    described: Path | None,
    **chosen: Any,
) -> None:
    """Export a trained generator as a verified bundle.

    Every variant is compared with the original on every installed backend. A backend that cannot run a variant,
    or makes other images with it, is listed as refused, and `ganrt.load` does not use it. Exits with code 1 when no
    backend makes the original's images with a variant, or when one that was named with --backend does not.

    SOURCE is a RUN folder of `ganrt train`, a checkpoint of a known family (.safetensors, .pth, .pt), a network for
    ncnn (.param and .bin, either one), an ONNX file in float32, or package.module:factory, a function that returns a
    torch.nn.Module and a ganrt.Spec.
    """
    exporter = import_extra("ganrt.export.exporter", "export", "exporting")
    chosen["bind"] = parse_numbers(chosen["bind"], "--bind")
    chosen |= {"precisions": precision.split(","), "forms": form.split(","), "quality": parse_decibels(quality)}
    spec = None if described is None else _read_spec(described)
    bundle = exporter.export(source, out, spec=spec, config=parse_settings(config), progress=log, **chosen)
    for name, variant in bundle.variants.items():
        print_proofs(f"{out}: {name}", variant.proofs)


def _read_spec(path: Path) -> Spec:
    """The Spec in a JSON file. Raises ArtifactError, naming the field that is wrong."""
    try:
        return Spec.from_dict(read_json(path, _LARGEST_SPEC, ArtifactError))
    except BundleError as error:
        raise ArtifactError(f"{path}: {error}") from error


@click.command()
@click.argument("file", type=FILE, metavar="FILE.onnx")
@click.option("--output", metavar="NAME", show_default="the only one with four dimensions", help="Name of the image.")
def spec(file: Path, output: str | None) -> None:
    """Print what an ONNX file takes and makes.

    The JSON is for `ganrt export --spec`. What the file does not tell, such as the range of its pictures, is guessed,
    and the guesses are listed on standard error. Correct the JSON where they are wrong.
    """
    sources = import_extra("ganrt.export.sources", "export", "reading ONNX files")
    guess = sources.guess_spec(sources.read_graph_file(file), output)
    for remark in guess.remarks:
        log(f"guessed: {remark}")
    click.echo(json.dumps(guess.spec.to_dict(), indent=2))


@click.command()
@bundle_argument
@_named_backends_option
@device_option
def verify(bundle: Path | str, backends: tuple[str, ...], device: str) -> None:
    """Compare every variant with the original.

    Runs each variant on the bundle's golden samples and writes the result into the bundle. Exits with code 1 when no
    backend reproduces the original's images with a variant, or when one that was named with --backend does not.
    """
    exporter = import_extra("ganrt.export.verification", "export", "verifying")
    found = exporter.verify(bundle, backends=backends or None, device=device, progress=log)
    for name, proofs in found.proofs.items():
        print_proofs(f"{bundle}: {name}", proofs)
    if found.failures:
        raise VerificationError(f"{bundle} failed: {found.failures[0]}")
