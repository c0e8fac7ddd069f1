"""What the commands share: options, and how they load bundles and optional parts of ganrt."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from ganrt.backend import BACKENDS
from ganrt.errors import MissingLibraryError


class _NamedPath(click.Path):
    """A path that is not empty: pathlib takes an empty one, which a shell makes of an unset variable, for the current
    folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in ("", b""):
            self.fail("an empty name was given; name a file or a folder, or write . for the current one", param, ctx)
        return super().convert(value, param, ctx)


FILE = _NamedPath(path_type=Path)


class _BundlePath(click.Path):
    """A path; one on a model hub stays as it is, because pathlib makes one slash of two."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if str(value).startswith("hf://") else super().convert(value, param, ctx)


bundle_argument = click.argument("bundle", type=_BundlePath(path_type=Path))
device_option = click.option(
    "--device", default="auto", help="Device to run on: auto, cpu, cuda, cuda:N, vulkan or vulkan:N."
)
backends_option = click.option(
    "--backend",
    "backends",
    multiple=True,
    metavar="NAME",
    show_default="all that run here",
    help="A backend to use; repeatable.",
)
variant_option = click.option(
    "--variant",
    metavar="NAME",
    show_default="chosen by precision",
    help="Name of a variant; `ganrt info` lists them.",
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
config_option = click.option(
    "--config",
    multiple=True,
    metavar="K=V",
    show_default="the family's own settings",
    help="A setting of the family, such as size=64; repeatable.",
)


def export_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options of `ganrt export` that decide what the bundle holds."""
    options = (
        click.option(
            "--batch",
            type=int,
            show_default="any",
            help="1 for a network whose batch size is fixed at 1: images are then computed one at a time.",
        ),
        click.option("--opset", default=20, help="ONNX operator set of the graphs."),
        click.option(
            "--precision",
            default="fp32",
            metavar="LIST",
            help="Precisions to export, separated by commas: fp32, bf16, fp16, int8, fp8. Each one is verified.",
        ),
        click.option(
            "--form",
            default="phases",
            metavar="LIST",
            help="How upsampling is written, separated by commas: phases, subpixel, transposed.",
        ),
        click.option(
            "--quality",
            default="35dB",
            metavar="DB",
            help="Lowest PSNR of an int8 variant; also of an fp16 variant where it is above 45 dB.",
        ),
        click.option(
            "--pictures",
            type=FILE,
            metavar="FOLDER",
            show_default="synthetic pictures",
            help="Pictures for models that take pictures: half to calibrate fp16 and int8 on, half to prove with.",
        ),
        click.option(
            "--bind",
            multiple=True,
            metavar="NAME=VALUE",
            help="Bind a label or a number to one value, such as label=207; repeatable.",
        ),
    )
    return _add_options(options, command)


def loading_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options that are the arguments of `ganrt.load`."""
    options = (
        click.option("--backend", default="auto", help=f"Backend to run on: auto, {', '.join(BACKENDS)}."),
        device_option,
        click.option("--precision", default="auto", help="Precision to run in: auto, fp32, bf16, fp16, int8 or fp8."),
        variant_option,
        click.option("--unproven", is_flag=True, help="Use a variant even if it is not proven on this machine."),
        click.option(
            "--threads",
            type=int,
            show_default="one per core that the process may use",
            help="Number of CPU threads.",
        ),
        click.option(
            "--spin/--no-spin",
            default=None,
            show_default="no-spin",
            help="Let threads of onnxruntime wait busily for work: quicker answers to calls in close succession.",
        ),
    )
    return _add_options(options, command)


def engine_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options of engines: the fields of `ganrt.export.engines.EngineOptions`."""
    options = (
        click.option(
            "--batch",
            "batches",
            multiple=True,
            type=int,
            show_default="1, 8 and 32",
            help="A batch size to optimize for; repeatable.",
        ),
        click.option(
            "--ranged", is_flag=True, help="One profile for all batch sizes: quicker to build, slower to run."
        ),
        click.option(
            "--size",
            metavar="H[xW]",
            help="Largest height and width in pixels, for models that take pictures of any size.",
        ),
        click.option(
            "--optimization-level",
            "--level",
            "optimization_level",
            default=3,
            help="TensorRT's builder optimization level, 0 to 5.",
        ),
        click.option(
            "--workspace",
            "workspace_mib",
            default=0,
            metavar="MIB",
            show_default="all memory",
            help="Scratch memory limit of the builder, in MiB.",
        ),
        click.option(
            "--version-compatible", is_flag=True, help="Run on later TensorRT versions and on the lean runtime too."
        ),
        click.option(
            "--hardware",
            "hardware_compatible",
            default="none",
            metavar="KIND",
            help="Other GPUs the engine must run on: none, same-capability or ampere-plus.",
        ),
        click.option("--refit", "refittable", is_flag=True, help="One engine for all checkpoints of an architecture."),
        click.option("--strip", "stripped", is_flag=True, help="Keep no weights in that engine; needs --refit."),
    )
    return _add_options(options, command)


def _add_options(options: Sequence[Callable[..., Any]], command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(options):
        command = option(command)
    return command


def import_extra(module: str, name: str, purpose: str) -> Any:
    """Import a part of ganrt whose libraries are an extra. Raises MissingLibraryError naming the extra."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if (error.name or "").startswith("ganrt"):
            raise
        raise MissingLibraryError(error.name or module, name, purpose) from error
