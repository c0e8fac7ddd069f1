"""`ganrt transform`: pictures through an image-to-image model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ganrt.cli.engines import load_generator
from ganrt.cli.options import FILE, bundle_argument, loading_options, overwrite_option
from ganrt.cli.terminal import log
from ganrt.cli.video_job import VIDEO_SUFFIXES, accept_videos
from ganrt.photos import MAX_PIXELS
from ganrt.wording import count_things


@click.command()
@bundle_argument
@click.argument("sources", metavar="IMAGE|FOLDER|VIDEO ...", nargs=-1, required=True, type=FILE)
@click.option(
    "--out",
    required=True,
    type=FILE,
    metavar="FILE|FOLDER",
    help="The file to write, for one picture or video; else a folder, which keeps the structure of source folders.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["png", "jpeg", "webp", "avif", "tiff"]),
    show_default="that of each picture; png for others",
    help="Format to write.",
)
@click.option("--quality", type=int, show_default="JPEG 95, AVIF 90, WebP lossless", help="1 to 100.")
@click.option("--suffix", default="", show_default="nothing", metavar="TEXT", help="Text to append to names: _4x.")
@click.option("--depth", type=int, default=8, help="Bits of a value of 16-bit files: 8 or 16.")
@click.option(
    "--max-side", type=int, metavar="PIXELS", show_default="as they are", help="Reduce pictures to this longer side."
)
@click.option(
    "--max-pixels", type=int, default=MAX_PIXELS, metavar="NUMBER", help="Reject pictures with more; all frames count."
)
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
@click.option(
    "--seed",
    default=0,
    help="Seed of the latents and classes that a model takes beside pictures; picture k gets its sample k.",
)
@click.option("--labels", type=int, show_default="drawn from the seed", metavar="CLASS", help="Class number.")
@click.option("--skip-existing", is_flag=True, help="Leave files that exist as they are.")
@click.option("--keep-going", is_flag=True, help="Continue after a picture that fails; the exit code is then 1.")
@loading_options
@overwrite_option
@accept_videos
def transform(bundle: Path | str, sources: tuple[Path, ...], out: Path, **options: Any) -> None:
    """Run pictures or a video through an image-to-image model.

    Opacity, EXIF data, resolution and frames are kept, color profiles and orientation are applied. The same command
    continues where it was stopped.
    """
    from ganrt.cli.picture_job import Existing, PictureJob
    from ganrt.cli.picture_options import PictureOptions
    from ganrt.cli.picture_tasks import count_skipped, plan_tasks

    existing = Existing(options.pop("overwrite"), options.pop("skip_existing"))
    keep_going = options.pop("keep_going")
    wanted = PictureOptions.take(options)
    tasks = plan_tasks(sources, out, wanted.form, wanted.suffix)
    wanted.check_quality(tasks)
    for folder in (source for source in sources if source.is_dir()):
        _report_skipped(folder, count_skipped(folder))
    with load_generator(bundle, **options) as generator:
        failures = PictureJob(generator, tasks, out, wanted).run(existing, keep_going)
    if failures:
        raise SystemExit(1)


def _report_skipped(folder: Path, skipped: Mapping[str, int]) -> None:
    """Say which files of a folder are not looked at: what `count_skipped` returns."""
    from ganrt.cli.picture_tasks import LINK_TO_FOLDER

    if skipped:
        kinds = ", ".join(f"{number} {ending or 'without ending'}" for ending, number in sorted(skipped.items()))
        advice = "; give each video by itself" if skipped.keys() & set(VIDEO_SUFFIXES) else ""
        advice += f"; give each {LINK_TO_FOLDER} as a source" if LINK_TO_FOLDER in skipped else ""
        log(f"{folder}: skipped {count_things(sum(skipped.values()), 'file')} of other kinds: {kinds}{advice}")
