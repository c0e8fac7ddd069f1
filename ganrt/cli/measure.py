"""Commands that measure on the machine at hand: `bench`, `tune`."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

import ganrt
from ganrt import tuned
from ganrt.atomic import check_output, write_file
from ganrt.choosing import LoadRequest
from ganrt.cli.engines import compile_rtx_engines
from ganrt.cli.options import FILE, backends_option, bundle_argument, device_option, import_extra, overwrite_option
from ganrt.cli.parsing import parse_decibels
from ganrt.cli.terminal import log, open_console, show_progress
from ganrt.errors import MachineError, RequestError
from ganrt.fleet import export_record, import_record
from ganrt.images import parse_size
from ganrt.tuned import Tuned

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
    bundle: Path | str,
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
    write_page = measuring.write_page  # where the extra is missing, this says so before minutes are spent
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
        write_page(report, bundle, html_path)
    measuring.print_table(report, open_console())
    if failed := [backend for backend in report.backends if backend.status == "failed"]:
        raise MachineError(f"{failed[0].name} could not be measured, for the reason above")


_MEASURING = ("quality", "batches", "seconds", "backends", "size", "device")
"""Parameters of `tune` that say how to measure."""


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
@click.option(
    "--export",
    "export_path",
    type=FILE,
    metavar="FILE",
    help="Write the record to this file, for equal devices. If this machine has one already and no option says how to "
    "measure, nothing is measured.",
)
@click.option(
    "--import",
    "import_path",
    type=FILE,
    metavar="FILE",
    help="Measure nothing: use the record in this file, which an equal device exported.",
)
@overwrite_option
@click.pass_context
def tune(
    context: click.Context,
    bundle: Path | str,
    quality: str,
    batches: tuple[int, ...],
    seconds: float,
    backends: tuple[str, ...],
    size: str | None,
    device: str,
    json_path: Path | None,
    export_path: Path | None,
    import_path: Path | None,
    overwrite: bool,
) -> None:
    """Find the fastest configuration for this machine.

    Measures each backend, variant and number of threads, and remembers the fastest: `ganrt.load` uses it from then on.
    """
    given = [name for name in _MEASURING if context.get_parameter_source(name) is not ParameterSource.DEFAULT]
    for path in (json_path, export_path):
        if path is not None:
            check_output(path, overwrite)
    if import_path is not None:
        if given or json_path is not None or export_path is not None:
            raise RequestError("--import measures nothing, so it goes with no other option")
        _print_choice(import_record(import_path, ganrt.Bundle.read(bundle)))
        return
    if export_path is not None and not given and json_path is None:
        record = tuned.find_record(ganrt.Bundle.read(bundle))
        if record is not None and record.origin is not None and not record.provisional:
            export_record(record, export_path)
            _print_choice(record)
            return
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
    if export_path is not None:
        export_record(result.record, export_path)


def _print_choice(record: Tuned) -> None:
    picked = record.pick(None, LoadRequest().allows)
    if picked is not None:
        click.echo(f"load picks {picked[0]} ({picked[1]})")
