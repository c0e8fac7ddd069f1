"""Files of torch.save, read without executing anything in them. PyTorch's own error for a refused file advises to
switch the protection off; ours does not."""

from __future__ import annotations

import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import torch

from ganrt.errors import CheckpointError

_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
"""How PyTorch's error names the function or class that a pickle wants."""


class _Settings:
    """Stands for the settings objects that some projects pickle beside the weights. Nobody reads them."""


_STANDINS: list[Any] = [(_Settings, "models.utils.config.BaseConfig")]
"""The one that pytorch_GAN_zoo writes. Its attributes are read from the file; no code of the project runs."""


def unpickle(path: Path) -> object:
    """What torch.save wrote, on the CPU. Raises CheckpointError when the file is damaged, missing, or names anything
    but tensors and plain containers: nothing in it is executed."""
    try:
        path.open("rb").close()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_STANDINS):
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = _GLOBAL.search(str(error))
        reason = f"it names {named[1]}" if named else "it is not the plain kind that PyTorch writes"
        raise CheckpointError(
            f"{path} was refused, and nothing in it was executed: a checkpoint holds tensors only, and {reason}. "
            "Save the generator's state_dict() and export that"
        ) from error
    except Exception as error:  # what torch raises for a damaged file has no common class
        raise CheckpointError(
            f"{path} cannot be read as a PyTorch checkpoint ({type(error).__name__}): it is empty, damaged or of "
            "another kind; fetch it again"
        ) from error
