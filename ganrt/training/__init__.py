"""Training a generator against a discriminator or, image to image, on photographs: data, losses, tasks, the loop, the
RUN folder, and a judge for digits.

    from ganrt.training import Options, train

    record = train(Options("dcgan", {"size": 32, "channels": 1, "width": 32}), Path("run"))

Everything here needs the extra `train`, but for RUN folders (`read_run`, `RunRecord`, `Options`), which exporting reads
and which need the extra `export` alone. A name is therefore imported when it is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ganrt.errors import MissingLibraryError

if TYPE_CHECKING:
    from ganrt.training.data import TrainingImages, load_images
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
    "train": "loop",
}
"""Public name -> the module of this package that it lives in."""


def __getattr__(name: str) -> Any:
    """Import a public name. Raises MissingLibraryError, naming the extra, when a library that it needs is missing."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    except ImportError as error:
        library = (error.name or "").partition(".")[0]
        if library in ("", "ganrt"):
            raise
        raise MissingLibraryError(library, "train", "training") from error
    return getattr(module, name)
