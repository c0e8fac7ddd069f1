"""The RUN folder: a training run on disk, which can be inspected, resumed and exported.

    run/
      run.json               options, data, versions, steps taken
      generator.safetensors  moving average of the generator: what `ganrt export` reads
      checkpoint.pt          the complete training state: what `--resume` reads
      log.csv                losses, and mean logits for families trained on noise
      samples/000500.png     a grid of samples of the averaged generator after 500 steps, always of the same latents

Each file is replaced atomically, the checkpoint first; a run resumes at the step that the checkpoint holds.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from ganrt import atomic
from ganrt._version import __version__
from ganrt.checks import is_whole, require_whole
from ganrt.errors import CheckpointError, RequestError
from ganrt.json_reader import decode, read_json
from ganrt.models import build_generator
from ganrt.models.unpickle import read_state, unpickle
from ganrt.training.networks import Networks
from ganrt.training.options import TrainingOptions

FORMAT = 1

_RECORD, _WEIGHTS, _CHECKPOINT, _LOG = "run.json", "generator.safetensors", "checkpoint.pt", "log.csv"
_MAX_RECORD = 2**20


@dataclass(frozen=True)
class DataFacts:
    """Identity of a run's training data."""

    name: str
    """The source, such as `digits` or `folder:PATH`."""
    count: int
    """Number of training pictures."""
    sha256: str
    """Hash of the uint8 pictures in order, and of their labels."""


@dataclass(frozen=True)
class RunRecord:
    """The content of run.json."""

    path: Path
    """The RUN folder."""
    options: TrainingOptions
    """Options of the run."""
    data: DataFacts
    """The data it was trained on."""
    step: int
    """Number of steps taken."""
    versions: Mapping[str, str]
    """Versions of the libraries that wrote the record: ganrt and torch."""

    @property
    def family(self) -> str:
        """Name of the family."""
        return self.options.family

    @property
    def config(self) -> Mapping[str, Any]:
        """All settings of the family."""
        return self.options.config

    @property
    def weights(self) -> Path:
        """Path of the averaged generator, safetensors under the keys of its family."""
        return self.path / _WEIGHTS

    def load_generator(self) -> nn.Module:
        """Load the averaged generator on the CPU, in eval mode. Raises CheckpointError when it cannot be read."""
        module = build_generator(self.family, self.config)
        module.load_state_dict(read_state(self.weights))
        return module.eval()


def library_versions() -> dict[str, str]:
    """Versions of the libraries that a run's weights depend on."""
    return {"ganrt": __version__, "torch": str(torch.__version__)}


def create_run(record: RunRecord, networks: Networks, columns: Sequence[str]) -> None:
    """Create the folder, with a checkpoint of step 0 and an empty log of these columns.

    Raises RequestError when it exists, MachineError when it cannot be written.
    """
    with atomic.new_folder(record.path) as draft:
        save_run(
            RunRecord(draft, record.options, record.data, networks.step, record.versions), networks, [",".join(columns)]
        )


def save_run(record: RunRecord, networks: Networks, log: Sequence[str]) -> None:
    """Write checkpoint, weights, log and record. `log` has a row of column names, then rows of values.

    Raises MachineError when a file cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(networks.state_dict(), buffer)
    atomic.write_file(record.path / _CHECKPOINT, buffer.getvalue())
    atomic.write_file(record.weights, safetensors.torch.save(networks.folded_weights()))
    atomic.write_file(record.path / _LOG, "\n".join([*log, ""]).encode())
    body = {
        "format": FORMAT,
        "options": record.options.to_dict(),
        "data": asdict(record.data),
        "step": record.step,
        "versions": dict(record.versions),
    }
    atomic.write_file(record.path / _RECORD, json.dumps(body, indent=1).encode() + b"\n")


def sample_path(run: Path, step: int) -> Path:
    """Path of the sample grid of a step."""
    return run / "samples" / f"{step:06}.png"


def read_run(path: str | Path) -> RunRecord:
    """Read run.json of an untrusted RUN folder. Raises CheckpointError when it is missing or invalid."""
    file = Path(path) / _RECORD
    if not file.is_file():
        raise CheckpointError(f"{path} is no training run: it has no {_RECORD}")
    raw = read_json(file, _MAX_RECORD, CheckpointError)
    if not isinstance(raw, dict) or not is_whole(raw.get("format")):
        raise CheckpointError(f"{file} is not the record of a training run")
    if raw["format"] != FORMAT:
        raise CheckpointError(f"{file} has format {raw['format']}; this ganrt reads {FORMAT}: update ganrt")
    found = decode(_RunFile, {k: v for k, v in raw.items() if k != "format"}, f"{file}: run", CheckpointError)
    try:
        options = TrainingOptions.from_dict(found.options)
    except RequestError as error:
        raise CheckpointError(f"{file}: run.options is not valid: {error}") from error
    return RunRecord(Path(path), options, found.data, found.step, found.versions)


@dataclass(frozen=True)
class _RunFile:
    """The layout of run.json, without its format."""

    options: Any
    data: DataFacts
    step: int
    versions: dict[str, str]

    def __post_init__(self) -> None:
        require_whole("step", self.step, 0)


def load_checkpoint(path: Path, networks: Networks, columns: Sequence[str]) -> list[str]:
    """Load a run's checkpoint into the networks. Returns the log up to its step, the row of column names first.

    Raises CheckpointError when the checkpoint is missing, damaged, of other networks, or a pickle with code in it,
    which is not executed, or when the log does not have these columns.
    """
    file = path / _CHECKPOINT
    state = unpickle(file)
    try:
        if not isinstance(state, dict):
            raise TypeError(f"it holds {type(state).__name__}")
        networks.load_state_dict(state)
    except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{file} is not the checkpoint of this run, or is damaged: {reason[:200]}") from error
    return _read_log(path / _LOG, networks.step, ",".join(columns))


def _read_log(file: Path, step: int, wanted: str) -> list[str]:
    """Rows of the log up to a step; later steps will be repeated."""
    try:
        header, *rows = file.read_text(encoding="utf-8").splitlines()
        if header != wanted:
            raise ValueError(f"it begins with {header[:80]!r}")
        return [header, *(row for row in rows if int(row.partition(",")[0]) <= step)]
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} is not the log of this run: {error}") from error
