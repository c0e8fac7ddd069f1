"""What a loaded model costs its process."""

from pathlib import Path

import pytest

from ganrt.bench import resources
from ganrt.bundle import Bundle


@pytest.fixture(autouse=True)
def little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"_SIZES": 3, "_SAMPLES": 8, "_LOADS": 1, "_REQUESTS": 2}.items():
        monkeypatch.setattr(resources, name, value)
    monkeypatch.setattr(resources.clock, "wait", lambda seconds: None)


def test_a_model_that_samples(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    resources.main([str(bundle.folder), "onnxruntime", "threads=1", "spin=1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{bundle.folder.name} on onnxruntime threads=1 spin=True"
    starts = ["waiting: ", "ten requests a second: ", *(f"{n} samples: " for n in (2, 4, 6, 8))]
    starts += ["1 times load and close: ", "1 times load and forget: "]
    assert [line.startswith(start) for line, start in zip(lines[1:], starts, strict=True)] == [True] * 8


def test_a_model_that_takes_pictures(
    espcn: Bundle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = iter(range(0, 100 * 2**20, 5 * 2**20))
    monkeypatch.setattr(resources, "read_resident_bytes", lambda: next(memory))
    resources.main([str(espcn.folder), "onnxruntime"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[3:6] == [f"{n} picture sizes: +{5 * n}.0 MiB" for n in (1, 2, 3)]
    threads, files = (len(list((Path("/proc/self") / name).iterdir())) for name in ("task", "fd"))
    assert lines[-1].startswith("1 times load and forget: +10.0 MiB, ")
    assert lines[-1].endswith(f"{threads} threads, {files} files")
