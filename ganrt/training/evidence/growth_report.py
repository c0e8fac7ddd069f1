"""Measure whether the critic's loss jumps when progressive networks grow, and evaluate their final samples.

    python -m ganrt.training.evidence.growth_report RUN --out docs/training

reads a finished run of `progan` on the data `digits` and writes `progan.json` (the jumps, and the metrics of the
samples), `progan.png` (the critic's loss over the stages), `progan-stages.png` (samples at the end of every stage, side
by side) and `progan-samples.png`. The plot needs the extra `bench`.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ganrt import images
from ganrt.atomic import write_file
from ganrt.errors import RequestError
from ganrt.training.evidence.digits import measure
from ganrt.training.growth import Growth
from ganrt.training.metrics import DigitClassifier
from ganrt.training.run import RunRecord, read_run, sample_path

_WINDOW = 100
"""Steps."""
_SHOWN = 100
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Jump:
    """The change of the critic's mean loss from the 100 steps before a step to the 100 after it."""

    what: str
    """The event, such as `stage 2 begins`."""
    step: int
    """The step at which it happens."""
    change: float
    """Mean loss after the step minus mean loss before it."""
    deviations: float
    """Absolute change, in standard deviations of the loss within the two windows."""
    ordinary: bool
    """Whether `deviations` is at most the 95th percentile of the same measure at steps where nothing grows."""


def find_jumps(growth: Growth, steps: NDArray[np.int64], losses: Numbers) -> tuple[list[Jump], float]:
    """The jumps at the beginning and the end of every fade, and the 95th percentile of the same measure, in standard
    deviations, over all steps after the first stage whose two windows lie within one fade or one hold.

    Args:
        steps: of the log, int64 (N,), ascending.
        losses: of the critic at these steps, (N,).

    Raises RequestError when no step is far enough from every change.
    """
    events = {f"stage {k} begins": start for k, start in enumerate(growth.starts) if k}
    if growth.fade:
        events |= {f"stage {k} is whole": start + growth.fade for k, start in enumerate(growth.starts) if k}
    edges = np.array([*events.values(), int(steps[-1])])
    calm = [
        step
        for step in steps
        if growth.last and step >= growth.starts[1] + _WINDOW and (abs(edges - step) >= _WINDOW).all()
    ]
    if not calm:
        raise RequestError(f"no step of the run is {_WINDOW} steps away from every change; train it longer")
    usual = float(np.percentile([_measure_jump(steps, losses, step)[1] for step in calm], 95))
    found = []
    for what, step in events.items():
        change, deviations = _measure_jump(steps, losses, step)
        found.append(Jump(what, step, change, deviations, deviations <= usual))
    return found, usual


def _measure_jump(steps: NDArray[np.int64], losses: Numbers, step: int) -> tuple[float, float]:
    before = losses[(steps > step - _WINDOW) & (steps <= step)]
    after = losses[(steps > step) & (steps <= step + _WINDOW)]
    change = float(after.mean() - before.mean())
    return change, abs(change) / float(np.sqrt((before.var() + after.var()) / 2))


def read_losses(record: RunRecord) -> tuple[NDArray[np.int64], Numbers]:
    """The steps of a run's log, int64 (N,), and the discriminator's loss at each, (N,)."""
    with (record.path / "log.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return np.array([int(row["step"]) for row in rows]), np.array([float(row["discriminator_loss"]) for row in rows])


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write to.")
def main(run: Path, out: Path) -> None:
    """Measure the jumps of RUN, and evaluate its samples."""
    record = read_run(run)
    growth = record.options.growth
    if growth is None or record.step < growth.full_size_step:
        raise RequestError(f"{run} has not grown to its full size; give a finished run of progan")
    steps, losses = read_losses(record)
    found, usual = find_jumps(growth, steps, losses)
    for jump in found:
        cells = (
            jump.what,
            jump.step,
            f"{jump.change:+.2f}",
            f"{jump.deviations:.2f}",
            "yes" if jump.ordinary else "NO",
        )
        click.echo(f"| {' | '.join(map(str, cells))} |")
    click.echo(f"95 % of the steps at which nothing grows: at most {usual:.2f}")
    size = record.options.spec.output.size
    assert size is not None
    figures, pictures = measure(record, DigitClassifier(size[0]))
    body = {"jumps": [asdict(jump) for jump in found], "ordinary": usual, "growth": asdict(growth), **figures}
    write_file(out / "progan.json", json.dumps(body, indent=1).encode() + b"\n")
    write_file(out / "progan.png", _draw_losses(growth, steps, losses))
    write_file(out / "progan-samples.png", images.encode_png(images.make_grid(pictures[:_SHOWN])))
    write_file(out / "progan-stages.png", images.encode_png(_join_stages(record, growth)))


def _join_stages(record: RunRecord, growth: Growth) -> images.Pictures:
    """The sample sheets of the last step of every stage, side by side: uint8 (H, W, C)."""
    ends = [*growth.starts[1:], record.step]
    sheets = [images.read_picture(sample_path(record.path, step), record.options.spec.output.channels) for step in ends]
    gap = np.full((len(sheets[0]), 6, sheets[0].shape[-1]), 255, np.uint8)
    return np.concatenate([part for sheet in sheets for part in (sheet, gap)][:-1], axis=1)


def _draw_losses(growth: Growth, steps: NDArray[np.int64], losses: Numbers) -> bytes:
    """PNG: the loss of single steps and its mean over 100; fades shaded."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panel = figure.subplots()
    panel.plot(steps, losses, ".", color="tab:blue", alpha=0.3, markersize=3, label="one step")
    width = max(1, int(_WINDOW / np.diff(steps).mean()))
    mean = np.convolve(losses, np.ones(width) / width, "valid")
    panel.plot(steps[width // 2 : width // 2 + len(mean)], mean, color="tab:blue", label=f"mean of {_WINDOW} steps")
    for stage, start in enumerate(growth.starts):
        if stage:
            panel.axvspan(start, start + growth.fade, color="tab:orange", alpha=0.15, linewidth=0)
        panel.annotate(f"{4 << stage} px", (start, 0.97), xycoords=("data", "axes fraction"), va="top")
    low, high = np.percentile(losses, [0.5, 99])
    panel.set(xlabel="step (fades shaded)", ylabel="critic loss", ylim=(low - 1, high + 2), xlim=(0, steps[-1]))
    panel.legend(loc="lower right")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=100, metadata={"Software": None})
    return content.getvalue()


if __name__ == "__main__":
    main()
