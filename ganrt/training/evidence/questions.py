"""Compare remedies for mode collapse, for quality and for little data, on the scanned digits.

    python -m ganrt.training.evidence.questions --out docs/training

trains the smallest DCGAN once per trial, all with the same seed and number of steps, evaluates 1,000 samples of each,
and writes `questions.json`. Some rows draw other samples from a network that is already trained. It takes about twelve
minutes on one CPU core.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from rich.console import Console
from torch import nn

from ganrt.atomic import write_file
from ganrt.images import Pictures
from ganrt.models.parametrize import fold
from ganrt.training.data import load_digits
from ganrt.training.evidence.digits import draw_samples
from ganrt.training.loop import train
from ganrt.training.metrics import DigitClassifier
from ganrt.training.networks import Networks
from ganrt.training.options import TrainingOptions
from ganrt.training.run import RunRecord, load_checkpoint
from ganrt.training.trainer import StepReport

_FEW = 200
_SMALLEST = {"size": 32, "channels": 1, "width": 16}
_RESIDUAL = {"size": 32, "channels": 1, "width": 8, "discriminator_width": 8, "latent": 32}


class Trial(NamedTuple):
    """One set of options to train with."""

    question: str
    """The table it belongs to: collapse, quality or cost."""
    name: str
    """Its row in the table."""
    change: dict[str, Any]
    """Options that differ from the baseline: the smallest DCGAN, all digits, non-saturating loss."""
    few: bool = False
    """Whether to train on 200 of the digits only."""


_COLLAPSE, _QUALITY, _COST = "collapse", "quality", "cost"
TRIALS = (
    Trial(_COLLAPSE, "no remedy", {}),
    Trial(_COLLAPSE, "minibatch deviation", {"recipe": {"deviation": True}}),
    Trial(_COLLAPSE, "packing of 2", {"packing": 2}),
    Trial(_COLLAPSE, "hinge, spectral norm", {"loss": "hinge", "recipe": {"spectral": True}}),
    Trial(_COLLAPSE, "wgan-gp, 5 critic steps", {"loss": "wgan-gp"}),
    Trial(_QUALITY, "resnet", {"family": "resnet", "config": _RESIDUAL, "loss": "hinge"}),
    Trial(
        _QUALITY,
        "resnet, attention at 16 pixels",
        {"family": "resnet", "config": {**_RESIDUAL, "attention": (16,)}, "loss": "hinge"},
    ),
    Trial(_COST, "200 digits", {}, few=True),
    Trial(_COST, "200 digits, DiffAugment", {"augment": ("translation", "cutout")}, few=True),
    Trial(
        _COST,
        "200 digits, ADA",
        {"augment": ("translation", "cutout"), "recipe": {"ada": 0.6, "ada_images": 20_000}},
        few=True,
    ),
)


def build_options(trial: Trial, steps: int, few: Path) -> TrainingOptions:
    """The options of a trial. `few`: a file of the 200 digits."""
    base: dict[str, Any] = {"family": "dcgan", "config": _SMALLEST, "data": str(few) if trial.few else "digits"}
    rate = 1e-3 if trial.change.get("family", "dcgan") == "dcgan" else 5e-4
    every = {"sample_every": steps, "checkpoint_every": steps, "seed": 0}
    return TrainingOptions(
        **base | {"generator_lr": rate, "discriminator_lr": rate, "steps": steps} | every | trial.change
    )


def _load_without_average(record: RunRecord) -> nn.Module:
    """The generator of a run after its last step, instead of the moving average."""
    networks = Networks(record.options)
    load_checkpoint(record.path, networks, ("step", *StepReport._fields))
    return fold(networks.generator)


def _draw_other_samples(record: RunRecord) -> Iterator[tuple[str, Pictures]]:
    """Name and samples of variants of the run without a remedy: its last weights, and truncated latents."""
    yield "without the average", draw_samples(record, _load_without_average(record))
    for truncation in (2.0, 1.0, 0.5):
        yield f"truncation {truncation:g}", draw_samples(record, record.load_generator(), truncation=truncation)


@click.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write to.")
@click.option("--steps", default=800, show_default=True, help="Generator updates per trial.")
def main(out: Path, steps: int) -> None:
    """Train and evaluate every trial."""
    classifier, rows = DigitClassifier(32), []

    def add(question: str, name: str, made: Pictures) -> None:
        rows.append({"question": question, "name": name, "steps": steps, **asdict(classifier.evaluate(made))})
        rows[-1]["diversity"] = asdict(classifier.measure_diversity(made))
        found = rows[-1]
        spread, covered = found["diversity"]["spread"], found["diversity"]["coverage"]
        cells = f"{found['confidence']:.1%} | {min(found['shares']):.1%} | {found['distance']:.2f}"
        click.echo(f"| {question} | {name} | {cells} | {spread:.2f} | {covered:.0%} |")

    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder) / "few.npz"
        scans, labels = load_digits()
        np.savez(few, images=scans[:_FEW], labels=labels[:_FEW])
        for number, trial in enumerate(TRIALS):
            record = train(build_options(trial, steps, few), Path(folder) / str(number), console=Console(quiet=True))
            add(trial.question, trial.name, draw_samples(record, record.load_generator()))
            if number == 0:
                for name, made in _draw_other_samples(record):
                    add(_QUALITY, name, made)
    write_file(out / "questions.json", json.dumps(rows, indent=1).encode() + b"\n")


if __name__ == "__main__":
    main()
