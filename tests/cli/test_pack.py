"""`ganrt pack`, and that the other commands take what it makes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ganrt.bundle import Bundle
from ganrt.cli.main import main


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_pack_says_what_it_kept(bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "small.zip"
    done = run("pack", bundle.folder, "--variant", "fp32", "--out", out)
    assert done.exit_code == 0 and done.stdout.startswith(f"{out}: fp32; 0.0")
    sizes = [sum(digest.size for digest in Bundle.read(path).files.values()) / 1e6 for path in (out, bundle.folder)]
    assert done.stdout.endswith(f"; {sizes[0]:.2f} MB of {sizes[1]:.2f} MB\n")
    again = run("pack", bundle.folder, "--out", out)
    assert again.exit_code == 2 and "exists already" in again.stderr
    assert run("pack", bundle.folder, "--out", out, "--weights", "--overwrite").exit_code == 0
    assert Bundle.WEIGHTS in Bundle.read(out).files
    wrong = run("pack", bundle.folder, "--variant", "int4", "--out", tmp_path / "x.zip")
    assert wrong.exit_code == 2 and "has no variant 'int4'" in wrong.stderr and not (tmp_path / "x.zip").exists()


@pytest.mark.parametrize("name", ["small.zip", "small.ganrt"])
def test_other_commands_take_a_packed_bundle(name: str, bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / name
    run("pack", bundle.folder, "--variant", "fp32", "--out", out)
    shown = run("info", out)
    assert shown.exit_code == 0 and shown.stdout.startswith(f"{out}: dcgan, 0.")
    whole, part = (Bundle.read(path).files["golden.npz"].size for path in (bundle.folder, out))
    assert f"  packed: golden.npz has {part} of {whole} bytes, without weights.safetensors\n" in shown.stdout
    assert json.loads(run("info", out, "--json").stdout)["missing"] == []
    pictures = [tmp_path / "packed.npz", tmp_path / "whole.npz"]
    for path, made in zip((out, bundle.folder), pictures, strict=True):
        assert run("sample", path, "-n", 3, "--backend", "onnxruntime", "--out", made).exit_code == 0
    assert pictures[0].read_bytes() == pictures[1].read_bytes()
    assert run("verify", out, "--backend", "onnxruntime").exit_code == 0


def test_info_lists_missing_files(bundle: Bundle, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle.folder, tmp_path / "tiny.ganrt"))
    assert "  missing:" not in run("info", folder).stdout
    for name in ("samples.png", "model.onnx"):
        (folder / name).unlink()
    shown = run("info", folder)
    assert shown.exit_code == 0 and "  missing: model.onnx, samples.png\n" in shown.stdout
    assert json.loads(run("info", folder, "--json").stdout)["missing"] == ["model.onnx", "samples.png"]


def test_verify_ends_with_3_for_a_stripped_variant(bundle: Bundle, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle.folder, tmp_path / "tiny.ganrt"))
    (folder / "model.onnx").unlink()
    done = run("verify", folder, "--backend", "onnxruntime")
    assert done.exit_code == 3 and "model.onnx cannot be read (No such file or directory)" in done.stderr
