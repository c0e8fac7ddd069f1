"""`ganrt transform` of a video."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from click.core import ParameterSource

from ganrt.checks import require_whole
from ganrt.cli.engines import load_generator
from ganrt.cli.model_inputs import ModelInputs
from ganrt.cli.options import import_extra
from ganrt.cli.stopping import watch_signals
from ganrt.cli.terminal import log, show_item_progress
from ganrt.errors import RequestError
from ganrt.images import Pictures
from ganrt.photos import Frame, ReadOptions
from ganrt.picture_inputs import LUMA
from ganrt.spec import Label, Spec
from ganrt.tiles import count_pixels_at_once
from ganrt.wording import count_things

if TYPE_CHECKING:
    from ganrt.generator import Generator
    from ganrt.video import VideoJob

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
"""Endings of videos, in lower case."""
_OPTIONS = {
    "codec": click.option(
        "--codec",
        metavar="NAME",
        show_default="libvpx-vp9 for .webm, libx264 for others",
        help="Encoder of a video: libx264, libx265, libvpx-vp9, libsvtav1, or ffv1, which is lossless.",
    ),
    "crf": click.option(
        "--crf",
        type=int,
        metavar="NUMBER",
        show_default="libx264 17, libx265 20, others 24",
        help="Constant rate factor of a video: lower is better and larger.",
    ),
    "start": click.option(
        "--start",
        metavar="TIME",
        show_default="its beginning",
        help="First time of a video, as seconds or H:MM:SS.mmm.",
    ),
    "end": click.option("--end", metavar="TIME", show_default="its end", help="Time before which a video ends."),
    "batch_frames": click.option(
        "--batch-frames",
        type=int,
        metavar="NUMBER",
        show_default="by their size",
        help="Frames of a video that are computed at a time.",
    ),
}
"""Name of a value -> its option, of those that are for videos alone."""
_FOR_PICTURES = ("form", "quality", "depth", "keep_going")
"""Names of the values that are for pictures alone."""
_FOR_BOTH = (
    "bundle",
    "sources",
    "out",
    "suffix",
    "max_side",
    "max_pixels",
    "files",
    "values",
    "tile",
    "seed",
    "labels",
)
_FLAGS = ("skip_existing", "overwrite")
_MOST_FRAMES = 256
"""Frames that are computed at a time."""


def accept_videos(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that transforms pictures the options of videos, and do its work if the source is a video."""

    @functools.wraps(command)
    def run(**values: Any) -> None:
        video = {name: values.pop(name) for name in _OPTIONS}
        sources: Sequence[Path] = values["sources"]
        found = [source for source in sources if is_video(source)]
        if not found:
            _refuse_options(_OPTIONS, "is for videos, and no source is one")
            command(**values)
        elif len(sources) > 1:
            raise RequestError(f"{found[0]} is a video, and there are {len(sources)} sources; give one video by itself")
        else:
            _refuse_options(_FOR_PICTURES, f"is for pictures, and {found[0]} is a video")
            _transform(found[0], values, video)

    for option in reversed(_OPTIONS.values()):
        run = option(run)
    return run


def is_video(path: Path) -> bool:
    """Whether a source is a video, by the end of its name."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir()


def _refuse_options(names: Sequence[str] | Mapping[str, Any], why: str) -> None:
    """Raise RequestError if one of these options was given."""
    context = click.get_current_context()
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if parameter.name in names and given:
            raise RequestError(f"{parameter.opts[0]} {why}; leave it out")


def _transform(source: Path, values: Mapping[str, Any], video: Mapping[str, Any]) -> None:
    videos = import_extra("ganrt.video", "video", "transforming videos")
    target = choose_target(source, values["out"], values["suffix"])
    if values["skip_existing"] and target.exists():
        click.echo(f"{target} was there already")
        return
    options = videos.VideoOptions(
        codec=video["codec"],
        crf=video["crf"],
        start=parse_time(video["start"], "--start") or Fraction(0),
        end=parse_time(video["end"], "--end"),
        most_pixels=values["max_pixels"],
    )
    job: VideoJob = videos.VideoJob(source, target, options)
    for remark in job.remarks:
        log(remark)
    inputs = ModelInputs.read(values["files"], values["values"], ReadOptions(most_pixels=values["max_pixels"]))
    settings = {name: values[name] for name in ("tile", "seed", "labels")}
    loading = {name: value for name, value in values.items() if name not in (*_FOR_BOTH, *_FLAGS, *_FOR_PICTURES)}
    with load_generator(values["bundle"], **loading) as generator:
        key = {name: str(value) for name, value in {**settings, "max-side": values["max_side"]}.items()}
        key |= inputs.describe()
        key |= {"bundle": generator.info.digest or "", "configuration": str(generator.info.config)}
        change = make_change(generator, values["max_side"], settings, inputs.values)
        batch = choose_batch(generator.spec, job.pixels, video["batch_frames"])
        with watch_signals() as stop, _show_frames(target.name) as show:

            def report(done: int, total: int) -> None:
                show(done, total)
                if stop.number:
                    log(f"stopped by {stop.name}; the same command continues")
                    raise SystemExit(stop.exit_code)

            frames = job.run(change, batch, key=key, overwrite=values["overwrite"], report=report, log=log)
        click.echo(
            f"{count_things(frames, 'frame')} by {generator.session.backend} ({generator.session.device}) in {target}"
        )


def choose_target(source: Path, out: Path, suffix: str) -> Path:
    """The file to write: `out`, or the source's name in the folder `out`. AVI files become MP4 files.

    Raises RequestError if `out` ends otherwise than videos do.
    """
    from ganrt.video import CONTAINERS

    if out.suffix.lower() in CONTAINERS and not out.is_dir():
        if suffix:
            raise RequestError(f"--suffix is for folders, and {out} is a file; leave it out")
        return out
    if out.suffix and not out.is_dir():
        raise RequestError(
            f"{source} is a video, and {out} does not end as one: write a folder, or a file that ends in "
            f"{', '.join(CONTAINERS)}"
        )
    ending = source.suffix if source.suffix.lower() in CONTAINERS else ".mp4"
    return out / f"{source.stem}{suffix}{ending}"


def parse_time(text: str | None, option: str) -> Fraction | None:
    """`90.5`, `1:30.5` or `0:01:30.500` -> seconds. Raises RequestError, naming the option."""
    if text is None:
        return None
    if not re.fullmatch(r"([0-9]{1,4}:)?([0-9]{1,4}:)?[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise RequestError(f"{option} {text:.100} is not a time, such as 90.5, 1:30.5 or 0:01:30.500")
    seconds = Fraction(0)
    for part in text.split(":"):
        seconds = seconds * 60 + Fraction(part)
    return seconds


def choose_batch(spec: Spec, pixels: int, asked: int | None) -> int:
    """Frames to compute at a time: as many as one call of the network computes, if it is not said."""
    if asked is not None:
        return require_whole("--batch-frames", asked, 1, _MOST_FRAMES)
    return max(1, min(_MOST_FRAMES, count_pixels_at_once(spec) // pixels))


def make_change(
    generator: Generator, max_side: int | None, settings: Mapping[str, Any], inputs: Mapping[str, Any]
) -> Callable[[Pictures], Pictures]:
    """A function that makes new frames of frames. What a model draws is the same for every frame: sample 0.

    Args:
        max_side: frames are reduced to this longer side.
        settings: `tile`, `seed` and `labels` of `Generator.transform`.
        inputs: its further inputs.
    """
    spec = generator.spec
    label = spec.find(Label)
    given = {*inputs, label.name if label is not None and settings["labels"] is not None else ""}
    draws = bool(set(spec.streams) - given)
    grey = bool(spec.images) and spec.images[0].channels == 1 and spec.images[0].role != LUMA

    def change(frames: Pictures) -> Pictures:
        if max_side is not None:
            frames = np.stack([Frame(frame).reduce(max_side).color for frame in frames])
        if grey:
            frames = np.stack([Frame(frame).fit_channels(1) for frame in frames])
        seed = [settings["seed"]] * len(frames) if draws else settings["seed"]
        made: Pictures = generator.transform(frames, **{**settings, "seed": seed}, **inputs)
        return made

    return change


@contextmanager
def _show_frames(name: str) -> Iterator[Callable[[int, int], None]]:
    """Show progress from the first frame on: only then it is known how many there are."""
    with ExitStack() as stack:
        shown: list[Callable[[int, str], None]] = []

        def report(done: int, total: int) -> None:
            if not shown:
                shown.append(stack.enter_context(show_item_progress("frames", total)))
            shown[0](done, name)

        yield report
