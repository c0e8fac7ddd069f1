"""Training a generator against a discriminator or, image to image, on photographs: data, losses, tasks, the loop, the
RUN folder, and a judge for digits.

    from ganrt.training import Options, train

    record = train(Options("dcgan", {"size": 32, "channels": 1, "width": 32}), Path("run"))

Everything here needs the extra `train`, but for RUN folders (`read_run`, `RunRecord`, `Options`), which exporting reads
and which need the extra `export` alone. A name is therefore imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ganrt.lazy import lazy_exports

if TYPE_CHECKING:
    from ganrt.training.data import TrainingImages, load_images
    from ganrt.training.gatys import stylize
    from ganrt.training.loop import train
    from ganrt.training.losses import LOSSES, Loss
    from ganrt.training.options import Options
    from ganrt.training.presets import preset
    from ganrt.training.quality import DigitJudge, DigitQuality
    from ganrt.training.run import RunRecord, read_run

__all__ = [
    "LOSSES",
    "DigitJudge",
    "DigitQuality",
    "Loss",
    "Options",
    "RunRecord",
    "TrainingImages",
    "load_images",
    "preset",
    "read_run",
    "stylize",
    "train",
]

_MODULES = {
    "LOSSES": "losses",
    "DigitJudge": "quality",
    "DigitQuality": "quality",
    "Loss": "losses",
    "Options": "options",
    "RunRecord": "run",
    "TrainingImages": "data",
    "load_images": "data",
    "preset": "presets",
    "read_run": "run",
    "stylize": "gatys",
    "train": "loop",
}
"""Public name -> the module of this package that it lives in."""

__getattr__ = lazy_exports(__name__, _MODULES, "train", "training")
