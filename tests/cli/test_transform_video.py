"""The command `ganrt transform` with a video."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from helpers.clips import Clip, decode, list_packets, list_times

import ganrt
from ganrt.bundle import Bundle
from ganrt.cli.main import main
from ganrt.cli.video_job import choose_batch, choose_target, make_change, parse_time
from ganrt.errors import RequestError
from ganrt.generator import Generator
from ganrt.images import Pictures, encode_png

CPU = ("--backend", "onnxruntime", "--device", "cpu")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return Clip(frames=12).write(tmp_path / "clip.mp4")


@pytest.fixture
def generator(espcn: Bundle) -> Iterator[Generator]:
    with ganrt.load(espcn.folder, "onnxruntime", device="cpu") as made:
        yield made


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["transform", *map(str, arguments)])


def test_the_command(espcn: Bundle, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "clip2x.mp4"
    done = run(espcn.folder, clip, "--out", out, *CPU)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"12 frames by onnxruntime (cpu) in {out}\n"
    assert "12 of 12 frames" in done.stderr and "clip2x.mp4" in done.stderr
    assert list_times(out) == list_times(clip) and list_packets(out) == list_packets(clip)
    assert {(frame.width, frame.height) for frame in decode(out)} == {(64, 48)}
    again = run(espcn.folder, clip, "--out", out, *CPU)
    assert again.exit_code == 2 and "clip2x.mp4 exists already" in again.stderr
    skipped = run(espcn.folder, clip, "--out", out, "--skip-existing", *CPU)
    assert skipped.exit_code == 0 and skipped.stdout == f"{out} was there already\n"
    assert run(espcn.folder, clip, "--out", out, "--overwrite", *CPU).exit_code == 0


def test_frames_are_those_of_single_pictures(generator: Generator, espcn: Bundle, clip: Path, tmp_path: Path) -> None:
    """ffv1 loses nothing: what is in the file is what was made, and it is what the model makes of each frame."""
    given: list[Pictures] = []
    from ganrt.video import transform_video

    def record(frames: Pictures) -> Pictures:
        given.extend(frames)
        return frames

    transform_video(record, clip, tmp_path / "same.mkv")
    out = tmp_path / "b.mkv"
    done = run(espcn.folder, clip, "--out", out, "--codec", "ffv1", "--batch-frames", 5, *CPU)
    assert done.exit_code == 0, done.output
    made = [frame.to_ndarray(format="rgb24") for frame in decode(out)]
    for picture, frame in zip(given, made, strict=True):
        difference = np.abs(generator.transform(picture).astype(int) - frame)
        assert difference.max() <= 1


def test_a_folder_and_its_options(espcn: Bundle, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "made"
    options = ("--start", "0:00:00.12", "--end", "0.32", "--suffix", "_2x", "--crf", 30, "--max-side", 16)
    done = run(espcn.folder, clip, "--out", out, *options, *CPU)
    assert done.exit_code == 0, done.output
    assert [path.name for path in out.iterdir()] == ["clip_2x.mp4"]
    assert list_times(out / "clip_2x.mp4") == [Fraction(k, 25) for k in range(5)]
    frame = decode(out / "clip_2x.mp4")[0]
    assert (frame.width, frame.height) == (32, 24)


def test_it_goes_on_where_it_was_stopped(
    espcn: Bundle, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ganrt.video.job._FRAMES", 4)
    whole, out = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    options = ("--batch-frames", 2, *CPU)
    assert run(espcn.folder, clip, "--out", whole, *options).exit_code == 0
    transform, left = Generator.transform, iter(range(5))

    def stop(self: Generator, *pictures: Any, **inputs: Any) -> Any:
        if next(left, None) is None:
            raise RequestError("stopped")
        return transform(self, *pictures, **inputs)

    monkeypatch.setattr(Generator, "transform", stop)
    assert run(espcn.folder, clip, "--out", out, *options).exit_code == 2
    monkeypatch.setattr(Generator, "transform", transform)
    other = run(espcn.folder, clip, "--out", out, "--tile", 8, *options)
    assert other.exit_code == 2
    assert "holds the beginning of another job, with tile 'None' instead of '8'; choose another --out" in other.stderr
    done = run(espcn.folder, clip, "--out", out, *options)
    assert done.exit_code == 0 and "8 frames were there already" in done.stderr
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--quality", "5"], 2, "--quality is for pictures, and clip.mp4 is a video; leave it out"),
        (["--format", "png"], 2, "--format is for pictures, and clip.mp4 is a video; leave it out"),
        (["--depth", "16"], 2, "--depth is for pictures"),
        (["--keep-going"], 2, "--keep-going is for pictures"),
        (["--suffix", "_x"], 2, "--suffix is for folders, and b.mp4 is a file; leave it out"),
        (["--start", "1:2:3:4"], 2, "--start 1:2:3:4 is not a time, such as 90.5, 1:30.5 or 0:01:30.500"),
        (["--end", "soon"], 2, "--end soon is not a time"),
        (["--start", "2", "--end", "1"], 2, "the range from 2 to 1 s is empty"),
        (["--batch-frames", "0"], 2, "--batch-frames is 0; it must be a whole number from 1 to 256"),
        (["--batch-frames", "257"], 2, "--batch-frames is 257"),
        (["--codec", "h264"], 2, "there is no codec 'h264'; there are libx264, libx265, libvpx-vp9, libsvtav1, ffv1"),
        (["--input", "style=absent.png"], 3, "absent.png cannot be read: No such file or directory"),
        (["--max-pixels", "700"], 3, "clip.mp4 has frames of 32 x 24 pixels; at most 700 are read (--max-pixels)"),
        (
            ["--out", "b.png"],
            2,
            "clip.mp4 is a video, and b.png does not end as one: write a folder, or a file that ends",
        ),
        (["other.png"], 2, "clip.mp4 is a video, and there are 2 sources; give one video by itself"),
        (["--seed", "7"], 2, "seed was given, but nothing is drawn for this espcn model"),
        (["--input", "style"], 2, "--input style is not of the form name=value"),
    ],
)
def test_requests_that_the_command_refuses(
    espcn: Bundle, clip: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(clip.parent)
    out = [] if "--out" in options else ["--out", "b.mp4"]
    done = run(espcn.folder, "clip.mp4", *out, *options, *CPU)
    assert isinstance(done.exception, SystemExit) and done.exit_code == code, done.output
    assert message in done.stderr and "Traceback" not in done.output
    assert not Path("b.mp4").exists()


@pytest.mark.parametrize("option", [["--crf", "3"], ["--codec", "ffv1"], ["--start", "1"], ["--end", "1"]])
def test_options_of_videos_are_refused_for_pictures(espcn: Bundle, tmp_path: Path, option: list[str]) -> None:
    (tmp_path / "a.png").write_bytes(encode_png(np.zeros((8, 8, 3), np.uint8)))
    done = run(espcn.folder, tmp_path / "a.png", "--out", tmp_path / "b.png", *option, *CPU)
    assert done.exit_code == 2 and f"{option[0]} is for videos, and no source is one; leave it out" in done.stderr


def test_videos_in_a_folder_are_reported(espcn: Bundle, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode_png(np.zeros((8, 8, 3), np.uint8)))
    done = run(espcn.folder, tmp_path, "--out", tmp_path / "made", *CPU)
    assert done.exit_code == 0, done.output
    assert f"{tmp_path}: skipped 1 file of other kinds: 1 .mp4; give each video by itself" in done.stderr


def test_remarks_are_shown(espcn: Bundle, tmp_path: Path) -> None:
    source = Clip(frames=2, codec="ffv1", form="yuv420p10le", sound=None).write(tmp_path / "deep.mkv")
    done = run(espcn.folder, source, "--out", tmp_path / "b.mkv", *CPU)
    assert done.exit_code == 0 and f"{source} has 10 bits of color, of which 8 are used\n" in done.stderr


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90.5", Fraction(181, 2)),
        ("1:30.5", Fraction(181, 2)),
        ("0:01:30.500", Fraction(181, 2)),
        ("0.1", Fraction(1, 10)),
    ],
)
def test_times(text: str, seconds: Fraction) -> None:
    assert parse_time(text, "--start") == seconds


@pytest.mark.parametrize(
    ("source", "out", "suffix", "target"),
    [
        ("a/clip.MOV", "made", "", "made/clip.MOV"),
        ("clip.avi", "made", "_4x", "made/clip_4x.mp4"),
        ("clip.mp4", "b.MKV", "", "b.MKV"),
    ],
)
def test_the_name_of_the_result(source: str, out: str, suffix: str, target: str) -> None:
    assert choose_target(Path(source), Path(out), suffix) == Path(target)


def test_the_usual_batch_is_what_the_network_computes_at_a_time(generator: Generator) -> None:
    assert choose_batch(generator.spec, 512 * 512, None) == 1
    assert choose_batch(generator.spec, 10**8, None) == 1
    assert choose_batch(generator.spec, 128 * 128, None) == 16
    assert choose_batch(generator.spec, 1, None) == 256
    assert choose_batch(generator.spec, 10**8, 3) == 3


class Recorder:
    """In place of a generator: notes what it is called with."""

    def __init__(self, spec: ganrt.Spec) -> None:
        self.spec = spec
        self.calls: list[tuple[tuple[int, ...], dict[str, object]]] = []

    def transform(self, frames: Pictures, **inputs: object) -> Pictures:
        self.calls.append((frames.shape, inputs))
        return frames


def test_what_is_drawn_is_the_same_for_every_frame() -> None:
    spec = ganrt.Spec(
        family="noisy",
        inputs=(ganrt.Image("content", "content", 1, (0.0, 1.0)), ganrt.Latent("z", (4,)), ganrt.Label("label", 3)),
        output=ganrt.Output(1, (0.0, 1.0), None),
    )
    recorder = Recorder(spec)
    frames = np.zeros((3, 4, 6, 3), np.uint8)
    settings = {"tile": None, "seed": 7, "labels": None}
    make_change(recorder, None, settings, {})(frames)  # type: ignore[arg-type]
    make_change(recorder, None, {**settings, "labels": 1}, {})(frames)  # type: ignore[arg-type]
    make_change(recorder, None, {**settings, "labels": 1}, {"z": 0})(frames)  # type: ignore[arg-type]
    make_change(recorder, 3, settings, {"z": 0})(frames)  # type: ignore[arg-type]
    assert [call["seed"] for _, call in recorder.calls] == [[7] * 3, [7] * 3, 7, [7] * 3]
    assert [shape for shape, _ in recorder.calls] == [(3, 4, 6, 1)] * 3 + [(3, 2, 3, 1)], "grey for a model of grey"


def test_a_signal_ends_the_job_and_the_same_command_continues(
    espcn: Bundle, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ganrt.video.job._FRAMES", 4)
    out, whole = tmp_path / "made.mp4", tmp_path / "whole.mp4"
    arguments = ["--batch-frames", 2, *CPU]
    assert run(espcn.folder, clip, "--out", whole, *arguments).exit_code == 0

    def progress(unit: str, total: int) -> AbstractContextManager[Callable[[int, str], None]]:
        return nullcontext(lambda done, name: os.kill(os.getpid(), signal.SIGTERM) if done == 6 else None)

    with monkeypatch.context() as patched:
        patched.setattr("ganrt.cli.video_job.show_item_progress", progress)
        stopped = run(espcn.folder, clip, "--out", out, *arguments)
    assert stopped.exit_code == 128 + signal.SIGTERM and not out.exists()
    assert "stopped by SIGTERM; the same command continues" in stopped.stderr
    again = run(espcn.folder, clip, "--out", out, *arguments)
    assert again.exit_code == 0 and "4 frames were there already" in again.stderr
    assert out.read_bytes() == whole.read_bytes()
