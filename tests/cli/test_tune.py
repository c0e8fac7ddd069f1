"""`ganrt tune` and `ganrt info` on the command line, and progress on a terminal and in a log."""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result
from fakes.workers import Behaviour, FakeClock, fake_processes
from helpers.reports import ENVIRONMENT

from ganrt import tuned
from ganrt.bench import tuning
from ganrt.bundle import Bundle
from ganrt.choosing import CPU_RULE
from ganrt.cli import info
from ganrt.cli.main import main
from ganrt.cli.parsing import parse_decibels
from ganrt.cli.terminal import show_progress
from ganrt.errors import RequestError


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def fake_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which ONNX Runtime takes half the time of the others, and nothing else runs."""
    clock = FakeClock()
    start, _ = fake_processes(clock, lambda setup: Behaviour(5 if setup.config.backend == "onnxruntime" else 10))
    monkeypatch.setattr(tuning, "Worker", start)
    monkeypatch.setattr(tuning.clock, "now_ns", clock)
    monkeypatch.setattr(tuning, "MachineMonitor", lambda: SimpleNamespace(finish=lambda: ENVIRONMENT))


def test_a_bundle_is_tuned_shown_and_loaded(bundle: Bundle, tmp_path: Path, fake_clock: None) -> None:
    before = run("info", bundle.folder)
    assert "load tries openvino fp32-phases, then " in before.stdout
    assert f"{CPU_RULE}; `ganrt tune {bundle.folder}` measures what is fastest" in before.stdout
    facts = json.loads(run("info", bundle.folder, "--json").stdout)["choice"]
    assert facts["first"] == "openvino fp32-phases" and facts["tuned"] is None

    found = tmp_path / "tuned.json"
    done = run(
        "tune", bundle.folder, "--batch", 1, "--batch", 8, "--quality", "60 dB", "--seconds", 60, "--json", found
    )
    assert done.exit_code == 0, done.output
    assert "0% loading openvino" in done.stderr
    assert "load picks onnxruntime" in done.stdout and "at 60 dB or more" in done.stdout
    record = json.loads(found.read_text())["record"]
    assert tuned.find_record(bundle) == tuned.Tuned.from_dict(record)

    after = run("info", bundle.folder)
    assert "load picks onnxruntime" in after.stdout
    assert "for 60 dB: the " in after.stdout
    assert "  batch 8: onnxruntime" in after.stdout
    facts = json.loads(run("info", bundle.folder, "--json").stdout)["choice"]
    assert facts["first"].startswith("onnxruntime") and facts["then"][0] == "openvino fp32-phases"
    assert facts["tuned"] == record
    sampled = run("sample", bundle.folder, "-n", 3, "--out", tmp_path / "x.npz")
    assert "3 pictures by onnxruntime" in sampled.stdout, sampled.output


def test_a_record_is_exported_and_imported(
    bundle: Bundle, tmp_path: Path, cache: Path, fake_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "record.json"
    measured = run("tune", bundle.folder, "--seconds", 60, "--export", file)
    assert measured.exit_code == 0 and "0% loading" in measured.stderr
    again = run("tune", bundle.folder, "--export", tmp_path / "again.json")
    assert again.exit_code == 0 and "loading" not in again.stderr, "this machine has a record"
    assert again.stdout.startswith("load picks onnxruntime ")
    assert (tmp_path / "again.json").read_bytes() == file.read_bytes()
    exists = run("tune", bundle.folder, "--export", file)
    assert exists.exit_code == 2 and "--overwrite" in exists.stderr
    assert run("tune", bundle.folder, "--export", file, "--overwrite").exit_code == 0
    anew = run("tune", bundle.folder, "--export", file, "--overwrite", "--batch", 1, "--seconds", 60)
    assert "0% loading" in anew.stderr and list(json.loads(file.read_text())["winners"]) == ["1"]

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "device"))
    assert tuned.find_record(bundle) is None
    imported = run("tune", bundle.folder, "--import", file)
    assert imported.exit_code == 0 and imported.stdout.startswith("load picks onnxruntime ")
    assert tuned.find_record(bundle) == tuned.Tuned.from_dict(json.loads(file.read_text()))


def test_a_provisional_result_is_not_exported(bundle: Bundle, tmp_path: Path, fake_clock: None) -> None:
    for _ in range(2):  # a provisional record is no reason to measure less
        result = run("tune", bundle.folder, "--export", tmp_path / "record.json", "--seconds", 0.1)
        assert result.exit_code == 1 and "0% loading" in result.stderr
        assert "record.json is not written, as the result is provisional; provisional until" not in result.stderr
        assert "record.json is not written, as the result is provisional: the time ran out at batch" in result.stderr
        assert "run `ganrt tune` again, with more --seconds" in result.stderr
    assert not (tmp_path / "record.json").exists()
    unseen = run("tune", bundle.folder, "--export", tmp_path / "record.json")
    assert "0% loading" in unseen.stderr and unseen.exit_code == 0


@pytest.mark.parametrize("others", [["--seconds", "9"], ["--device", "cpu"], ["--json", "x"], ["--export", "x"]])
def test_an_import_measures_nothing(others: list[str], bundle: Bundle, tmp_path: Path) -> None:
    result = run("tune", bundle.folder, "--import", tmp_path / "record.json", *others)
    assert result.exit_code == 2
    assert "--import measures nothing, so it goes with no other option" in result.stderr


def test_bench_names_its_extra_before_it_measures(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "ganrt.bench.page", raising=False)
    result = run("bench", bundle.folder)
    assert result.exit_code == 3
    assert 'the benchmark needs jinja2, which is not installed: pip install "ganrt[bench]"' in result.stderr
    assert "loading" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--quality", "high"], 2, "--quality high is not a number of decibels, such as 40dB"),
        (["--seconds", "nan"], 2, "nan seconds were asked for"),
        (["--batch", "0"], 2, "the batch sizes are [0]"),
        (["--batch", "33"], 2, "computes at most 32 images at a time"),
        (["--backend", "abacus"], 2, "there is no backend 'abacus'"),
        (["--quality", "190dB", "--seconds", "9"], 3, "nothing on this machine runs"),
        (["--json", "/proc/x.json"], 3, "cannot be written"),
    ],
)
def test_what_cannot_be_tuned(arguments: list[str], code: int, message: str, bundle: Bundle, fake_clock: None) -> None:
    result = run("tune", bundle.folder, *arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_a_bundle_without_float32_is_told_about(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    narrow = replace(bundle.variants["fp32"], precision="int8")
    info.print_info(replace(bundle, variants={"int8-phases": narrow}), "narrow.ganrt")
    assert "load tries openvino int8-phases, then onnxruntime int8-phases" in capsys.readouterr().out
    fp8 = replace(narrow, precision="fp8", for_gpu=True)
    info.print_info(replace(bundle, variants={"fp8-traced": fp8}), "narrow.ganrt")
    shown = capsys.readouterr().out
    assert "load needs a precision" in shown and "has no fp32 variant; it has fp8, made for GPUs" in shown


@pytest.mark.parametrize(("text", "value"), [("40dB", 40), ("40 dB", 40), ("40", 40), (" 36.5DB ", 36.5), ("0", 0)])
def test_decibels(text: str, value: float) -> None:
    assert parse_decibels(text) == value


@pytest.mark.parametrize("text", ["", "dB", "-3", "4x0", "1e3", "nan", "40 dB dB", "٤٠"])
def test_what_is_no_number_of_decibels(text: str) -> None:
    with pytest.raises(RequestError, match="is not a number of decibels, such as 40dB"):
        parse_decibels(text)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [io.StringIO, _Terminal])
def test_progress_is_a_bar_or_plain_lines(stream: type[io.StringIO], monkeypatch: pytest.MonkeyPatch) -> None:
    written = stream()
    monkeypatch.setattr(sys, "stderr", written)
    monkeypatch.setenv("TERM", "xterm")
    with show_progress("tuning x[0].ganrt") as report:
        for share, text in ((0.0, "loading [a]"), (0.1, "loading [a]"), (0.5, "measuring")):
            report(share, text)
    if stream is io.StringIO:
        assert written.getvalue() == "  0% loading [a]\n 50% measuring\n"
    else:
        assert "\x1b[" in written.getvalue() and "measuring" in written.getvalue()


def test_a_log_gets_a_line_for_each_share_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    with show_progress("stylizing", every=0.5) as report:
        for step in range(1, 5):
            report(step / 4, f"step {step}")
    assert written.getvalue() == " 25% step 1\n 75% step 3\n"
