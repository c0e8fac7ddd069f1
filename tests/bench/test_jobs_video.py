"""The measurements of a video."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganrt.bench.jobs import video
from ganrt.bundle import Bundle


def test_the_lines(espcn: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "_SIZE", (24, 32))
    found = list(video.compare_clip(str(espcn.folder), "onnxruntime", tmp_path, 6))
    assert found[0] == "- frames differ from single pictures by 0 of 255 at most, before they are encoded"
    assert found[1].endswith("frames a second")
    assert found[2] == "- 6 frames became 6, their timestamps are equal"
    assert found[3].endswith("packets of sound: bytes and timestamps are equal")


def test_a_difference_is_seen(espcn: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "_SIZE", (24, 32))
    times, sound = iter([[0], [1], [0]]), iter([[(0, b"")], [(0, b"x")]])
    monkeypatch.setattr(video, "list_frame_times", lambda path: next(times))
    monkeypatch.setattr(video, "list_packets", lambda path: next(sound))
    found = list(video.compare_clip(str(espcn.folder), "onnxruntime", tmp_path, 3))
    assert found[2].endswith("DIFFERENT") and found[3].endswith("DIFFERENT")


def test_the_command(espcn: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(video, "_SIZE", (24, 32))
    monkeypatch.setattr(video, "_SECONDS", 1)
    monkeypatch.setattr(video, "_MEMORY_FRAMES", (5,))
    video.main([str(espcn.folder), "onnxruntime"])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("- 5 frames: the process needs ") and last.endswith(" MiB at most")
