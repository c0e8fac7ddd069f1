"""Commands that make pictures: `sample`, `transform`, `stylize`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ganrt.atomic import check_output, write_file
from ganrt.cli.engines import load_generator
from ganrt.cli.options import (
    FILE,
    bundle_argument,
    device_option,
    import_extra,
    loading_options,
    overwrite_option,
)
from ganrt.cli.parsing import parse_numbers, parse_settings, parse_values
from ganrt.cli.terminal import show_progress
from ganrt.errors import RequestError
from ganrt.images import encode_png

_COUNT = 64
"""Pictures by default."""


@click.command()
@bundle_argument
@click.option(
    "-n", "count", type=int, show_default=f"as many as values are given, else {_COUNT}", help="Number of pictures."
)
@click.option(
    "--seed",
    default="0",
    metavar="SEEDS",
    help="Seed, 0 to 2^64 - 1; this and the next three options take one value, or one per picture separated by commas.",
)
@click.option(
    "--start", default="0", metavar="INDICES", help="Index of the first sample of the seed, or that of each picture."
)
@click.option(
    "--labels",
    show_default="drawn from the seed",
    metavar="CLASSES",
    help="Class number.",
)
@click.option(
    "--truncation",
    show_default="the model's own",
    metavar="NUMBERS",
    help="Truncation of the latent; for a resampled one, the largest magnitude of its values.",
)
@click.option("--out", required=True, type=FILE, help="FILE.png for one grid, FILE.npz for an array, or a folder.")
@loading_options
@overwrite_option
def sample(
    bundle: Path | str,
    count: int | None,
    seed: str,
    start: str,
    labels: str | None,
    truncation: str | None,
    out: Path,
    overwrite: bool,
    **loading: Any,
) -> None:
    """Generate pictures from a seed.

    Picture k is sample START + k of the seed: the same one at every batch size and on every machine. With a seed per
    picture, it is sample START of the seed. What was drawn is kept in the files.
    """
    from ganrt.cli.saving import save_pictures

    asked = {"seed": seed, "start": start, "labels": labels, "truncation": truncation}
    values: dict[str, Any] = {
        name: parse_values(text, f"--{name}", float if name == "truncation" else int) for name, text in asked.items()
    }
    if count is None and not any(isinstance(value, list) for value in values.values()):
        count = _COUNT
    with load_generator(bundle, **loading) as generator:
        batches, draw = generator.stream(count, **values), generator.draw(count, **values)
        request = {"n": str(draw.rows), **{name: text for name, text in asked.items() if text is not None}}
        save_pictures(batches, out, draw, request, generator.info.digest or "", overwrite)
        click.echo(f"{draw.rows} pictures by {generator.session.backend} ({generator.session.device}) in {out}")


@click.command()
@bundle_argument
@click.argument("photos", metavar="IMAGE ...", nargs=-1, required=True, type=FILE)
@click.option("--out", required=True, type=FILE, metavar="FOLDER", help="Folder that gets NAME.png for each NAME.*.")
@click.option(
    "--input",
    "files",
    multiple=True,
    metavar="NAME=PATH",
    help="A further picture that the model takes, such as style=painting.jpg; repeatable.",
)
@click.option(
    "--set",
    "values",
    multiple=True,
    metavar="NAME=VALUE",
    show_default="the model's own values",
    help="A number that the model takes, such as strength=0.7; repeatable.",
)
@click.option(
    "--tile",
    type=int,
    show_default="tiles for large pictures only",
    metavar="PIXELS",
    help="Side of the overlapping tiles a picture is cut into; 0 for none.",
)
@click.option("--seed", default=0, help="Seed of the latents and classes that a model takes beside pictures.")
@click.option("--labels", type=int, show_default="drawn from the seed", metavar="CLASS", help="Class number.")
@loading_options
@overwrite_option
def transform(
    bundle: Path | str,
    photos: tuple[Path, ...],
    out: Path,
    files: tuple[str, ...],
    values: tuple[str, ...],
    tile: int | None,
    seed: int,
    labels: int | None,
    overwrite: bool,
    **loading: Any,
) -> None:
    """Run pictures through an image-to-image model."""
    from ganrt.cli.saving import check_targets, save_each

    further = {name: Path(path) for name, path in parse_settings(files, "--input").items()}
    inputs = {**further, **parse_numbers(values, "--set")}
    check_targets(photos, out, overwrite)
    with load_generator(bundle, **loading) as generator:
        run = generator.transform
        save_each(photos, out, lambda photo: run(photo, tile=tile, seed=seed, labels=labels, **inputs))
        click.echo(f"{len(photos)} pictures by {generator.session.backend} ({generator.session.device}) in {out}")


@click.command()
@click.argument("content", type=FILE)
@click.argument("style", type=FILE)
@click.option("--out", required=True, type=FILE, metavar="FILE", help="PNG file to write.")
@click.option("--steps", default=200, help="Evaluations of the loss.")
@click.option("--size", default=512, metavar="PIXELS", help="Longer side of the result; smaller pictures keep theirs.")
@click.option("--style-weight", default=100.0, help="Weight of the style; the content has weight 1.")
@click.option(
    "--weights",
    type=FILE,
    show_default="features that need no download",
    metavar="FILE",
    help="Checkpoint of torchvision's VGG-16 or VGG-19, which gives the paper's result.",
)
@click.option(
    "--seed", type=int, show_default="start from the content", help="Start from random noise of this seed instead."
)
@device_option
@overwrite_option
def stylize(content: Path, style: Path, out: Path, weights: Path | None, overwrite: bool, **settings: Any) -> None:
    """Paint a picture in the style of another.

    Optimizes the pixels of CONTENT until it has the colors and textures of STYLE (Gatys et al. 2016). It needs no
    bundle and takes minutes; to stylize many pictures, train a network with `ganrt train transformer_net`.
    """
    if out.suffix != ".png":
        raise RequestError(f"{out} must end in .png")
    check_output(out, overwrite)
    training = import_extra("ganrt.training", "train", "style transfer")
    with show_progress(f"stylizing {content}", every=0.1) as progress:
        picture = training.stylize(content, style, weights=weights or "", progress=progress, **settings)
    write_file(out, encode_png(picture))
    click.echo(f"{content} in the style of {style}: {out}, {picture.shape[1]} x {picture.shape[0]} pixels")
