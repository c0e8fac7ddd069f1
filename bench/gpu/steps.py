"""The steps on a machine with an NVIDIA GPU, each a few minutes long.

    python -m ganrt.bench.gpu.steps STEP FOLDER        also as `make gpu-1` to `make gpu-4`

FOLDER gets step-STEP.json, which is written again after each check, and the engine inspector's reports. The exit code
is 1 if a check failed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import click

from ganrt.errors import MachineError
from ganrt.machine import has_nvidia_gpu

from . import kernel_checks, ort_checks, rtx_checks, trt_checks, vulkan_checks
from .runner import Check, Setting, print_outcomes, run_checks


class Step(NamedTuple):
    """A step."""

    title: str
    checks: tuple[Check, ...]


STEPS = {
    "1": Step("Kernels, streams and PyTorch", kernel_checks.CHECKS),
    "2": Step("TensorRT for RTX", rtx_checks.CHECKS),
    "3": Step("ONNX Runtime's CUDA provider", ort_checks.CHECKS),
    "4": Step("TensorRT", trt_checks.CHECKS),
    "5": Step("ncnn through Vulkan", vulkan_checks.CHECKS),
}


@click.command()
@click.argument("name", metavar="STEP", type=click.Choice(list(STEPS)))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--bundles",
    default=Path("out/gpu-bundles"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder of the bundles that `make gpu-bundles` writes.",
)
@click.option("--rehearse", is_flag=True, help="Without a GPU, run each check as far as it goes.")
def main(name: str, folder: Path, bundles: Path, rehearse: bool) -> None:
    """Run the checks of a step on this machine's GPU, and write step-STEP.json into FOLDER."""
    gpu = has_nvidia_gpu()
    if not gpu and not rehearse:
        raise click.ClickException(
            str(MachineError("this machine has no NVIDIA GPU; --rehearse runs each check as far as it goes"))
        )
    step, setting = STEPS[name], Setting(bundles.absolute(), folder.absolute(), rehearsal=not gpu)
    outcomes = run_checks(step.title, step.checks, setting, setting.results / f"step-{name}.json")
    print_outcomes(f"Step {name}: {step.title}", outcomes)
    sys.exit(any(outcome.state == "failed" for outcome in outcomes))


if __name__ == "__main__":
    main()
