"""The command line as a user meets it: results, one-sentence errors, exit codes, nothing half-written."""

import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

import ganrt
from ganrt.backend import backend_names
from ganrt.bundle import Bundle
from ganrt.cli.doctor import Check
from ganrt.cli.main import main
from ganrt.images import parse_size, read_picture


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def check_error(result: Result, code: int, *words: str) -> None:
    """One or two sentences on standard error, no traceback, and the right exit code."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    for word in words:
        assert word in result.stderr
    assert "Traceback" not in result.output


@pytest.fixture
def folder(bundle: Bundle) -> Path:
    return bundle.folder


def test_help_costs_no_framework() -> None:
    code = "import sys; from ganrt.cli.main import main; main(['--help'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "sample" in done.stdout
    assert not loaded & {"torch", "onnx", "onnxruntime", "openvino", "PIL", "rich", "sklearn", "matplotlib"}


def test_models_and_doctor() -> None:
    assert "dcgan" in run("models").stdout
    assert "onnxruntime" in run("doctor").stdout


def test_doctor_lists_facts_as_json(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ganrt.cli import doctor

    monkeypatch.setattr(doctor, "read_cpu_quota", lambda: 1.5)
    facts = json.loads(run("doctor", "--json").stdout)
    assert list(facts) == ["machine", "versions", "gpu", "cache", "backends", "problems"]
    machine = facts["machine"]
    assert list(machine) == ["system", "release", "architecture", "python", "processor", "cores", "memory"]
    assert machine["cores"]["all"] >= machine["cores"]["usable"] >= 1 and machine["cores"]["quota"] == 1.5
    assert machine["memory"]["all"] > 2**28 and "limit" in machine["memory"]
    assert {"ganrt", "numpy", "onnxruntime", "openvino", "torch"} <= facts["versions"].keys()
    assert facts["cache"] == {"folder": str(cache / "ganrt"), "usable": True, "text": str(cache / "ganrt")}
    assert list(facts["backends"]) == backend_names()
    assert facts["backends"]["openvino"] == {"usable": True, "text": f"openvino {facts['versions']['openvino']}"}
    assert facts["problems"] == []
    shown = run("doctor").stdout
    assert f"{machine['cores']['usable']} of {machine['cores']['all']} usable, with a quota of 1.5" in shown
    assert f"ok  cache         {cache / 'ganrt'}" in shown


def test_doctor_says_why_the_cache_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANRT_CACHE", "here")
    facts = json.loads(run("doctor", "--json").stdout)
    reason = "GANRT_CACHE is 'here', which is not an absolute path"
    assert facts["cache"] == {"folder": None, "usable": False, "text": reason}
    assert f"--  cache         {reason}" in run("doctor").stdout


def test_the_package_is_the_command(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "ganrt", "info", folder], capture_output=True, text=True, check=True)
    assert "8 normal random numbers" in done.stdout


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_traceback(folder: Path, closed: str) -> None:
    """As some service managers start a program."""
    command = ["sh", "-c", f'exec "$0" -m ganrt info "$1" {closed}', sys.executable, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    assert ("8 normal random numbers" in done.stdout) == (" >" not in f" {closed}")


def test_doctor_finds_runtimes_that_overwrite_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    from ganrt.cli import doctor

    monkeypatch.setattr(doctor, "_is_installed", lambda package: True)
    found = [f for f in doctor.run_checks() if "overwrite each other" in f.text]
    assert found == [Check("onnxruntime", False, found[0].text)]
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in found[0].text


def test_doctor_names_the_extra_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "ganrt.backends.openvino", raising=False)
    shown = run("doctor")
    assert shown.exit_code == 0
    assert 'pip install "ganrt[cpu]"' in " ".join(shown.stdout.split())


def test_half_an_onnxruntime_is_named_as_such(monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path) -> None:
    """What is left when onnxruntime and onnxruntime-gpu were installed together and one of them was removed."""
    monkeypatch.setitem(sys.modules, "onnxruntime", types.ModuleType("onnxruntime"))
    monkeypatch.delitem(sys.modules, "ganrt.backends.onnxruntime", raising=False)
    shown = run("doctor")
    assert shown.exit_code == 0
    assert "onnxruntime is installed but broken" in " ".join(shown.stdout.split())
    result = run("sample", folder, "--backend", "onnxruntime", "--out", tmp_path / "x.png")
    check_error(result, 3, "onnxruntime is installed but broken", "overwrite each other")
    assert run("sample", folder, "-n", 1, "--out", tmp_path / "x.png").exit_code == 0  # another backend does it


def test_names_with_brackets_are_shown_as_they_are(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "a[" / "b].ganrt"
    copy.mkdir(parents=True)
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    shown = run("verify", copy, "--backend", "onnxruntime")
    assert shown.exit_code == 0, shown.exception


def test_info(folder: Path) -> None:
    shown = run("info", folder)
    assert shown.exit_code == 0
    assert "8 normal random numbers" in shown.stdout
    facts = json.loads(run("info", folder, "--json").stdout)
    assert facts["spec"]["family"] == "dcgan"
    assert {proof["backend"] for proof in facts["variants"]["fp32"]} >= {"onnxruntime"}


@pytest.mark.parametrize("name", ["grid.png", "arrays.npz", "pictures"])
def test_sample_writes_what_the_name_says(folder: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    result = run("sample", folder, "-n", 5, "--seed", 7, "--start", 3, "--out", out, "--backend", "onnxruntime")
    assert result.exit_code == 0, result.output
    with ganrt.load(folder, "onnxruntime") as generator:
        wanted = generator.sample(5, seed=7, start=3)
    if name == "pictures":
        assert sorted(p.name for p in out.iterdir()) == [f"{k:08d}.png" for k in range(3, 8)]
        assert np.array_equal(read_picture(out / "00000004.png", 3), wanted[1])
    elif name == "arrays.npz":
        assert np.array_equal(np.load(out)["images"], wanted)
    else:
        assert read_picture(out, 3).shape[0] > 3 * 16


def test_no_pictures_are_an_empty_array(folder: Path, tmp_path: Path) -> None:
    assert run("sample", folder, "-n", 0, "--out", tmp_path / "none.npz").exit_code == 0
    assert np.load(tmp_path / "none.npz")["images"].shape == (0, 16, 16, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-n", -1], ["n is -1"]),
        (["-n", 0], ["a grid of 0 pictures"]),
        (["--seed", 2**64], ["seed is 18446744073709551616", "2^64 - 1"]),
        (["--seed", -1], ["seed is -1"]),
        (["--labels", "3"], ["no classes", "leave them out"]),
        (["--labels", "three"], ["--labels three is not a whole number, or several separated by commas"]),
        (["--seed", "7,x"], ["--seed 7,x is not a whole number"]),
        (["--seed", "1.5"], ["--seed 1.5 is not a whole number"]),
        (["--truncation", "0.5,"], ["--truncation 0.5, is not a number, or several separated by commas"]),
        (["--seed", "7,-8"], ["seed[1] is -8"]),
        (["-n", 3, "--seed", "7,8"], ["seed has 2 entries and n is 3"]),
        (["--truncation", "-1"], ["truncation is -1.0"]),
        (["--backend", "abacus"], ["no backend 'abacus'", "onnxruntime"]),
        (["--device", "tpu"], ["no device 'tpu'"]),
        (["--precision", "int8"], ["no int8 variant", "fp32"]),
    ],
)
def test_requests_that_are_wrong(folder: Path, tmp_path: Path, arguments: list[object], words: list[str]) -> None:
    out = tmp_path / "out.png"
    check_error(run("sample", folder, "--out", out, *arguments), 2, *words)
    assert not list(tmp_path.iterdir())


def test_a_file_of_another_kind_is_refused(folder: Path, tmp_path: Path) -> None:
    check_error(run("sample", folder, "--out", tmp_path / "x.gif"), 2, "x.gif must end in .png (a grid)")


def test_a_device_that_is_not_there(folder: Path, tmp_path: Path) -> None:
    for backend in ("onnxruntime", "openvino", "ncnn", "reference"):
        result = run("sample", folder, "--backend", backend, "--device", "cuda", "--out", tmp_path / "x.png")
        check_error(result, 3, "cuda", "was asked for")


def test_outputs_that_exist_or_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken.png"
    taken.write_bytes(b"mine")
    check_error(run("sample", folder, "--out", taken), 2, "exists already", "--overwrite")
    assert taken.read_bytes() == b"mine"
    assert run("sample", folder, "-n", 1, "--out", taken, "--overwrite").exit_code == 0
    check_error(run("sample", folder, "--out", taken / "below.png"), 3, "cannot be written")


def test_bundles_that_are_not_there_or_damaged(folder: Path, tmp_path: Path) -> None:
    check_error(run("info", tmp_path / "none.ganrt"), 3, "is not a bundle")
    damaged = tmp_path / "damaged.ganrt"
    damaged.mkdir()
    for file in folder.iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    graph = damaged / "model.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    check_error(
        run("sample", damaged, "--variant", "fp32", "--backend", "onnxruntime", "--out", tmp_path / "x.png"),
        3,
        "model.onnx was changed",
        "fetch the bundle again",
    )


def test_a_missing_library_names_the_extra(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "ganrt.backends.openvino", raising=False)
    result = run("sample", folder, "--backend", "openvino", "--out", tmp_path / "x.png")
    check_error(result, 3, "the openvino backend needs openvino", 'pip install "ganrt[cpu]"')


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [
        (["export", "x.pth", "--out", "x.ganrt"], "ganrt.export", "export"),
        (["bench", "x.ganrt"], "ganrt.bench", "bench"),
        (["tune", "x.ganrt"], "ganrt.bench", "bench"),
        (["build", "x.ganrt"], "ganrt.export.engines", "tensorrt"),
    ],
)
def test_a_missing_extra_is_named(
    command: list[str], module: str, extra: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def absent(name: str) -> None:
        raise ImportError(f"No module named 'torch' for {name}", name="torch")

    monkeypatch.setattr("ganrt.cli.options.importlib.import_module", absent)
    check_error(run(*command), 3, "torch, which is not installed", f'ganrt[{extra}]"')


def test_train_export_verify_sample(tmp_path: Path) -> None:
    """The whole path with two steps of training."""
    run_folder, bundle = tmp_path / "run", tmp_path / "tiny.ganrt"
    config = ["--config", "size=16", "--config", "channels=1"]
    trained = run("train", "mlp", "--data", "digits", "--steps", 2, "--batch", 8, *config, "--out", run_folder)
    assert trained.exit_code == 0, trained.output
    check_error(run("train", "mlp", "--steps", 2, *config, "--out", run_folder), 2, "exists already", "--resume")
    exported = run("export", run_folder, "--out", bundle)
    assert exported.exit_code == 0, exported.output
    assert "passed" in exported.stdout
    check_error(run("export", run_folder, "--out", bundle), 2, "exists already", "--overwrite")
    assert run("verify", bundle, "--backend", "onnxruntime").exit_code == 0
    assert run("sample", bundle, "-n", 4, "--out", tmp_path / "grid.png").exit_code == 0


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "0"])
def test_a_benchmark_takes_a_sensible_time(folder: Path, seconds: str) -> None:
    check_error(run("bench", folder, "--seconds", seconds), 2, "seconds were asked for")


@pytest.mark.parametrize("size", ["big", "x", "1x2x3", "-4", "64x", "²"])
def test_a_picture_size_is_a_number_or_two(folder: Path, size: str) -> None:
    check_error(run("bench", folder, "--size", size), 2, f"--size {size} is not a number of pixels")


def test_a_picture_size_is_height_and_width(folder: Path) -> None:
    assert (parse_size("256"), parse_size("240X320")) == ((256, 256), (240, 320))
    check_error(run("bench", folder, "--size", "64"), 2, "takes no picture")


def test_what_cannot_be_written_is_known_first(folder: Path) -> None:
    check_error(run("bench", folder, "--json", "/proc/report.json"), 3, "/proc/report.json cannot be written")
    check_error(run("sample", folder, "--out", "x" * 300 + ".png"), 3, "cannot be written")


def test_verify_says_no_with_exit_code_1(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ganrt.export import verification

    copy = tmp_path / "copy.ganrt"
    copy.mkdir()
    for file in bundle.folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    session = verification.open_session

    def darker(*arguments: Any) -> Any:
        opened: Any = session(*arguments)
        compute = opened.run
        opened.run = lambda feeds: compute(feeds) * np.float32(0.9)
        return opened

    monkeypatch.setattr(verification, "open_session", darker)
    check_error(run("verify", copy, "--backend", "onnxruntime"), 1, "fp32 on onnxruntime does not make", "below 60 dB")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "stylegan"], ["no family 'stylegan'", "dcgan"]),
        (["train", "dcgan", "--loss", "telepathy"], ["telepathy", "non-saturating"]),
        (["train", "dcgan", "--config", "size"], ["--config size is not of the form name=value"]),
        (["train", "dcgan", "--config", "depth=3"], ["no setting 'depth'", "latent"]),
        (["train", "dcgan", "--data", "folder:/nowhere"], ["/nowhere"]),
        (["export", "nowhere.pth"], ["neither a RUN folder"]),
        (["export", "nowhere.pth", "--opset", 5], ["neither a RUN folder"]),
        (["export", "nowhere.pth", "--quality", "high"], ["--quality high is not a number of decibels"]),
        (["export", "nowhere.pth", "--bind", "label"], ["--bind label is not of the form name=value"]),
        (["export", "nowhere.pth", "--bind", "label=cat"], ["--bind label=cat: 'cat' is not a number"]),
    ],
)
def test_training_and_exporting_what_is_not_there(tmp_path: Path, arguments: list[object], words: list[str]) -> None:
    result = run(*arguments, "--out", tmp_path / "out")
    assert result.exit_code in (2, 3)
    check_error(result, result.exit_code, *words)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_another_architecture(tmp_path: Path) -> None:
    torch.save({"classifier.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    result = run("export", tmp_path / "other.pth", "--out", tmp_path / "x.ganrt")
    check_error(result, 3, "no checkpoint of a family", "None shares a key with it", "package.module:factory")
    assert not (tmp_path / "x.ganrt").exists()


@pytest.mark.parametrize(
    "words",
    [["sample", "x.ganrt", "--out", ""], ["transform", "x.ganrt", "", "--out", "y"], ["export", "m", "--out", ""]],
)
def test_an_empty_name_is_not_the_current_folder(words: list[str]) -> None:
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2 and "an empty name was given; name a file or a folder" in done.stderr
