"""`train`: train a generator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ganrt.cli.options import FILE, config_option, import_extra
from ganrt.cli.parsing import parse_settings


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
