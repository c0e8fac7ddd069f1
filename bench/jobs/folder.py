"""`ganrt transform` of a folder with pictures of all kinds, killed three times: is anything lost?

    python -m ganrt.bench.jobs.folder BUNDLE [--pictures 200] [--write FILE.md]

makes the pictures, transforms them in one go and in one that is killed, compares the two byte for byte, and compares
each picture with what the model makes of the values that the file was made of. BUNDLE is a model that enlarges or keeps
pictures of any size.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from numpy.typing import NDArray

import ganrt
from ganrt.atomic import write_file
from ganrt.photos import Frame, Photo, Plane, ReadOptions, read_photo, split_opacity

from .kill import hash_folder, run_and_kill, run_command
from .picture_kinds import Kind, make_kinds

_EXACT, _LOSSY = 1.0, 6.0
"""Largest mean difference of visible values, in levels of 8 bits: of files that keep all values, where a color profile
rounds, and of JPEG and AVIF, twice."""


class Finding(NamedTuple):
    """A picture that was made, beside the one it was made of."""

    name: str
    difference: float
    """Mean over the visible values, in levels of 8 bits."""
    problems: tuple[str, ...]


def write_pictures(folder: Path, count: int) -> list[tuple[Path, Kind]]:
    """Write `count` files of all kinds into subfolders. Returns their places, and what they show."""
    made: list[tuple[Path, Kind]] = []
    seed = 0
    while len(made) < count:
        for kind in make_kinds(seed)[: count - len(made)]:
            path = folder / f"set{seed:02}" / kind.name
            write_file(path, kind.content)
            made.append((path, kind))
        seed += 1
    return made


def inspect(generator: ganrt.Generator, kind: Kind, made: Photo, name: str) -> Finding:
    """Compare a picture with what the model makes of the values that its source was made of."""
    problems = []
    if len(made.frames) != len(kind.frames):
        problems.append(f"{len(made.frames)} frames instead of {len(kind.frames)}")
    given = read_photo(kind.content)
    if kind.description and kind.description.encode() not in made.metadata.exif:
        problems.append("EXIF description lost")
    if given.metadata.dpi and not made.metadata.dpi:
        problems.append("pixels per inch lost")
    if any(a.milliseconds != b.milliseconds for a, b in zip(given.frames, made.frames, strict=False)):
        problems.append("times of frames changed")
    difference = 0.0
    for frame, values in zip(made.frames, kind.frames, strict=False):
        wanted = generator.transform(Photo((Frame(*split_opacity(values)),)))
        has_opacity = wanted.shape[2] in (2, 4)
        opaque = frame.opacity is None or bool((frame.opacity == np.iinfo(frame.opacity.dtype).max).all())
        found = frame.color if opaque else frame.join()
        if frame.depth != 8 * values.itemsize:
            problems.append(f"{frame.depth} bits")
        if opaque == has_opacity:
            problems.append("opacity lost" if has_opacity else "opacity added")
        elif found.shape[:2] != wanted.shape[:2]:
            problems.append(f"{found.shape[1]} x {found.shape[0]} pixels")
        else:
            difference = max(difference, _compare(found, wanted))
    if difference > (_EXACT if kind.exact else _LOSSY):
        problems.append(f"differs by {difference:.1f} levels")
    return Finding(name, difference, tuple(problems))


def _compare(found: Plane, wanted: Plane) -> float:
    """Mean difference of what is seen on a grey ground, in levels of 8 bits."""
    seen = [_put_on_grey(values / np.iinfo(values.dtype).max) for values in (found, wanted)]
    return float(np.abs(seen[0] - seen[1]).mean() * 255)


def _put_on_grey(values: NDArray[np.float64]) -> NDArray[np.float64]:
    if values.shape[2] in (2, 4):
        values = values[..., :-1] * values[..., -1:] + 0.5 * (1 - values[..., -1:])
    return values if values.shape[2] == 3 else values.repeat(3, axis=2)


def find_made(folder: Path, source: Path) -> Path:
    """The file that was made of a source, by its place in the folder of sources: of its format, or PNG."""
    names = (source, source.with_name(f"{source.name}.png"), source.with_suffix(".png"))
    return next(folder / name for name in names if (folder / name).exists())


def run_jobs(bundle: str, sources: Path, folder: Path, total: int, seed: int) -> tuple[list[int], int]:
    """Transform the sources into `folder/whole` at once, and into `folder/killed` by a command that is killed three
    times. Returns how many files were complete at each kill, and how many files differ in the end."""
    whole, killed = folder / "whole", folder / "killed"
    settings = ["--depth", "16"]
    run_command(["transform", bundle, str(sources), "--out", str(whole), *settings])
    kills = run_and_kill(
        ["transform", bundle, str(sources), "--out", str(killed), *settings],
        lambda: sum(not path.name.startswith(".") for path in killed.rglob("*.*")),
        total,
        3,
        seed,
    )
    first, second = hash_folder(whole), hash_folder(killed)
    return kills, sum(first.get(name) != second.get(name) for name in {*first, *second})


def _format_report(bundle: str, findings: list[Finding], kills: list[int], different: int) -> Iterator[str]:
    kinds = sorted({Path(finding.name).name for finding in findings})
    yield "# A folder of pictures of all kinds\n"
    yield f"    python -m ganrt.bench.jobs.folder {bundle} --pictures {len(findings)} --write folder.md\n"
    yield f"{len(findings)} pictures of {len(kinds)} kinds, `ganrt transform --depth 16`, ganrt {ganrt.__version__}.\n"
    moments = ", ".join(map(str, kills))
    yield f"Killed (SIGKILL) when {moments} pictures were complete: {different} files differ from the run that was not."
    lost = [finding for finding in findings if finding.problems]
    yield f"Pictures that lost something: {len(lost)}.\n"
    yield from (f"- {finding.name}: {', '.join(finding.problems)}" for finding in lost)
    yield "Mean difference of what is seen from what the model makes of the values that a file was made of, in levels"
    yield "of 8 bits, the worst picture of each kind:\n"
    yield "| kind | pictures | worst |\n| --- | ---: | ---: |"
    count = Counter(Path(finding.name).name for finding in findings)
    for kind in kinds:
        worst = max(finding.difference for finding in findings if Path(finding.name).name == kind)
        yield f"| `{kind}` | {count[kind]} | {worst:.2f} |"


@click.command()
@click.argument("bundle")
@click.option("--pictures", default=200, show_default=True)
@click.option("--seed", default=0, help="Of the moments of the kills.")
@click.option("--write", type=click.Path(path_type=Path), help="Write the report to a file.")
def main(bundle: str, pictures: int, seed: int, write: Path | None) -> None:
    """Transform a folder of pictures of all kinds, killed three times, and look for what was lost."""
    with tempfile.TemporaryDirectory() as place:
        sources = Path(place, "pictures")
        made = write_pictures(sources, pictures)
        kills, different = run_jobs(bundle, sources, Path(place), pictures, seed)
        with ganrt.load(bundle) as generator:
            findings = []
            for path, kind in made:
                inner = path.relative_to(sources)
                photo = read_photo(find_made(Path(place, "whole"), inner), ReadOptions(16))
                findings.append(inspect(generator, kind, photo, str(inner)))
    report = "\n".join(_format_report(Path(bundle).name, findings, kills, different)) + "\n"
    click.echo(report)
    if write:
        write_file(write, report.encode())
    raise SystemExit(different > 0 or any(finding.problems for finding in findings))


if __name__ == "__main__":
    main()
