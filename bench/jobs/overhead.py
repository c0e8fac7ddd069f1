"""What `ganrt transform` of a folder costs beside the bare session.

    python -m ganrt.bench.jobs.overhead BUNDLE [FOLDER] [--rounds 5]

Without a folder, 48 photographs of 256 x 192 pixels are made. Rounds of fresh processes: the command, from its start to
its end; and the session alone, which computes the same pictures, each read and converted before the clock starts. The
ratio of each round is printed, a Markdown list.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np

import ganrt
from ganrt.atomic import write_file
from ganrt.errors import MachineError
from ganrt.images import Pictures, from_pictures, list_picture_files
from ganrt.levels import find_levels
from ganrt.photos import Frame, Photo, encode_photo

from .. import clock
from .kill import run_command

_PHOTOS, _HEIGHT, _WIDTH = 48, 192, 256


def write_photos(folder: Path) -> None:
    """Write crops of the photographs that ship with scikit-learn, half of them as PNG and half as JPEG files."""
    from sklearn.datasets import load_sample_images

    photos: list[Pictures] = load_sample_images().images
    random = np.random.default_rng(0)
    for k in range(_PHOTOS):
        whole = photos[k % len(photos)]
        top, left = int(random.integers(len(whole) - _HEIGHT)), int(random.integers(whole.shape[1] - _WIDTH))
        photo = Photo((Frame(np.ascontiguousarray(whole[top : top + _HEIGHT, left : left + _WIDTH])),))
        form = ("png", "jpeg")[k // 2 % 2]
        write_file(folder / f"{k:02}.{form}", encode_photo(photo, form))


def time_session(bundle: str, folder: Path) -> float:
    """Seconds in which the session computes all pictures of a folder, one by one, in whole."""
    with ganrt.load(bundle) as generator:
        item = generator.spec.images[0]
        pictures = [ganrt.read_photo(path).frames[0].color for path in list_picture_files(folder)]
        feeds = [{item.name: np.ascontiguousarray(from_pictures(p[None], find_levels(item)))} for p in pictures]
        generator.session.submit(feeds[0]).wait()
        started = clock.now_ns()
        for given in feeds:
            generator.session.submit(given).wait()
        return (clock.now_ns() - started) / 1e9


def time_command(bundle: str, folder: Path) -> float:
    """Seconds of `ganrt transform`, with the start of the interpreter and the loading of the model."""
    with tempfile.TemporaryDirectory() as out:
        started = clock.now_ns()
        run_command(["transform", bundle, str(folder), "--out", f"{out}/made"])
        return (clock.now_ns() - started) / 1e9


def _time_session_apart(bundle: str, folder: Path) -> float:
    command = [sys.executable, "-m", __spec__.name, bundle, str(folder), "--session"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise MachineError(f"the session failed: {done.stderr.strip()[-500:]}")
    return float(done.stdout)


@click.command()
@click.argument("bundle")
@click.argument("folder", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--rounds", default=5, show_default=True)
@click.option("--session", is_flag=True, help="Time the session alone, once.")
def main(bundle: str, folder: Path | None, rounds: int, session: bool) -> None:
    """Compare `ganrt transform` of a folder with the bare session."""
    with tempfile.TemporaryDirectory() as made:
        if folder is None:
            folder = Path(made)
            write_photos(folder)
        if session:
            click.echo(f"{time_session(bundle, folder):.3f}")
        else:
            compare(bundle, folder, rounds)


def compare(bundle: str, folder: Path, rounds: int) -> None:
    """Print the seconds of the session and of the command in each round, and the median of their ratios."""
    time_command(bundle, folder)  # the proof is kept from then on
    ratios = []
    for _ in range(rounds):
        bare, whole = _time_session_apart(bundle, folder), time_command(bundle, folder)
        ratios.append(whole / bare)
        click.echo(f"- session {bare:.2f} s, command {whole:.2f} s, ratio {ratios[-1]:.2f}")
    count = len(list_picture_files(folder))
    click.echo(f"\n{count} pictures: the median ratio of {rounds} rounds is {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
