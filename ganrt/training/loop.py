"""`train`: take a run from its first step, or from its last checkpoint, to its last step.

A new run is resumed from a checkpoint of step 0, so there is only one code path for all processes.
"""

from __future__ import annotations

import inspect
import logging
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from rich.console import Console
from torch.nn.parallel import DistributedDataParallel

from ganrt import atomic, images
from ganrt.errors import MachineError, RequestError
from ganrt.spec import Label
from ganrt.training.data import TrainingImages, load_images
from ganrt.training.growing import GrowingTrainer
from ganrt.training.image_tasks import Objective
from ganrt.training.image_trainer import ImageTrainer, loss_columns
from ganrt.training.networks import Networks
from ganrt.training.options import TrainingOptions
from ganrt.training.photos import Photos, load_photos
from ganrt.training.progress import TrainingProgress
from ganrt.training.run import (
    DataFacts,
    RunRecord,
    create_run,
    library_versions,
    load_checkpoint,
    read_run,
    sample_path,
    save_run,
)
from ganrt.training.trainer import StepReport, Trainer

_GRID = 64


def train(options: TrainingOptions, out: Path, resume: bool = False, console: Console | None = None) -> RunRecord:
    """Train a generator and write the RUN folder `out` (ganrt.training.run).

    On one machine, the same options give the same weights, even if the run was interrupted and resumed.

    With several devices, the calling script is started once per device (unless torchrun has done so). Only the first
    process writes, reports and returns; the others exit.

    Args:
        options: of the run.
        out: the RUN folder, which must not exist unless `resume` is true.
        resume: continue from the last checkpoint of `out`. Only steps, intervals and devices may differ.
        console: where progress is printed; by default standard error.

    Returns the record of the finished run. Raises RequestError when `out` exists and `resume` is false, when it was
    made with other options or data, or when training diverges; CheckpointError when it is damaged; ArtifactError when
    the data cannot be read; MachineError when there are not enough devices, or `out` cannot be written.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    fabric = _build_fabric(options)
    leader = fabric.local_rank == 0
    previous = _read_previous(options, out) if leader and resume else None
    if leader and not resume and (out.exists() or out.is_symlink()):
        raise RequestError(f"{out} exists already; choose another name, or add --resume to go on with it")
    objective = options.build_objective()
    data = _load_data(options) if objective is None else load_photos(options.data, int(options.recipe["crop"]))
    record = RunRecord(out, options, DataFacts(data.name, len(data), data.digest()), 0, library_versions())
    networks = Networks(options, objective)
    columns = ("step", *(StepReport._fields if objective is None else loss_columns(objective, networks)))
    if previous is not None and previous.data != record.data:
        raise RequestError(f"{out} was trained on other pictures: {previous.data} then, {record.data} now")
    if leader and previous is None:
        create_run(record, networks, columns)
    fabric.launch()
    fabric.barrier()
    trainer = _build_trainer(options, data, networks, fabric, objective)
    log = load_checkpoint(out, networks, columns)
    shown = (console or Console(stderr=True)) if fabric.is_global_zero else Console(quiet=True)
    record = replace(record, step=networks.step)
    if leader and previous is not None and previous.step != networks.step:
        save_run(record, networks, log)  # the run was killed between writing the checkpoint and the rest
    with (
        TrainingProgress(shown, options.steps, networks.step) as progress,
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
        warnings.catch_warnings(),
    ):
        # A gradient penalty's second backward pass returns gradients in another memory format: slower, but correct.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides", UserWarning)
        record = _take_steps(trainer, record, log, progress)
    if not fabric.is_global_zero:
        raise SystemExit(0)
    return record


def _build_trainer(
    options: TrainingOptions,
    data: TrainingImages | Photos,
    networks: Networks,
    fabric: Fabric,
    objective: Objective | None,
) -> Trainer | ImageTrainer:
    if isinstance(data, Photos):
        assert objective is not None
        return ImageTrainer(options, data, networks, fabric, objective)
    if options.growth is not None:
        return GrowingTrainer(options, data, networks, fabric, options.growth)
    return Trainer(options, data, networks, fabric)


def _take_steps(
    trainer: Trainer | ImageTrainer, record: RunRecord, log: list[str], progress: TrainingProgress
) -> RunRecord:
    """Take the remaining steps, and write samples, log and checkpoints when due; runs in every process."""
    options, networks, leader = record.options, trainer.networks, trainer.fabric.is_global_zero
    while networks.step < options.steps:
        values = trainer.step()
        step, last = networks.step, networks.step == options.steps
        log_due = step % options.log_every == 0
        sample_due, save_due = (last or step % n == 0 for n in (options.sample_every, options.checkpoint_every))
        if (log_due or sample_due or save_due) and not networks.is_finite():
            raise RequestError(
                f"training diverged by step {step}: the weights are not finite. Use smaller learning rates; "
                f"{record.path} keeps the checkpoint of step {record.step}"
            )
        if log_due:
            report = trainer.report(values)
            log.append(",".join([str(step), *(f"{value:.6g}" for value in report)]))
            progress.report(step, dict(zip(log[0].split(",")[1:], report, strict=True)))
        if sample_due and leader:
            atomic.write_file(sample_path(record.path, step), _encode_grid(trainer))
        if save_due:
            record = replace(record, step=step)
            if leader:
                save_run(record, networks, log)
    trainer.fabric.barrier()
    return record


def _encode_grid(trainer: Trainer | ImageTrainer) -> bytes:
    return images.encode_png(images.make_grid(trainer.sample(_GRID)))


def _load_data(options: TrainingOptions) -> TrainingImages:
    """Load pictures of the generator's size and channels, with labels if it takes them."""
    output, label = options.spec.output, options.spec.find(Label)
    if output.size is None or output.size[0] != output.size[1]:
        raise RequestError(f"{options.family} makes images of size {output.size}; training needs one square size")
    data = load_images(options.data, output.size[0], output.channels)
    if label is None:
        return replace(data, labels=None)
    if data.labels is None:
        raise RequestError(
            f"{options.family} learns {label.classes} classes, but {options.data} has no labels; "
            "add the array `labels` to an .npz file"
        )
    low, high = int(data.labels.min()), int(data.labels.max())
    if low < 0 or high >= label.classes:
        raise RequestError(
            f"{options.data} has labels from {low} to {high}; this {options.family} learns 0 to {label.classes - 1}"
        )
    return data


def _read_previous(options: TrainingOptions, out: Path) -> RunRecord:
    """Read the record of the run to resume. Raises RequestError when it has other options."""
    previous = read_run(out)
    changed = previous.options.find_differences(options)
    if changed:
        raise RequestError(f"{out} cannot be resumed with other options: {'; '.join(changed)}")
    if options.steps < previous.step:
        raise RequestError(f"{out} has taken {previous.step} steps already; {options.steps} were asked for in all")
    return previous


def _build_fabric(options: TrainingOptions) -> Fabric:
    """Build the launcher of the processes. Raises MachineError when the machine lacks the devices."""
    found = torch.cuda.device_count()
    gpu = options.device == "cuda" or (options.device == "auto" and found > 0)
    if gpu and found < options.devices:
        raise MachineError(f"training was to run on {options.devices} CUDA devices; torch finds {found}")
    # Every process keeps its own batch-norm statistics: a broadcast in each forward pass would change them between the
    # discriminator's two passes and their common backward pass.
    renamed = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters  # in torch 2.13
    keep: dict[str, Any] = {"forward_sync_buffers" if renamed else "broadcast_buffers": False}
    strategy = DDPStrategy(**keep) if options.devices > 1 else "auto"
    return Fabric(
        accelerator="cuda" if gpu else "cpu",
        devices=options.devices,
        strategy=strategy,
        precision="bf16-mixed" if options.precision == "bf16-mixed" else "32-true",
    )
