"""The command line: one thin command per verb.

This is the composition root, the only place in `ganrt` that names `ganrt.export` and `ganrt.bench`, and it does so
inside the commands: `ganrt --help` costs nothing but click. Exit codes: 0 done; 1 the answer is no; 2 the request is
wrong; 3 the artifact or the machine is not usable.
"""

from __future__ import annotations

import io
import json
import logging
import sys
from pathlib import Path
from typing import Any

import click

import ganrt
from ganrt.atomic import check_output, new_folder, write_file
from ganrt.cli.options import (
    Commands,
    bundle_argument,
    config_option,
    device_option,
    engine_options,
    export_options,
    extra,
    load,
    loading_options,
    overwrite_option,
)
from ganrt.cli.terminal import console, decibels_of, labels_of, numbers, print_proofs, progress_bar, say, settings
from ganrt.errors import MachineError, VerificationError
from ganrt.images import encode_png, grid, parse_size


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(ganrt.__version__)
def main() -> None:
    """Train, export, prove, run and measure image generators."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without a sign must not end an hour's work
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)


@main.command()
def models() -> None:
    """List the generator families."""
    from rich.table import Table

    from ganrt.models import FAMILIES

    table = Table("family", "what it is", box=None)
    for name, summary in FAMILIES.items():
        table.add_row(name, summary)
    console().print(table)


@main.command()
def doctor() -> None:
    """Tell what this machine can run, and why not."""
    from rich.markup import escape
    from rich.table import Table

    from ganrt.cli.doctor import examine

    table = Table(box=None, show_header=False)
    for finding in examine():
        table.add_row("ok" if finding.good else "--", escape(finding.subject), escape(finding.text))
    console().print(table)


@main.command()
@bundle_argument
@click.option("--json", "as_json", is_flag=True, help="Print the manifest's facts as JSON.")
def info(bundle: Path, as_json: bool) -> None:
    """Show what a bundle takes, makes and has been proven for, and what `load` takes on this machine."""
    from ganrt.cli import info

    read = ganrt.Bundle.read(bundle)
    if as_json:
        click.echo(json.dumps(info.facts(read), indent=1))
    else:
        info.print_about(read, str(bundle))


def _preset(ctx: click.Context, _: click.Parameter, name: str | None) -> None:
    """The settings of a preset become the defaults of the command; what is given beside it wins."""
    if name is not None:
        ctx.default_map = extra("ganrt.training", "train", "training").preset(name)


@main.command()
@click.argument("family")
@click.option(
    "--preset", callback=_preset, expose_value=False, is_eager=True, help="Defaults of a run in docs/training."
)
@click.option("--data", default="", help="digits, photos, folder:PATH or FILE.npz. Default: what suits the family.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="RUN folder to make.")
@click.option("--loss", default="non-saturating", show_default=True, help="A wrong name lists them all.")
@click.option("--steps", default=1500, show_default=True, help="Each updates the generator once.")
@click.option("--batch", default=64, show_default=True, help="Pictures per step, over all devices.")
@click.option("--lr", default=5e-4, show_default=True, help="Learning rate of both networks.")
@click.option("--discriminator-lr", type=float, help="Learning rate of the discriminator, if it is another.")
@click.option("--critic-steps", default=0, help="Discriminator updates per step. Default: what the loss needs.")
@click.option("--augment", default="", help="DiffAugment: some of color,translation,cutout.")
@click.option("--packing", default=1, show_default=True, help="Pictures that the discriminator judges together.")
@click.option("--orthogonal", default=0.0, show_default=True, help="Weight of orthogonal regularisation.")
@click.option("--accumulate", default=1, show_default=True, help="Parts that a batch is computed in, to save memory.")
@click.option("--precision", default="fp32", show_default=True, help="fp32 or bf16-mixed.")
@click.option("--halve-every", default=0, help="Steps in which the learning rate halves, for image-to-image tasks.")
@click.option("--ema", default=0.995, show_default=True, help="Decay per step of the averaged generator.")
@click.option("--seed", default=0, show_default=True)
@click.option("--every", default=250, show_default=True, help="Steps between sample grids and checkpoints.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--devices", default=1, show_default=True, help="Processes or GPUs that share the work.")
@config_option
@click.option("--recipe", multiple=True, metavar="K=V", help="A setting of the family's task; may be repeated.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
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
    """Train a generator of FAMILY: against its discriminator, or on photographs for an image-to-image task."""
    training = extra("ganrt.training", "train", "training")
    options = training.Options(
        family=family,
        config=settings(config),
        recipe=settings(recipe, "--recipe"),
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


@main.command()
@click.argument("source")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to make, such as faces.ganrt.")
@export_options
@config_option
@overwrite_option
def export(source: str, out: Path, precision: str, form: str, config: tuple[str, ...], **chosen: Any) -> None:
    """Export SOURCE (a RUN folder, a checkpoint, or package.module:factory) as a proven bundle."""
    exporter = extra("ganrt.export.exporter", "export", "exporting")
    chosen["fix"] = numbers(chosen["fix"], "--fix")
    lists = {"precisions": precision.split(","), "forms": form.split(",")}
    bundle = exporter.export(source, out, settings(config), progress=say, **lists, **chosen)
    for name, variant in bundle.variants.items():
        print_proofs(f"{out}: {name}", variant.proofs)


@main.command()
@bundle_argument
@click.option("--backend", "backends", multiple=True, help="A backend to verify on; may be repeated. Default: all.")
@device_option
def verify(bundle: Path, backends: tuple[str, ...], device: str) -> None:
    """Compare every variant with the original's golden samples; exit code 1 when one is not the model it claims to
    be."""
    exporter = extra("ganrt.export.verification", "export", "verifying")
    _, proofs = exporter.verify(ganrt.Bundle.read(bundle), backends or None, device, say)
    print_proofs(str(bundle), proofs)
    failed = [proof for proof in proofs if not proof.passed]
    if failed:
        raise VerificationError(f"{bundle} failed on {failed[0].backend}: {'; '.join(failed[0].failures)}")


@main.command()
@bundle_argument
@click.option("--backend", default="tensorrt", type=click.Choice(["tensorrt"]), show_default=True)
@click.option("--precision", default="fp32", show_default=True, help="Of the variant to build.")
@click.option("--variant", help="One variant by its name; `ganrt info` lists them.")
@device_option
@engine_options
@click.option("--rebuild", is_flag=True, help="Build it even if it is there.")
def build(
    bundle: Path, backend: str, precision: str, variant: str | None, device: str, rebuild: bool, **wanted: Any
) -> None:
    """Build the engine of a bundle for this GPU ahead of the first request, and prove it."""
    engines = extra("ganrt.export.engines.build", "tensorrt", "building engines")
    read = ganrt.Bundle.read(bundle)
    name = variant or read.in_precision(precision)[0]
    wanted |= {
        "size": parse_size(wanted["size"]) if wanted["size"] else None,
        "batches": tuple(sorted(set(wanted["batches"]))) or (1, 8, 32),
    }
    with progress_bar(f"building {name}") as progress:
        engine = engines.build(read, name, engines.Options(**wanted), device, rebuild, progress)
    with ganrt.load(bundle, backend, device, variant=name) as generator:
        shares = generator.session.details["computed in"]
    click.echo(f"{engine.path}: {name} in {shares}, proven on {engine.key.machine.gpu}")


@main.command()
@bundle_argument
@click.option("-n", "count", default=64, show_default=True, help="How many pictures.")
@click.option("--seed", default=0, show_default=True)
@click.option("--start", default=0, show_default=True, help="Number of the first sample of the seed.")
@click.option("--labels", help="A class, or one per picture separated by commas. Default: drawn from the seed.")
@click.option("--truncation", type=float, help="Largest magnitude of a latent value.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A .png grid, a folder, or .npz.")
@loading_options
@overwrite_option
def sample(
    bundle: Path,
    count: int,
    seed: int,
    start: int,
    labels: str | None,
    truncation: float | None,
    out: Path,
    overwrite: bool,
    **loading: Any,
) -> None:
    """Make pictures from a seed."""
    from ganrt.cli import saving

    with load(bundle, **loading) as generator:
        batches = generator.stream(count, seed, start, labels_of(labels), truncation)
        saving.save(batches, out, start, count, overwrite)
        click.echo(f"{count} pictures by {generator.session.backend} ({generator.session.device}) in {out}")


@main.command()
@bundle_argument
@click.argument("photos", metavar="IMAGE ...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for NAME.png of every NAME.*.")
@click.option("--input", "files", multiple=True, metavar="NAME=PATH", help="A further picture; may be repeated.")
@click.option("--set", "values", multiple=True, metavar="NAME=VALUE", help="A number input; may be repeated.")
@click.option("--tile", type=int, help="Side of overlapping tiles, 0 for none. Default: for large pictures only.")
@loading_options
@overwrite_option
def transform(
    bundle: Path,
    photos: tuple[Path, ...],
    out: Path,
    files: tuple[str, ...],
    values: tuple[str, ...],
    tile: int | None,
    overwrite: bool,
    **loading: Any,
) -> None:
    """Run pictures through an image-to-image model."""
    from ganrt.cli import saving

    further = {name: Path(path) for name, path in settings(files, "--input").items()}
    inputs = {**further, **numbers(values, "--set")}
    saving.check_each(photos, out, overwrite)
    with load(bundle, **loading) as generator:
        saving.save_each(photos, out, lambda photo: generator.transform(photo, tile=tile, **inputs))
        click.echo(f"{len(photos)} pictures by {generator.session.backend} ({generator.session.device}) in {out}")


@main.command()
@bundle_argument
@click.option("--backend", "backends", multiple=True, help="A backend to measure; may be repeated. Default: all.")
@click.option("--batch", "batches", multiple=True, type=int, help="A batch size; may be repeated. Default: 1 and 8.")
@click.option("--size", metavar="H[xW]", help="Of the pictures that an image-to-image model is given.")
@click.option("--seconds", default=60.0, show_default=True, help="Time to spend in all.")
@device_option
@click.option("--variant", "variants", multiple=True, help="A variant to measure; may be repeated. Default: all.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the raw samples and figures here.")
@click.option("--html", "html_path", type=click.Path(path_type=Path), help="Write a page with plots and pictures here.")
@overwrite_option
def bench(
    bundle: Path,
    backends: tuple[str, ...],
    batches: tuple[int, ...],
    size: str | None,
    seconds: float,
    device: str,
    variants: tuple[str, ...],
    json_path: Path | None,
    html_path: Path | None,
    overwrite: bool,
) -> None:
    """Compare the latency of backends, with the agreement of their pictures beside every speed."""
    for path in (json_path, html_path):
        if path is not None:
            check_output(path, overwrite)
    measuring = extra("ganrt.bench", "bench", "the benchmark")
    report = measuring.measure(
        bundle,
        backends or None,
        batches or (1, 8),
        seconds,
        variants or None,
        device,
        say,
        parse_size(size) if size else None,
    )
    if json_path is not None:
        report.save(json_path)
    if html_path is not None:
        measuring.write_page(report, bundle, html_path)
    measuring.print_table(report, console())
    if failed := [backend for backend in report.backends if backend.status == "failed"]:
        raise MachineError(f"{failed[0].name} could not be measured, for the reason above")


@main.command()
@bundle_argument
@click.option("--quality", default="60dB", show_default=True, help="Worst PSNR allowed: decides who takes part.")
@click.option("--batch", "batches", multiple=True, type=int, help="A batch size; may be repeated. Default: 1, 8, 32.")
@click.option("--seconds", default=120.0, show_default=True, help="Time to spend in all.")
@click.option("--backend", "backends", multiple=True, help="A backend to try; may be repeated. Default: all.")
@click.option("--size", help="Of the pictures given to an image-to-image model: pixels, or HEIGHTxWIDTH.")
@device_option
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write what was found here.")
@overwrite_option
def tune(
    bundle: Path,
    quality: str,
    batches: tuple[int, ...],
    seconds: float,
    backends: tuple[str, ...],
    size: str | None,
    device: str,
    json_path: Path | None,
    overwrite: bool,
) -> None:
    """Measure on this machine which backend, variant and number of threads is fastest; `load` takes it from then on."""
    if json_path is not None:
        check_output(json_path, overwrite)
    decibels, picture = decibels_of(quality), parse_size(size) if size else None
    measuring = extra("ganrt.bench", "bench", "tuning")
    with progress_bar(f"tuning {bundle}") as progress:
        wanted = (batches or None, seconds, backends or None, device, progress, picture)
        outcome = measuring.tune(bundle, decibels, *wanted)
    if json_path is not None:
        write_file(json_path, outcome.to_json().encode() + b"\n")
    measuring.print_tuned(outcome, console())


@main.command()
@click.option("--out", default="out/demo", show_default=True, type=click.Path(path_type=Path))
@click.option("--steps", default=2000, show_default=True, help="Training steps.")
@click.option("--seconds", default=45.0, show_default=True, help="Time for the benchmark.")
def demo(out: Path, steps: int, seconds: float) -> None:
    """The whole path on real data in minutes: train, export, prove, sample, measure. Replaces what is in --out."""
    training, exporter, measuring = (
        extra(f"ganrt.{part}", "train,bench", "the demo") for part in ("training", "export", "bench")
    )
    bundle = out / "digits.ganrt"
    with new_folder(out, overwrite=True, ours=lambda folder: (folder / bundle.name).is_dir()) as draft:
        say("1/5 training a DCGAN on 1,797 scanned digits")
        config = {"size": 32, "channels": 1, "width": 16}
        options = training.Options("dcgan", config, steps=steps, generator_lr=1e-3, discriminator_lr=1e-3)
        training.train(options, draft / "run")
        say("2/5 exporting it, and 3/5 proving it on every backend")
        exporter.export(str(draft / "run"), draft / bundle.name, progress=say)
        read, _ = exporter.verify(ganrt.Bundle.read(draft / bundle.name), ["reference"], progress=say)
        say("4/5 sampling")
        with ganrt.load(draft / bundle.name) as generator:
            pictures = generator.sample(1000, seed=7)
        write_file(draft / "samples.png", encode_png(grid(pictures[:100], scale=2)))
        quality = training.DigitJudge(32).judge(pictures)
        say("5/5 measuring every backend")
        report = measuring.measure(draft / bundle.name, None, (1, 8), seconds, progress=say)
        report.save(draft / "report.json")
        measuring.write_page(report, draft / bundle.name, draft / "report.html")
    measuring.print_table(report, console())
    print_proofs("every backend makes the PyTorch original's pictures", read.variants["fp32"].proofs)
    least = min(range(10), key=quality.shares.__getitem__)
    click.echo(
        f"\nA classifier that learned from the real scans is {quality.confidence:.1%} sure of 1,000 samples "
        f"({quality.real_confidence:.1%} of held-out scans);\n"
        f"the rarest digit, {least}, makes up {quality.shares[least]:.1%}."
        f"\n\nLook at {out}/samples.png and {out}/report.html. Then try:\n"
        f"  ganrt sample {bundle} -n 64 --seed 8 --truncation 1 --out typical.png\n"
        f"  ganrt bench {bundle} --batch 1 --batch 32\n"
        f"  ganrt train dcgan --data folder:PICTURES --config size=32 --out out/pictures"
    )


if __name__ == "__main__":
    main()
