"""Commands that train: `train`, and `demo`, which goes the whole way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import ganrt
from ganrt.atomic import new_folder, write_file
from ganrt.cli.options import FILE, config_option, import_extra
from ganrt.cli.parsing import parse_settings
from ganrt.cli.terminal import log, open_console, print_proofs
from ganrt.images import encode_png, make_grid


def _apply_preset(ctx: click.Context, _: click.Parameter, name: str | None) -> None:
    """Make the settings of a preset the defaults of the command, so that options beside it override them."""
    if name is not None:
        ctx.default_map = import_extra("ganrt.training", "train", "training").get_preset(name)


@click.command()
@click.argument("family")
@click.option(
    "--preset",
    callback=_apply_preset,
    expose_value=False,
    is_eager=True,
    metavar="NAME",
    help="Take the settings of a run in docs/training; other options override them. An unknown name lists them all.",
)
@click.option(
    "--data",
    default="",
    show_default="digits or photos, whichever suits the family",
    help="Training data: digits, photos, folder:PATH or FILE.npz.",
)
@click.option("--out", required=True, type=FILE, metavar="RUN", help="RUN folder to create.")
@click.option(
    "--loss",
    default="non-saturating",
    help="Adversarial loss, such as hinge or wgan-gp; an unknown name lists them all.",
)
@click.option("--steps", default=1500, help="Training steps; each updates the generator once.")
@click.option("--batch", default=64, help="Images per step, over all devices.")
@click.option("--lr", default=5e-4, help="Learning rate of the generator.")
@click.option(
    "--discriminator-lr", type=float, show_default="the value of --lr", help="Learning rate of the discriminator."
)
@click.option(
    "--critic-steps", default=0, show_default="what the loss needs", help="Discriminator updates per training step."
)
@click.option(
    "--augment",
    default="",
    show_default="none",
    metavar="LIST",
    help="DiffAugment operations, separated by commas: color, translation, cutout.",
)
@click.option("--packing", default=1, help="Images that the discriminator sees together as one input (PacGAN).")
@click.option("--orthogonal", default=0.0, help="Weight of orthogonal regularization; BigGAN uses 1e-4.")
@click.option("--accumulate", default=1, help="Micro-batches per step (gradient accumulation), to save memory.")
@click.option("--precision", default="fp32", help="Arithmetic of the training: fp32 or bf16-mixed.")
@click.option(
    "--halve-every",
    default=0,
    show_default="constant rate",
    help="Steps over which the learning rate halves; for image-to-image families.",
)
@click.option("--ema", default=0.995, help="Decay per step of the averaged generator, the one that is exported.")
@click.option("--seed", default=0, help="Seed of the weights, the order of the data and the noise.")
@click.option("--every", default=250, help="Steps between sample grids and checkpoints.")
@click.option("--device", default="auto", help="Device to train on: auto, cpu or cuda.")
@click.option("--devices", default=1, help="Processes that share the work, each on its own GPU with --device cuda.")
@config_option
@click.option(
    "--recipe",
    multiple=True,
    metavar="K=V",
    show_default="the task's own settings",
    help="A setting of the family's training task; repeatable.",
)
@click.option("--resume", is_flag=True, help="Continue the run in --out from its last checkpoint.")
def train(
    family: str,
    out: Path,
    lr: float,
    discriminator_lr: float | None,
    augment: str,
    every: int,
    config: tuple[str, ...],
    recipe: tuple[str, ...],
    resume: bool,
    **rest: Any,
) -> None:
    """Train a generator.

    FAMILY is a name that `ganrt models` lists. A family that generates images from noise is trained against a
    discriminator, an image-to-image family on photographs. The RUN folder holds checkpoints, sample grids and a log.
    """
    training = import_extra("ganrt.training", "train", "training")
    options = training.TrainingOptions(
        family=family,
        config=parse_settings(config),
        recipe=parse_settings(recipe, "--recipe"),
        generator_lr=lr,
        discriminator_lr=lr if discriminator_lr is None else discriminator_lr,
        augment=tuple(augment.split(",")) if augment else (),
        sample_every=every,
        checkpoint_every=every,
        **rest,
    )
    record = training.train(options, out, resume)
    click.echo(
        f"{out}: {record.step} steps of {family} on {options.data}; export it with: ganrt export {out} --out NAME.ganrt"
    )


@click.command()
@click.option("--out", default="out/demo", type=FILE, metavar="FOLDER", help="Folder to create or replace.")
@click.option("--steps", default=2000, help="Training steps.")
@click.option("--seconds", default=45.0, help="Seconds to spend on the benchmark.")
def demo(out: Path, steps: int, seconds: float) -> None:
    """Run the whole path on real data in minutes.

    Trains a DCGAN on scanned digits, exports it, verifies it on every backend, samples it and measures it.
    """
    training, exporter, measuring = (
        import_extra(f"ganrt.{part}", "train,bench", "the demo") for part in ("training", "export", "bench")
    )
    bundle = out / "digits.ganrt"
    with new_folder(out, overwrite=True, may_replace=lambda folder: (folder / bundle.name).is_dir()) as draft:
        log("1/5 training a DCGAN on 1,797 scanned digits")
        config = {"size": 32, "channels": 1, "width": 16}
        options = training.TrainingOptions("dcgan", config, steps=steps, generator_lr=1e-3, discriminator_lr=1e-3)
        training.train(options, draft / "run")
        log("2/5 exporting it, and 3/5 verifying it on every backend")
        exporter.export(str(draft / "run"), draft / bundle.name, progress=log)
        proven = exporter.verify(draft / bundle.name, backends="reference", progress=log).bundle
        log("4/5 sampling")
        with ganrt.load(draft / bundle.name) as generator:
            pictures = generator.sample(1000, seed=7)
        write_file(draft / "samples.png", encode_png(make_grid(pictures[:100], scale=2)))
        metrics = training.DigitClassifier(32).evaluate(pictures)
        log("5/5 measuring every backend")
        report = measuring.measure(draft / bundle.name, seconds=seconds, progress=log)
        report.save(draft / "report.json")
        measuring.write_page(report, draft / bundle.name, draft / "report.html")
    measuring.print_table(report, open_console())
    print_proofs("every backend makes the PyTorch original's pictures", proven.variants["fp32"].proofs)
    least = min(range(10), key=metrics.shares.__getitem__)
    click.echo(
        f"\nA classifier trained on the real scans is {metrics.confidence:.1%} sure of 1,000 samples "
        f"({metrics.real_confidence:.1%} on held-out scans);\n"
        f"the rarest digit, {least}, makes up {metrics.shares[least]:.1%}."
        f"\n\nLook at {out}/samples.png and {out}/report.html. Then try:\n"
        f"  ganrt sample {bundle} -n 64 --seed 8 --truncation 1 --out typical.png\n"
        f"  ganrt bench {bundle} --batch 1 --batch 32\n"
        f"  ganrt train dcgan --data folder:PICTURES --config size=32 --out out/pictures"
    )
