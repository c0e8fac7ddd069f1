"""Exports are timed by stage, versions in turn; the table has medians and ratios."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ganrt.bench import generators
from ganrt.bench.export_times import ExportRun, find_stage, format_tables, main, read_runs
from ganrt.bench.generators import GeneratorRecipe
from ganrt.errors import ArtifactError


def make_run(label: str, trace: float, int8: str = "36.0 dB, 4 layers", name: str = "dcgan-64") -> ExportRun:
    return ExportRun(name, label, "fp32,int8", {"start": 1.0, "trace": trace}, 2 * trace, {"int8-phases": int8})


@pytest.mark.parametrize(
    ("line", "stage"),
    [
        ("converting to int8 for NVIDIA GPUs: phases", "int8 for NVIDIA GPUs"),
        ("converting to int8: phases", "int8"),
        ("made 8 golden samples; each proof takes 4 GMACs, roughly 2 s here", "write the traced graph"),
        ("verifying fp32 on openvino", "verify"),
        ("warning: verifying is slow", None),
    ],
)
def test_a_line_of_progress_announces_its_stage(line: str, stage: str | None) -> None:
    assert find_stage(line) == stage


def test_the_table_has_medians_and_the_ratio_of_the_last_version_to_the_first() -> None:
    runs = [make_run("before", seconds) for seconds in (10.0, 50.0, 8.0)]
    runs += [make_run("after", 4.0), make_run("after", 6.0, "35.9 dB, 4 layers"), make_run("after", 1.0, name="style")]
    first, second = format_tables(runs).split("\n\n**style**")
    intro, _, first = first.partition("in 8 bits.\n\n")
    assert "python -m ganrt.bench.export_times" in intro
    assert first.splitlines() == [
        "**dcgan-64**, `fp32,int8`, runs: before 3, after 2",
        "",
        "| stage | before, s | after, s | ratio |",
        "| --- | --- | --- | --- |",
        "| start | 1.0 | 1.0 | 1.00 |",
        "| trace | 10.0 | 5.0 | 0.50 |",
        "| **total** | 11.0 | 6.0 | 0.55 |",
        "| CPU time | 20.0 | 10.0 | 0.50 |",
        "| int8-phases | 36.0 dB, 4 layers | 36.0 dB, 4 layers or 35.9 dB, 4 layers | |",
    ]
    assert "| trace | 1.0 |  |" in second


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = GeneratorRecipe("dcgan", {"size": 16, "width": 4, "latent": 6, "channels": 1})
    monkeypatch.setitem(generators.GENERATORS, "dcgan-64", recipe)


def test_runs_are_added_to_the_file_in_turn(tiny: None, tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    path.write_text(json.dumps([{**vars(make_run("old", 3.0))}]))
    arguments = [str(path), "dcgan-64", "--rounds", "1", "--work", str(tmp_path), "--precision", "fp32"]
    arguments += [f"--python={label}={sys.executable}" for label in ("one", "two")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    runs = read_runs(path)
    assert [run.label for run in runs] == ["old", "one", "two"]
    assert runs[0] == make_run("old", 3.0)
    assert {"start", "load", "trace", "verify"} <= set(runs[1].stages) and runs[1].int8 == {}
    assert min(runs[1].stages.values()) > 0 and runs[1].cpu_seconds > 0
    assert "runs: old 1, one 1, two 1" in (tmp_path / "times.md").read_text()


def test_an_export_that_fails_ends_the_command_with_its_reason(tiny: None, tmp_path: Path) -> None:
    (tmp_path / "dcgan-64.safetensors").write_bytes(b"damaged")
    result = CliRunner().invoke(main, [str(tmp_path / "times.json"), "dcgan-64", "--work", str(tmp_path)])
    assert result.exit_code == 3
    assert "dcgan-64 could not be exported with now (exit code 3): error: " in result.output
    assert "cannot be read as safetensors" in result.output


@pytest.mark.parametrize("version", ["/no/such/python", "before=/no/such/python", f"={sys.executable}"])
def test_a_version_without_label_or_interpreter_is_rejected(version: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [str(tmp_path / "times.json"), "--python", version])
    assert result.exit_code == 2 and "is not LABEL=PATH of a Python interpreter" in result.output


@pytest.mark.parametrize("content", ["{}", "[3]", '[{"name": "dcgan-64"}]', "["])
def test_a_damaged_file_is_rejected(content: str, tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    path.write_text(content)
    with pytest.raises(ArtifactError, match=r"holds no list of runs|^run\b|is damaged"):
        read_runs(path)
