"""What the variants of an image-to-image model lose on whole photographs, which their export should not have seen.

    python -m ganrt.bench.photo_quality BUNDLE FOLDER [--backend openvino]

prints the table of docs/export.md: for each variant the PSNR against the traced float32 graph, and what it adds to flat
parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

from ganrt.agreement import compare
from ganrt.backend import open_session, supports_variant
from ganrt.batching import run_all
from ganrt.bundle import FAITHFUL, Bundle
from ganrt.errors import RequestError
from ganrt.feeds import Feeds
from ganrt.flat_parts import FlatParts, measure_flat_parts
from ganrt.images import Floats, from_uint8, list_picture_files, read_picture
from ganrt.levels import find_levels
from ganrt.session_config import SessionConfig
from ganrt.spec import Spec


class PhotoQuality(NamedTuple):
    """A variant on some photographs, one entry for each."""

    variant: str
    psnr: list[float]
    """In dB."""
    flat: FlatParts
    """In levels."""


def measure_photos(bundle: Bundle, photos: list[Path], backend: str) -> Iterator[PhotoQuality]:
    """Compare every other variant that the backend runs with the traced graph on it. Raises RequestError for a model
    that does not take one picture of any size."""
    spec = bundle.spec
    if len(spec.inputs) != 1 or not spec.images or spec.images[0].size is not None:
        raise RequestError(f"this {spec.family} model does not take one picture of any size")
    feeds = [_read_photo(path, spec) for path in photos]
    wanted = _run_variant(bundle, FAITHFUL, backend, feeds)
    for variant in [name for name in bundle.variants if name != FAITHFUL and supports_variant(backend, bundle, name)]:
        pairs = list(zip(_run_variant(bundle, variant, backend, feeds), wanted, strict=True))
        psnr = [float(compare(*pair, find_levels(spec.output)).psnr[0]) for pair in pairs]
        yield PhotoQuality(
            variant, psnr, FlatParts.join([measure_flat_parts(*pair, find_levels(spec.output)) for pair in pairs])
        )


def format_table(found: list[PhotoQuality]) -> str:
    """A Markdown table, one row per variant."""
    rows = [
        f"| {q.variant} | {min(q.psnr):.1f} dB | {np.median(q.psnr):.1f} dB | {max(0.0, q.flat.texture.max()):.2f} | "
        f"{q.flat.shift.max():.2f} |"
        for q in found
    ]
    columns = ("variant", "worst PSNR", "median", "texture added to flat parts", "shift of flat parts")
    return "\n".join([f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|", *rows])


def _read_photo(path: Path, spec: Spec) -> Feeds:
    item = spec.images[0]
    picture = read_picture(path, item.channels)
    rule = item.multiple_of
    picture = picture[: picture.shape[0] // rule * rule, : picture.shape[1] // rule * rule]
    return {item.name: from_uint8(picture[None], find_levels(item))}


def _run_variant(bundle: Bundle, variant: str, backend: str, feeds: list[Feeds]) -> list[Floats]:
    with open_session(bundle, SessionConfig(backend, variant, "cpu")) as session:
        return [run_all(session, bundle.spec.output, given, 1) for given in feeds]


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--backend", default="openvino", show_default=True)
def main(bundle: Path, folder: Path, backend: str) -> None:
    """Print what the variants of BUNDLE lose on the photographs in FOLDER."""
    click.echo(format_table(list(measure_photos(Bundle.read(bundle), list_picture_files(folder), backend))))


if __name__ == "__main__":
    main()
