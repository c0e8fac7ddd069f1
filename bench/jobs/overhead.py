"""What `ganrt transform` of a folder costs beside the bare session.

    python -m ganrt.bench.jobs.overhead BUNDLE FOLDER [--rounds 5]

Rounds of fresh processes: the command, from its start to its end; and the session alone, which computes the same
pictures, each read and converted before the clock starts. Prints the ratio of each round, a Markdown list.
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
from ganrt.errors import MachineError
from ganrt.images import from_pictures, list_picture_files
from ganrt.levels import find_levels

from .. import clock
from .kill import run_command


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
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--rounds", default=5, show_default=True)
@click.option("--session", is_flag=True, help="Time the session alone, once.")
def main(bundle: str, folder: Path, rounds: int, session: bool) -> None:
    """Compare `ganrt transform` of a folder with the bare session."""
    if session:
        click.echo(f"{time_session(bundle, folder):.3f}")
        return
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
