"""Checkpoints of well-known projects with the outputs that the projects' own code computed (tests/golden)."""

import importlib.util
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

FOLDER = Path(__file__).parents[1] / "golden"


class GoldenCase(NamedTuple):
    """A checkpoint, inputs, and the output that the project's own code computed."""

    checkpoint: Path
    inputs: dict[str, np.ndarray]
    """Name of the input -> array, batch first."""
    output: np.ndarray
    """Float32 NCHW."""


def load_golden_case(name: str, folder: Path) -> GoldenCase:
    """Load a case, and write its checkpoint into `folder` as a .pth file, in the layout that the project saves."""
    spec = importlib.util.spec_from_file_location("golden_state", FOLDER / "state.py")
    assert spec is not None and spec.loader is not None
    state: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(state)
    case = json.loads((FOLDER / f"{name}.json").read_text())
    tensors = {key: torch.from_numpy(value) for key, value in state.build(case).items()}
    path = folder / f"{name}.pth"
    torch.save(state.file(case, tensors), path)
    with np.load(FOLDER / f"{name}.npz") as arrays:
        inputs = {key.removeprefix("in_"): arrays[key] for key in arrays.files if key.startswith("in_")}
        return GoldenCase(path, inputs, arrays["out"])
