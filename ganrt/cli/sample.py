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
from ganrt.cli.parsing import parse_values
from ganrt.cli.sample_values import COUNT, choose_rows
from ganrt.cli.terminal import show_progress
from ganrt.errors import RequestError
from ganrt.feeds import require_no_pictures
from ganrt.images import encode_png
from ganrt.sample_request import check_request
from ganrt.shards import FORMATS
from ganrt.wording import count_things


@click.command()
@bundle_argument
@click.option(
    "-n", "count", type=int, show_default=f"as many as values are given, else {COUNT}", help="Number of pictures."
)
@click.option(
    "--seed",
    default="0",
    metavar="SEEDS",
    help="Seed, 0 to 2^64 - 1; this and the next three options take one value, or one per picture: separated by "
    "commas, a range such as 0-9, or @FILE with the values.",
)
@click.option(
    "--start", default="0", metavar="INDICES", help="Index of the first sample of the seed, or that of each picture."
)
@click.option(
    "--labels",
    show_default="drawn from the seed",
    metavar="CLASSES",
    help="Class number; several are repeated if -n is larger.",
)
@click.option(
    "--truncation",
    show_default="the model's own",
    metavar="NUMBERS",
    help="Truncation of the latent; for a resampled one, the largest magnitude of its values.",
)
@click.option("--each-class", type=int, metavar="K", show_default="classes as above", help="K pictures of every class.")
@click.option(
    "--out",
    required=True,
    type=FILE,
    help="FILE.png for one grid, FILE.npz for an array, or a folder: the same command continues where it was stopped.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    show_default="a folder of PNG files",
    help="Write the folder in shards of many pictures.",
)
@click.option("--shard", "size", type=int, show_default="1000", metavar="NUMBER", help="Pictures in a shard.")
@loading_options
@overwrite_option
def sample(
    bundle: Path | str,
    count: int | None,
    each_class: int | None,
    out: Path,
    form: str | None,
    size: int | None,
    overwrite: bool,
    seed: str,
    start: str,
    labels: str | None,
    truncation: str | None,
    **loading: Any,
) -> None:
    """Generate pictures from a seed.

    Picture k is sample START + k of the seed: the same one at every batch size and on every machine. With a seed per
    picture, it is sample START of the seed. What was drawn is kept in the files.
    """
    from ganrt.cli.sample_job import ShardOptions, describe_values, run_job
    from ganrt.cli.saving import save_pictures

    asked = {"seed": seed, "start": start, "labels": labels, "truncation": truncation}
    values: dict[str, Any] = {
        name: parse_values(text, f"--{name}", float if name == "truncation" else int) for name, text in asked.items()
    }
    options = ShardOptions(form, size, overwrite)
    options.check(out)
    with load_generator(bundle, **loading) as generator:
        count, values["labels"] = choose_rows(generator.spec, count, values, each_class)
        if form is not None or not out.suffix:
            require_no_pictures(generator.spec)
            request = check_request(generator.spec, count, **values)
            described = {name: describe_values(text, values[name]) for name, text in asked.items()}
            click.echo(run_job(generator, request, out, options, {**described, "each-class": each_class}))
            return
        batches, draw = generator.stream(count, **values), generator.draw(count, **values)
        given = {name: str(text) for name, text in {**asked, "each-class": each_class}.items() if text is not None}
        save_pictures(batches, out, draw, {"n": str(draw.rows), **given}, generator.info.digest or "", overwrite)
        made = count_things(draw.rows, "picture")
        click.echo(f"{made} by {generator.session.backend} ({generator.session.device}) in {out}")


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
