"""The command line: one thin command per verb.

This is the composition root, the only place in `ganrt` that names `ganrt.export` and `ganrt.bench`, and it does so
inside the
commands: `ganrt --help` costs nothing but click. Exit codes: 0 done; 1 the answer is no; 2 the request is wrong; 3 the
artifact or the machine is not usable.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import ganrt
from ganrt.atomic import check_output, new_folder, write_file
from ganrt.backend import BACKENDS
from ganrt.errors import GanrtError, MachineError, MissingLibraryError, RequestError, VerificationError
from ganrt.images import encode_png, grid

if TYPE_CHECKING:
    from rich.console import Console

    from ganrt.proof import Proof


class _Commands(click.Group):
    """Turns ganrt's errors into one sentence on standard error and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except GanrtError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(error.exit_code)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(ganrt.__version__)
def main() -> None:
    """Train, export, prove, run and measure image generators."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)


_bundle = click.argument("bundle", type=click.Path(path_type=Path))
_backend = click.option("--backend", default="auto", show_default=True, help=f"auto, {', '.join(BACKENDS)}.")
_device = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
_precision = click.option("--precision", default="fp32", show_default=True, help="Variant of the bundle.")
_overwrite = click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
_config = click.option("--config", multiple=True, metavar="K=V", help="A setting of the family; may be repeated.")


@main.command()
def models() -> None:
    """List the generator families."""
    from rich.table import Table

    from ganrt.models import FAMILIES

    table = Table("family", "what it is", box=None)
    for name, summary in FAMILIES.items():
        table.add_row(name, summary)
    _output().print(table)


@main.command()
def doctor() -> None:
    """Tell what this machine can run, and why not."""
    from rich.table import Table

    from ganrt.doctor import examine

    table = Table(box=None, show_header=False)
    for finding in examine():
        table.add_row("ok" if finding.good else "--", finding.subject, finding.text)
    _output().print(table)


@main.command()
@_bundle
@click.option("--json", "as_json", is_flag=True, help="Print the manifest's facts as JSON.")
def info(bundle: Path, as_json: bool) -> None:
    """Show what a bundle takes, makes and has been proven for."""
    read = ganrt.Bundle.read(bundle)
    size = sum(digest.size for digest in read.files.values())
    facts = {
        "spec": read.spec.to_dict(),
        "model": dict(read.model) if read.model else None,
        "provenance": dict(read.provenance),
        "variants": {name: [p.to_dict() for p in v.proofs] for name, v in read.variants.items()},
        "bytes": size,
    }
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    out = read.spec.output
    click.echo(f"{bundle}: {read.spec.family}, {size / 1e6:.1f} MB; makes {out}")
    for item in read.spec.inputs:
        click.echo(f"  takes {item.name}: {item}")
    for name, variant in read.variants.items():
        _print_proofs(f"proofs of {name}", variant.proofs)


@main.command()
@click.argument("family")
@click.option("--data", default="digits", show_default=True, help="digits, folder:PATH or FILE.npz.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="RUN folder to make.")
@click.option("--loss", default="non-saturating", show_default=True, help="non-saturating or minimax.")
@click.option("--steps", default=1500, show_default=True, help="Each updates both networks once.")
@click.option("--batch", default=64, show_default=True, help="Pictures per step, over all devices.")
@click.option("--lr", default=5e-4, show_default=True, help="Learning rate of both networks.")
@click.option("--ema", default=0.995, show_default=True, help="Decay per step of the averaged generator.")
@click.option("--seed", default=0, show_default=True)
@click.option("--every", default=250, show_default=True, help="Steps between sample grids and checkpoints.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--devices", default=1, show_default=True, help="Processes or GPUs that share the work.")
@_config
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
def train(
    family: str,
    data: str,
    out: Path,
    loss: str,
    steps: int,
    batch: int,
    lr: float,
    ema: float,
    seed: int,
    every: int,
    device: str,
    devices: int,
    config: tuple[str, ...],
    resume: bool,
) -> None:
    """Train a generator of FAMILY against its discriminator."""
    training = _extra("ganrt.training", "train", "training")
    options = training.Options(
        family=family,
        config=_settings(config),
        data=data,
        loss=loss,
        steps=steps,
        batch=batch,
        generator_lr=lr,
        discriminator_lr=lr,
        ema=ema,
        seed=seed,
        sample_every=every,
        checkpoint_every=every,
        device=device,
        devices=devices,
    )
    record = training.train(options, out, resume)
    click.echo(f"{out}: {record.step} steps of {family} on {data}; export it with: ganrt export {out} --out NAME.ganrt")


@main.command()
@click.argument("source")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to make, such as faces.ganrt.")
@click.option("--opset", default=20, show_default=True, help="ONNX operator set; read back and checked.")
@_config
@_overwrite
def export(source: str, out: Path, opset: int, config: tuple[str, ...], overwrite: bool) -> None:
    """Export SOURCE (a RUN folder, a checkpoint, or package.module:factory) as a proven bundle."""
    exporter = _extra("ganrt.export", "export", "exporting")
    bundle = exporter.export(source, out, _settings(config), opset, overwrite, _say)
    for name, variant in bundle.variants.items():
        _print_proofs(f"{out}: {name}", variant.proofs)


@main.command()
@_bundle
@click.option("--backend", "backends", multiple=True, help="A backend to verify on; may be repeated. Default: all.")
@_device
def verify(bundle: Path, backends: tuple[str, ...], device: str) -> None:
    """Compare every variant with the original's golden samples; exit code 1 when one is not the model it claims to
    be."""
    exporter = _extra("ganrt.export", "export", "verifying")
    _, proofs = exporter.verify(ganrt.Bundle.read(bundle), backends or None, device, _say)
    _print_proofs(str(bundle), proofs)
    failed = [proof for proof in proofs if not proof.passed]
    if failed:
        raise VerificationError(f"{bundle} failed on {failed[0].backend}: {'; '.join(failed[0].failures)}")


@main.command()
@_bundle
@click.option("-n", "count", default=64, show_default=True, help="How many pictures.")
@click.option("--seed", default=0, show_default=True)
@click.option("--start", default=0, show_default=True, help="Number of the first sample of the seed.")
@click.option("--labels", help="A class, or one per picture separated by commas. Default: drawn from the seed.")
@click.option("--truncation", type=float, help="Largest magnitude of a latent value.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A .png grid, a folder, or .npz.")
@_backend
@_device
@_precision
@click.option("--unproven", is_flag=True, help="Use a variant that is not proven on this machine.")
@_overwrite
def sample(
    bundle: Path,
    count: int,
    seed: int,
    start: int,
    labels: str | None,
    truncation: float | None,
    out: Path,
    backend: str,
    device: str,
    precision: str,
    unproven: bool,
    overwrite: bool,
) -> None:
    """Make pictures from a seed."""
    from ganrt import pictures

    with ganrt.load(bundle, backend, device, precision, unproven) as generator:
        batches = generator.stream(count, seed, start, _labels(labels), truncation)
        pictures.save(batches, out, start, count, overwrite)
        click.echo(f"{count} pictures by {generator.session.backend} ({generator.session.device}) in {out}")


@main.command()
@_bundle
@click.option("--backend", "backends", multiple=True, help="A backend to measure; may be repeated. Default: all.")
@click.option("--batch", "batches", multiple=True, type=int, help="A batch size; may be repeated. Default: 1 and 8.")
@click.option("--seconds", default=60.0, show_default=True, help="Time to spend in all.")
@_device
@_precision
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the raw samples and figures here.")
@click.option("--html", "html_path", type=click.Path(path_type=Path), help="Write a page with plots and pictures here.")
@_overwrite
def bench(
    bundle: Path,
    backends: tuple[str, ...],
    batches: tuple[int, ...],
    seconds: float,
    device: str,
    precision: str,
    json_path: Path | None,
    html_path: Path | None,
    overwrite: bool,
) -> None:
    """Compare the latency of backends, with the agreement of their pictures beside every speed."""
    for path in (json_path, html_path):
        if path is not None:
            check_output(path, overwrite)
    measuring = _extra("ganrt.bench", "bench", "the benchmark")
    report = measuring.measure(bundle, backends or None, batches or (1, 8), seconds, precision, device, _say)
    measuring.print_table(report, _output())
    if json_path is not None:
        report.save(json_path)
    if html_path is not None:
        measuring.write_page(report, bundle, html_path)
    if failed := [backend for backend in report.backends if backend.status == "failed"]:
        raise MachineError(f"{failed[0].name} could not be measured, for the reason above")


@main.command()
@click.option("--out", default="out/demo", show_default=True, type=click.Path(path_type=Path))
@click.option("--steps", default=2000, show_default=True, help="Training steps.")
@click.option("--seconds", default=45.0, show_default=True, help="Time for the benchmark.")
def demo(out: Path, steps: int, seconds: float) -> None:
    """The whole path on real data in minutes: train, export, prove, sample, measure. Replaces what is in --out."""
    training = _extra("ganrt.training", "train", "the demo")
    exporter = _extra("ganrt.export", "export", "the demo")
    measuring = _extra("ganrt.bench", "bench", "the demo")
    bundle = out / "digits.ganrt"
    with new_folder(out, overwrite=True) as draft:
        _say("1/5 training a DCGAN on 1,797 scanned digits")
        config = {"size": 32, "channels": 1, "width": 16}
        options = training.Options("dcgan", config, steps=steps, generator_lr=1e-3, discriminator_lr=1e-3)
        training.train(options, draft / "run")
        _say("2/5 exporting it, and 3/5 proving it on every backend")
        exporter.export(str(draft / "run"), draft / bundle.name, progress=_say)
        read, _ = exporter.verify(ganrt.Bundle.read(draft / bundle.name), ["reference"], progress=_say)
        _say("4/5 sampling")
        with ganrt.load(draft / bundle.name) as generator:
            pictures = generator.sample(1000, seed=7)
        write_file(draft / "samples.png", encode_png(grid(pictures[:100], scale=2)))
        quality = training.DigitJudge(32).judge(pictures)
        _say("5/5 measuring every backend")
        report = measuring.measure(draft / bundle.name, None, (1, 8), seconds, progress=_say)
        report.save(draft / "report.json")
        measuring.write_page(report, draft / bundle.name, draft / "report.html")
    measuring.print_table(report, _output())
    _print_proofs("every backend makes the PyTorch original's pictures", read.variants["fp32"].proofs)
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


def _extra(module: str, extra: str, purpose: str) -> Any:
    """Import a part of ganrt whose libraries are an extra."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if (error.name or "").startswith("ganrt"):
            raise
        raise MissingLibraryError(error.name or module, extra, purpose) from error


def _settings(pairs: tuple[str, ...]) -> dict[str, str]:
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise RequestError(f"--config {pair} is not of the form name=value")
        settings[name] = value
    return settings


def _labels(text: str | None) -> int | list[int] | None:
    if text is None:
        return None
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise RequestError(f"--labels {text} is not a class number, or several separated by commas") from error
    return numbers[0] if len(numbers) == 1 else numbers


def _print_proofs(title: str, proofs: Iterable[Proof]) -> None:
    from rich.table import Table

    table = Table("backend", "device", "precision", "samples", "worst", "median", "verdict", title=title)
    for p in proofs:
        verdict = "passed" if p.passed else f"[bold red]failed[/]: {p.failures[0]}"
        row = (
            p.backend,
            p.device,
            p.precision,
            str(p.samples),
            f"{p.worst_psnr:.1f} dB",
            f"{p.median_psnr:.1f} dB",
            verdict,
        )
        table.add_row(*row)
    _output().print(table)


def _say(line: str) -> None:
    """Progress: one plain line on standard error."""
    click.echo(line, err=True)


def _output() -> Console:
    from rich.console import Console

    return Console(file=sys.stdout, soft_wrap=False)


if __name__ == "__main__":
    main()
