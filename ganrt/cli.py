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
from ganrt.backend import BACKENDS
from ganrt.errors import GanrtError, MissingLibraryError, RequestError, VerificationError

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
