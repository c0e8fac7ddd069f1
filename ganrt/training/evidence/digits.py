"""Compare the digits that several runs generate.

    python -m ganrt.training.evidence.digits RUN ... --out docs/training

writes `digits.json` and, for each RUN folder, a grid `digits-NAME.png` of samples 0 to 99 of seed 7. All runs must have
been trained on the data `digits`, at one size.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import nn

from ganrt import feeds, images
from ganrt.atomic import write_file
from ganrt.errors import RequestError
from ganrt.images import Pictures
from ganrt.sample_request import Labels
from ganrt.spec import Label
from ganrt.training.metrics import DigitClassifier
from ganrt.training.run import RunRecord, read_run

_SEED, _COUNT, _SHOWN = 7, 1000, 100


def draw_samples(
    record: RunRecord, module: nn.Module, labels: Labels = None, truncation: float | None = None
) -> Pictures:
    """Samples 0 to 999 of seed 7 by a generator of the run, in eval mode: uint8 NHWC."""
    spec = record.options.spec
    drawn = feeds.draw_feeds(spec, _SEED, 0, _COUNT, labels, truncation)
    with torch.inference_mode():
        made = module(*(torch.from_numpy(drawn[item.name]) for item in spec.inputs))
    return images.to_uint8(made.numpy(), spec.output.range)


def measure(record: RunRecord, classifier: DigitClassifier) -> tuple[dict[str, Any], Pictures]:
    """Metrics of one run, and its samples (uint8 NHWC). For a conditional model, `asked_for` is the share of samples
    that show the digit of their label."""
    asked = np.arange(_COUNT) % 10 if record.options.spec.find(Label) else None
    pictures = draw_samples(record, record.load_generator(), asked)
    metrics = classifier.evaluate(pictures)
    figures = {"loss": record.options.loss, "family": record.family, "steps": record.step, **asdict(metrics)}
    figures["diversity"] = asdict(classifier.measure_diversity(pictures))
    figures["real_diversity"] = asdict(classifier.real_diversity)
    if asked is not None:
        figures["asked_for"] = float((classifier.predict(pictures) == asked).mean())
    return figures, pictures


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write to.")
def main(runs: tuple[Path, ...], out: Path) -> None:
    """Evaluate the digits that RUNS generate."""
    records = [read_run(run) for run in runs]
    sizes = {record.options.spec.output.size for record in records}
    if len(sizes) != 1 or None in sizes:
        raise RequestError(f"the runs make images of {len(sizes)} sizes; compare runs of one size")
    classifier = DigitClassifier(next(size[0] for size in sizes if size))
    table = {}
    for record in records:
        name = record.path.name
        table[name], pictures = measure(record, classifier)
        write_file(out / f"digits-{name}.png", images.encode_png(images.make_grid(pictures[:_SHOWN])))
        click.echo(_format_row(name, table[name]))
    write_file(out / "digits.json", json.dumps(table, indent=1).encode() + b"\n")


def _format_row(name: str, figures: dict[str, Any]) -> str:
    shares, found = figures["shares"], figures["diversity"]
    cells = [name, figures["steps"], f"{figures['confidence']:.1%}", f"{min(shares):.1%}", f"{max(shares):.1%}"]
    cells += [f"{figures['distance']:.1f}", f"{found['spread']:.2f}", f"{found['nearest']:.2f}"]
    cells += [f"{found['coverage']:.0%}", f"{figures['asked_for']:.1%}" if "asked_for" in figures else ""]
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
