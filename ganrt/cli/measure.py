"""Commands that measure on the machine at hand: `bench`, `tune`."""

from __future__ import annotations

from pathlib import Path

import click

from ganrt.atomic import check_output, write_file
from ganrt.cli.engines import compile_rtx_engines
from ganrt.cli.options import FILE, backends_option, bundle_argument, device_option, import_extra, overwrite_option
from ganrt.cli.parsing import parse_decibels
from ganrt.cli.terminal import log, open_console, show_progress
from ganrt.errors import MachineError
from ganrt.images import parse_size

_size_option = click.option(
    "--size",
    metavar="H[xW]",
    show_default="the model's own",
    help="Height and width in pixels of the pictures an image-to-image model is given.",
)


@click.command()
@bundle_argument
@backends_option
@click.option("--batch", "batches", multiple=True, type=int, show_default="1 and 8", help="A batch size; repeatable.")
@_size_option
@click.option("--seconds", default=60.0, help="Seconds to spend in total.")
@device_option
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="NAME",
    show_default="all",
    help="A variant to measure; repeatable.",
)
@click.option("--json", "json_path", type=FILE, metavar="FILE", help="Write all samples and statistics to this file.")
@click.option("--html", "html_path", type=FILE, metavar="FILE", help="Write a page with plots and pictures here.")
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
    """Measure the latency of every backend.

    Each speed stands beside the agreement of the backend's images with the PyTorch original.
    """
    for path in (json_path, html_path):
        if path is not None:
            check_output(path, overwrite)
    measuring = import_extra("ganrt.bench", "bench", "the benchmark")
    report = measuring.measure(
        bundle,
        backends=backends or None,
        batches=batches or (1, 8),
        seconds=seconds,
        variants=variants or None,
        device=device,
        size=parse_size(size) if size else None,
        progress=log,
    )
    if json_path is not None:
        report.save(json_path)
    if html_path is not None:
        measuring.write_page(report, bundle, html_path)
    measuring.print_table(report, open_console())
    if failed := [backend for backend in report.backends if backend.status == "failed"]:
        raise MachineError(f"{failed[0].name} could not be measured, for the reason above")


@click.command()
@bundle_argument
@click.option(
    "--quality",
    default="60dB",
    metavar="DB",
    help="Lowest PSNR allowed on the golden samples; decides which precisions compete.",
)
@click.option(
    "--batch", "batches", multiple=True, type=int, show_default="1, 8 and 32", help="A batch size; repeatable."
)
@click.option("--seconds", default=120.0, help="Seconds to spend in total.")
@backends_option
@_size_option
@device_option
@click.option("--json", "json_path", type=FILE, metavar="FILE", help="Write the result to this file.")
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
    """Find the fastest configuration for this machine.

    Measures each backend, variant and number of threads, and remembers the fastest: `ganrt.load` uses it from then on.
    """
    if json_path is not None:
        check_output(json_path, overwrite)
    decibels, picture = parse_decibels(quality), parse_size(size) if size else None
    measuring = import_extra("ganrt.bench", "bench", "tuning")
    compile_rtx_engines(bundle, device, backends, batches, picture)
    with show_progress(f"tuning {bundle}") as progress:
        result = measuring.tune(
            bundle,
            quality=decibels,
            batches=batches or None,
            seconds=seconds,
            backends=backends or None,
            device=device,
            size=picture,
            progress=progress,
        )
    if json_path is not None:
        write_file(json_path, result.to_json().encode() + b"\n")
    measuring.print_tuning(result, open_console())
