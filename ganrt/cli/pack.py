"""The command `pack`."""

from __future__ import annotations

from pathlib import Path

import click

import ganrt
from ganrt.cli.options import FILE, bundle_argument, overwrite_option


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
@overwrite_option
def pack(bundle: Path | str, out: Path, variants: tuple[str, ...], weights: bool, overwrite: bool) -> None:
    """Pack a bundle for a device.

    Keeps the given variants with their proofs, and as many golden samples as a device needs to prove them. Leaves out
    weights, contact sheets and the other variants. `ganrt.load` and every command take the result like any bundle.
    """
    read = ganrt.Bundle.read(bundle)
    packed = ganrt.pack(read, out, variants=variants or None, weights=weights, overwrite=overwrite)
    sizes = [sum(digest.size for digest in made.files.values()) / 1e6 for made in (packed, read)]
    click.echo(f"{out}: {', '.join(packed.variants)}; {sizes[0]:.2f} MB of {sizes[1]:.2f} MB")
