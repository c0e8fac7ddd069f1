"""The command behind docs/training/questions.md, on runs of a step."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ganrt.training.evidence import questions


def test_every_trial_can_be_asked_for(tmp_path: Path) -> None:
    made = [questions.build_options(trial, 10, tmp_path / "few.npz") for trial in questions.TRIALS]
    assert {options.steps for options in made} == {10} and {options.seed for options in made} == {0}
    assert {options.data for options in made} == {"digits", str(tmp_path / "few.npz")}
    assert len({str(options.to_dict()) for options in made}) == len(made)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "TRIALS", (questions.TRIALS[0], questions.TRIALS[-1]))
    done = CliRunner().invoke(questions.main, ["--out", str(tmp_path), "--steps", "1"])
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "questions.json").read_text())
    assert [row["name"] for row in rows] == [
        *("no remedy", "without the average", "truncation 2", "truncation 1", "truncation 0.5"),
        "200 digits, ADA",
    ]
    assert all(0 <= row["confidence"] <= 1 and row["diversity"]["spread"] >= 0 for row in rows)
