"""The RUN folder: what is written, and what is refused."""

from __future__ import annotations

import json
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ganrt.errors import CheckpointError, RequestError
from ganrt.models import build_generator
from ganrt.training import RunRecord, TrainingOptions, read_run
from ganrt.training.networks import Networks
from ganrt.training.run import DataFacts, create_run, library_versions, load_checkpoint

COLUMNS = ("step", "discriminator_loss", "generator_loss")
OPTIONS = TrainingOptions("dcgan", {"size": 16, "channels": 1, "width": 2, "latent": 3})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    record = RunRecord(tmp_path / "run", OPTIONS, DataFacts("digits", 1797, "0" * 64), 0, library_versions())
    create_run(record, Networks(OPTIONS), COLUMNS)
    return tmp_path / "run"


def test_the_record_is_read_back(run: Path) -> None:
    record = read_run(run)
    assert record == RunRecord(run, OPTIONS, DataFacts("digits", 1797, "0" * 64), 0, library_versions())
    assert (record.family, record.config["width"], record.step) == ("dcgan", 2, 0)
    assert set(record.versions) == {"ganrt", "torch"}
    assert sorted(p.name for p in run.iterdir()) == ["checkpoint.pt", "generator.safetensors", "log.csv", "run.json"]


def test_the_weights_fit_the_family(run: Path) -> None:
    record = read_run(run)
    weights = load_file(record.weights)
    build_generator(record.family, record.config).load_state_dict(weights, strict=True)
    torch.testing.assert_close(weights, dict(Networks(OPTIONS).generator.state_dict()), rtol=0, atol=0)


def test_a_run_is_never_replaced(run: Path) -> None:
    with pytest.raises(RequestError, match="exists already"):
        create_run(read_run(run), Networks(OPTIONS), COLUMNS)


def edit(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    raw = json.loads((run / "run.json").read_text())
    change(raw)
    (run / "run.json").write_text(json.dumps(raw))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.clear(), "is not the record of a training run"),
        (lambda raw: raw.update(format=2), "has format 2; this ganrt reads 1: update ganrt"),
        (lambda raw: raw.pop("options"), "run lacks options"),
        (lambda raw: raw.update(options=[1]), "run.options is not valid: the options are not an object"),
        (lambda raw: raw["options"].update(family="x"), "run.options is not valid: there is no family 'x'"),
        (
            lambda raw: raw["options"].update(config={"size": 2**70}),
            "run.options is not valid: dcgan: size is 1180591620717411303424",
        ),
        (lambda raw: raw["options"].update(config={"size": 1e999}), "run.json is damaged: Infinity is not JSON"),
        (lambda raw: raw["options"].update(seed=None), "run.options is not valid: seed is None"),
        (lambda raw: raw.update(data=[]), r"run.data is \[\], where an object is expected"),
        (lambda raw: raw["data"].update(count="many"), "run.data.count is 'many', where int is expected"),
        (lambda raw: raw.update(versions="1.0"), "run.versions is '1.0'"),
        (lambda raw: raw.update(step=-1), "step is -1; it must be a whole number from 0"),
        (lambda raw: raw.update(step="9"), "step is '9'"),
        (lambda raw: raw.update(step=True), "step is True"),
    ],
)
def test_a_record_from_anybody(run: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    edit(run, change)
    with pytest.raises(CheckpointError, match=message):
        read_run(run)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"run\.json is damaged"),
        (b'{"format": 1', r"run\.json is damaged"),
        (b"\xff\xfe", r"run\.json is damaged"),
        (b"[" * 100_000, r"run\.json is damaged"),
        (b"[]", "is not the record of a training run"),
        (b" " * (2**20 + 1), "is larger than 1048576 bytes"),
        (b'{"format": 1, "step": 1e400}', "run lacks options, data, versions"),
    ],
)
def test_bytes_that_are_no_record(run: Path, content: bytes, message: str) -> None:
    (run / "run.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_run(run)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is no training run: it has no run\.json"):
        read_run(tmp_path)


class Trap:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (subprocess.check_call, (["touch", str(self.marker)],))


@pytest.mark.parametrize("save", [torch.save, lambda trap, path: path.write_bytes(pickle.dumps(trap))])
def test_code_in_a_checkpoint_is_not_executed(run: Path, tmp_path: Path, save: Callable[[object, Path], None]) -> None:
    save({"step": Trap(tmp_path / "executed")}, run / "checkpoint.pt")
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt was refused, and nothing in it was executed") as caught:
        load_checkpoint(run, Networks(OPTIONS), COLUMNS)
    assert "weights_only" not in str(caught.value)  # PyTorch's own error advises to switch the protection off
    assert not (tmp_path / "executed").exists()


def test_a_checkpoint_of_other_networks(run: Path) -> None:
    other = Networks(TrainingOptions("dcgan", {"size": 16, "channels": 1, "width": 4, "latent": 3}))
    with pytest.raises(CheckpointError, match="is not the checkpoint of this run, or is damaged: Error"):
        load_checkpoint(run, other, COLUMNS)


@pytest.mark.parametrize("step", [-1, True, "5", None])
def test_a_checkpoint_of_no_step(run: Path, step: object) -> None:
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    torch.save({**state, "step": step}, run / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="step"):
        load_checkpoint(run, Networks(OPTIONS), COLUMNS)


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_a_damaged_checkpoint(run: Path, content: bytes | None) -> None:
    whole = (run / "checkpoint.pt").read_bytes()
    (run / "checkpoint.pt").write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt (was refused|cannot be read as a PyTorch checkpoint)"):
        load_checkpoint(run, Networks(OPTIONS), COLUMNS)


def test_a_missing_checkpoint_or_log(run: Path) -> None:
    (run / "log.csv").write_text("time,money\n")
    with pytest.raises(CheckpointError, match=r"log\.csv is not the log of this run: it begins with 'time,money'"):
        load_checkpoint(run, Networks(OPTIONS), COLUMNS)
    (run / "checkpoint.pt").unlink()
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt cannot be read: No such file"):
        load_checkpoint(run, Networks(OPTIONS), COLUMNS)
