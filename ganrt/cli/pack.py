"""The command `pack`."""

from __future__ import annotations

from pathlib import Path

import click

import ganrt
from ganrt.cli.options import FILE, bundle_argument, import_extra, overwrite_option
from ganrt.errors import RequestError


@click.command()
@bundle_argument
@click.option(
    "--out",
    required=True,
    type=FILE,
    metavar="BUNDLE",
    help="Folder to make, such as faces-int8.ganrt, or one file whose name ends in .zip.",
)
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="NAME",
    show_default="all",
    help="A variant to keep, such as int8-phases; repeatable.",
)
@click.option("--weights", is_flag=True, help="Keep the weights for the pytorch backend.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["ganrt", "ncnn"]),
    default="ganrt",
    show_default=True,
    help="ganrt: a bundle. ncnn: one variant as ncnn's two files, with a C++ example that makes the same pictures.",
)
@overwrite_option
def pack(bundle: Path | str, out: Path, variants: tuple[str, ...], weights: bool, form: str, overwrite: bool) -> None:
    """Pack a bundle for a device.

    Keeps the given variants with their proofs, and as many golden samples as a device needs to prove them. Leaves out
    weights, contact sheets and the other variants. `ganrt.load` and every command take the result like any bundle.
    """
    read = ganrt.Bundle.read(bundle)
    if form == "ncnn":
        _pack_for_ncnn(read, out, variants, weights, overwrite)
        return
    packed = ganrt.pack(read, out, variants=variants or None, weights=weights, overwrite=overwrite)
    sizes = [sum(digest.size for digest in made.files.values()) / 1e6 for made in (packed, read)]
    click.echo(f"{out}: {', '.join(packed.variants)}; {sizes[0]:.2f} MB of {sizes[1]:.2f} MB")


def _pack_for_ncnn(bundle: ganrt.Bundle, out: Path, variants: tuple[str, ...], weights: bool, overwrite: bool) -> None:
    if len(variants) > 1 or weights:
        raise RequestError("--format ncnn takes one --variant, and no --weights")
    ncnn_format = import_extra("ganrt.ncnn_format", "ncnn", "packing for ncnn")
    ncnn_format.pack_for_ncnn(bundle, out, variants[0] if variants else None, overwrite)
    size = sum(file.stat().st_size for file in out.iterdir()) / 1e6
    click.echo(f"{out}: {', '.join(sorted(file.name for file in out.iterdir()))}; {size:.2f} MB")
