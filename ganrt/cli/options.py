"""What the commands share: their options, and how errors become one sentence and an exit code."""

from __future__ import annotations

import errno
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

import ganrt
from ganrt.backend import BACKENDS
from ganrt.cli.terminal import progress_bar, say
from ganrt.errors import GanrtError, MachineError, MissingLibraryError, NoEngineError
from ganrt.generator import Generator

_INTERRUPTED = 130
"""What a shell expects of a program that was stopped by Ctrl-C."""


class Commands(click.Group):
    """Turns ganrt's errors into one sentence on standard error and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except GanrtError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(_INTERRUPTED)
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of our output has gone: click ends quietly
                raise
            click.echo(f"error: {error.filename or 'an output'}: {error.strerror or error}", err=True)
            ctx.exit(MachineError.exit_code)


bundle_argument = click.argument("bundle", type=click.Path(path_type=Path))
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
config_option = click.option("--config", multiple=True, metavar="K=V", help="A setting of the family; may be repeated.")


def export_options(command: Callable[..., None]) -> Callable[..., None]:
    """What `ganrt export` may be told about the bundle that it makes."""
    options = (
        click.option("--opset", default=20, show_default=True, help="ONNX operator set; read back and checked."),
        click.option(
            "--precision", default="fp32", show_default=True, help="Some of fp32,bf16,fp16,int8; each is proven."
        ),
        click.option("--form", default="phases", show_default=True, help="Of up-sampling: phases,subpixel,transposed."),
        click.option(
            "--quality", default=35.0, show_default=True, help="Worst PSNR in dB of int8; of fp16, at least 45."
        ),
        click.option(
            "--pictures",
            type=click.Path(path_type=Path),
            metavar="FOLDER",
            help="What fp16 and int8 of models that take pictures are calibrated on. Default: made-up pictures.",
        ),
        click.option(
            "--fix",
            multiple=True,
            metavar="NAME=VALUE",
            help="A class or a number that is given for good, such as label=207; may be repeated.",
        ),
    )
    return _with(options, command)


def loading_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of a command that are the arguments of `ganrt.load`."""
    options = (
        click.option("--backend", default="auto", show_default=True, help=f"auto, {', '.join(BACKENDS)}."),
        device_option,
        click.option("--precision", default="auto", show_default=True, help="What may be computed in."),
        click.option("--variant", help="One variant by its name; `ganrt info` lists them."),
        click.option("--unproven", is_flag=True, help="Use a variant that is not proven on this machine."),
    )
    return _with(options, command)


def engine_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of a command that are the fields of `ganrt.export.engines.options.Options`."""
    hardware = "Other GPUs it shall run on: none, same-capability, ampere-plus."
    options = (
        click.option("--batch", "batches", multiple=True, type=int, help="A batch size; may be repeated. 1, 8, 32."),
        click.option(
            "--ranged", is_flag=True, help="One profile for all batch sizes: quicker to build, slower to run."
        ),
        click.option("--size", metavar="N or HxW", help="Of pictures, for models that take any size."),
        click.option("--level", default=3, show_default=True, help="Optimisation level, 0 to 5."),
        click.option("--workspace", "workspace_mib", default=0, metavar="MIB", help="Most scratch memory. 0: all."),
        click.option("--version-compatible", is_flag=True, help="For later versions too, and for the lean runtime."),
        click.option("--hardware", "hardware_compatible", default="none", show_default=True, help=hardware),
        click.option("--refit", "refittable", is_flag=True, help="One engine for all checkpoints of an architecture."),
        click.option("--strip", "stripped", is_flag=True, help="Keep that engine without weights; with --refit."),
    )
    return _with(options, command)


def _with(options: Sequence[Callable[..., Any]], command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(options):
        command = option(command)
    return command


def load(bundle: Path, **loading: Any) -> Generator:
    """`ganrt.load`. Where TensorRT is asked for by name and no engine fits, one is built first."""
    try:
        return ganrt.load(bundle, **loading)
    except NoEngineError as error:
        if loading["backend"] != "tensorrt":
            raise
        say(str(error))
    engines = extra("ganrt.export.engines.build", "tensorrt", "building engines")
    read = ganrt.Bundle.read(bundle)
    precision = "fp32" if loading["precision"] == "auto" else loading["precision"]
    variant = loading["variant"] or read.in_precision(precision)[0]
    with progress_bar(f"building {variant}") as progress:
        engines.build(read, variant, engines.Options(), loading["device"], progress=progress)
    return ganrt.load(bundle, **{**loading, "variant": variant})


def extra(module: str, name: str, purpose: str) -> Any:
    """Import a part of ganrt whose libraries are an extra. Raises MissingLibraryError naming the extra."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if (error.name or "").startswith("ganrt"):
            raise
        raise MissingLibraryError(error.name or module, name, purpose) from error
