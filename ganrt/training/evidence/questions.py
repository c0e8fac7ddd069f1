"""The three questions that training is asked (does it collapse, how good can it be, what does it cost), on the digits.

    python -m ganrt.training.evidence.questions --out docs/training

trains the smallest DCGAN once for every switch, all with one seed and one number of steps, judges 1,000 samples of
each, and writes `questions.json`. Some rows ask a finished network for other samples, and train nothing. About twelve
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
from ganrt.training.evidence.digits import samples
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
    """A way to train."""

    question: str
    name: str
    change: dict[str, Any]
    """Options that differ from the smallest DCGAN on all digits with the non-saturating loss."""
    few: bool = False
    """Whether it has 200 of the digits alone."""


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


def options_of(trial: Trial, steps: int, few: Path) -> TrainingOptions:
    """`few`: a file of the 200 digits."""
    base: dict[str, Any] = {"family": "dcgan", "config": _SMALLEST, "data": str(few) if trial.few else "digits"}
    rate = 1e-3 if trial.change.get("family", "dcgan") == "dcgan" else 5e-4
    every = {"sample_every": steps, "checkpoint_every": steps, "seed": 0}
    return TrainingOptions(
        **base | {"generator_lr": rate, "discriminator_lr": rate, "steps": steps} | every | trial.change
    )


def _without_average(record: RunRecord) -> nn.Module:
    """The generator of a run as its last step left it."""
    networks = Networks(record.options)
    load_checkpoint(record.path, networks, ("step", *StepReport._fields))
    return fold(networks.generator)


def _other_samples(record: RunRecord) -> Iterator[tuple[str, Pictures]]:
    """Of the run without a remedy: its last weights instead of their average, and typical latents."""
    yield "without the average", samples(record, _without_average(record))
    for truncation in (2.0, 1.0, 0.5):
        yield f"truncation {truncation:g}", samples(record, record.generator(), truncation=truncation)


@click.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write to.")
@click.option("--steps", default=800, show_default=True, help="Generator updates per trial.")
def main(out: Path, steps: int) -> None:
    """Train and evaluate every trial."""
    classifier, rows = DigitClassifier(32), []

    def add(question: str, name: str, made: Pictures) -> None:
        rows.append({"question": question, "name": name, "steps": steps, **asdict(classifier.evaluate(made))})
        rows[-1]["diversity"] = asdict(classifier.diversity(made))
        found = rows[-1]
        spread, covered = found["diversity"]["spread"], found["diversity"]["coverage"]
        cells = f"{found['confidence']:.1%} | {min(found['shares']):.1%} | {found['distance']:.2f}"
        click.echo(f"| {question} | {name} | {cells} | {spread:.2f} | {covered:.0%} |")

    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder) / "few.npz"
        scans, labels = load_digits()
        np.savez(few, images=scans[:_FEW], labels=labels[:_FEW])
        for number, trial in enumerate(TRIALS):
            record = train(options_of(trial, steps, few), Path(folder) / str(number), console=Console(quiet=True))
            add(trial.question, trial.name, samples(record, record.generator()))
            if number == 0:
                for name, made in _other_samples(record):
                    add(_QUALITY, name, made)
    write_file(out / "questions.json", json.dumps(rows, indent=1).encode() + b"\n")


if __name__ == "__main__":
    main()
