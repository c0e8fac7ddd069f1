"""Train a generator: data, losses, the training loop, RUN folders, metrics of digits, and style transfer by
optimisation.

    from ganrt.training import TrainingOptions, train

    record = train(TrainingOptions("dcgan", {"size": 32, "channels": 1, "width": 32}), Path("run"))

Training needs the extra `train`. Reading a RUN folder (`read_run`, `RunRecord`, `TrainingOptions`), as exporting does,
needs only the extra `export`, so each name is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ganrt.lazy import lazy_exports

if TYPE_CHECKING:
    from ganrt.training.data import TrainingImages, load_images
    from ganrt.training.gatys import stylize
    from ganrt.training.loop import train
    from ganrt.training.losses import LOSSES, Loss
    from ganrt.training.metrics import DigitClassifier, DigitMetrics
    from ganrt.training.options import TrainingOptions
    from ganrt.training.presets import get_preset
    from ganrt.training.run import RunRecord, read_run

__all__ = [
    "LOSSES",
    "DigitClassifier",
    "DigitMetrics",
    "Loss",
    "RunRecord",
    "TrainingImages",
    "TrainingOptions",
    "get_preset",
    "load_images",
    "read_run",
    "stylize",
    "train",
]

_MODULES = {
    "LOSSES": "losses",
    "DigitClassifier": "metrics",
    "DigitMetrics": "metrics",
    "Loss": "losses",
    "TrainingOptions": "options",
    "RunRecord": "run",
    "TrainingImages": "data",
    "load_images": "data",
    "get_preset": "presets",
    "read_run": "run",
    "stylize": "gatys",
    "train": "loop",
}
"""Public name -> the module of this package that it lives in."""

__getattr__ = lazy_exports(__name__, _MODULES, "train", "training")
