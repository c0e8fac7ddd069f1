"""The job: frames equal to single pictures, segments that survive a kill, and jobs that are refused."""

from __future__ import annotations

import errno
import itertools
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.clips import Clip, decode, list_times

from ganrt.errors import ArtifactError, BackendError, MachineError, RequestError
from ganrt.images import Pictures
from ganrt.job_record import JobRecord
from ganrt.video import VideoJob, VideoOptions, transform_video
from ganrt.video.inspection import Range, inspect_video
from ganrt.video.packets import read_segment
from ganrt.video.reader import Place, SourceFrame, read_frames

KEY = {"model": "a"}


class Stop(Exception):
    """What ends a job in these tests."""


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganrt.video.job._FRAMES", 6)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return Clip(frames=20, options={"g": "5"}).write(tmp_path / "a.mp4")


def double(frames: Pictures) -> Pictures:
    return frames.repeat(2, axis=1).repeat(2, axis=2)


class Stopping:
    """`double` for some calls, then an error."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __call__(self, frames: Pictures) -> Pictures:
        self.left -= 1
        if self.left < 0:
            raise Stop
        return double(frames)


def test_frames_are_those_of_single_pictures_in_any_batch(source: Path, tmp_path: Path) -> None:
    taken: dict[int, list[Pictures]] = {}
    sizes: dict[int, list[int]] = {}
    for batch in (1, 4, 50):

        def record(frames: Pictures, batch: int = batch) -> Pictures:
            assert frames.dtype == np.uint8 and frames.shape[1:] == (24, 32, 3)
            taken.setdefault(batch, []).extend(frames)
            sizes.setdefault(batch, []).append(len(frames))
            return double(frames)

        transform_video(record, source, tmp_path / f"{batch}.mp4", batch=batch)
    np.testing.assert_array_equal(taken[1], taken[4])
    np.testing.assert_array_equal(taken[1], taken[50])
    assert sizes == {1: [1] * 20, 4: [4, 2, 4, 2, 4, 2, 2], 50: [6, 6, 6, 2]}, "segments are of 6 frames"
    reference = [frame.to_ndarray(format="rgb24").astype(int) for frame in decode(source)]
    for number, frame in enumerate(taken[1]):
        errors = [np.abs(frame - other).mean() for other in reference]
        assert errors.index(min(errors)) == number and min(errors) < 8, "FFmpeg's own conversion has coarser chroma"


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9", "libsvtav1", "ffv1"])
def test_a_job_that_was_stopped_gives_the_same_file(source: Path, tmp_path: Path, codec: str) -> None:
    def enlarge(frames: Pictures) -> Pictures:
        return double(double(frames))

    options = VideoOptions(codec=codec)
    VideoJob(source, tmp_path / "whole.mkv", options).run(enlarge, 2, key=KEY)
    target = tmp_path / "parts.mkv"
    seen: list[str] = []
    calls = itertools.count()

    def stop(frames: Pictures) -> Pictures:
        if next(calls) in (4, 9):
            raise Stop
        return enlarge(frames)

    for _ in range(2):
        with pytest.raises(Stop):
            VideoJob(source, target, options).run(stop, 2, key=KEY, log=seen.append)
        assert not target.exists()
    assert VideoJob(source, target, options).run(stop, 2, key=KEY, log=seen.append) == 20
    assert [line for line in seen if "already" in line] == [
        "6 frames were there already",
        "12 frames were there already",
    ]
    assert target.read_bytes() == (tmp_path / "whole.mkv").read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_what_is_reported_are_the_frames_that_were_left(source: Path, tmp_path: Path) -> None:
    job = VideoJob(source, tmp_path / "b.mp4")
    assert job.frames == 20 and job.pixels == 24 * 32
    with pytest.raises(Stop):
        job.run(Stopping(8), key=KEY)
    seen: list[tuple[int, int]] = []
    job.run(double, 4, key=KEY | {"batch": "1"}, report=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 14), (6, 14), (10, 14), (12, 14), (14, 14)]


def test_without_a_key_a_job_starts_anew(source: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    for _ in range(2):
        with pytest.raises(Stop):
            VideoJob(source, tmp_path / "b.mp4").run(Stopping(8), log=lines.append)
    VideoJob(source, tmp_path / "b.mp4").run(double, log=lines.append)
    assert lines == []


CHILD = """
import sys, os
import ganrt.video.job
from ganrt.video import VideoJob
ganrt.video.job._FRAMES = 6
calls = 0
def change(frames):
    global calls
    calls += 1
    if calls == 15:
        print("ready", flush=True)
        sys.stdin.read()
    return frames.repeat(2, axis=1).repeat(2, axis=2)
VideoJob(sys.argv[1], sys.argv[2]).run(change, key={"model": "a"})
"""


def test_a_process_that_was_killed(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "b.mp4"
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(source), str(target)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGKILL)
    lines: list[str] = []
    VideoJob(source, target).run(double, key=KEY, log=lines.append)
    assert lines == ["12 frames were there already"]
    VideoJob(source, tmp_path / "whole.mp4").run(double, key=KEY)
    assert target.read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("renamed", [False, True])
def test_a_job_that_was_killed_at_its_end(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renamed: bool
) -> None:
    job = VideoJob(source, tmp_path / "b.mp4")
    publish = VideoJob._publish

    def fail(self: VideoJob) -> None:
        if renamed:
            (self.folder / "joined").replace(tmp_path / "b.mp4")
        raise Stop

    monkeypatch.setattr(VideoJob, "_publish", fail)
    with pytest.raises(Stop):
        job.run(double, key=KEY)
    monkeypatch.setattr(VideoJob, "_publish", publish)
    assert (tmp_path / "b.mp4").exists() == renamed
    assert VideoJob(source, tmp_path / "b.mp4").run(Stopping(0), key=KEY) == 20
    assert list_times(tmp_path / "b.mp4") == list_times(source) and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("options", "key", "name"),
    [
        (VideoOptions(crf=30), KEY, "crf '17' instead of '30'"),
        (VideoOptions(codec="libx265"), KEY, "codec 'libx264' instead of 'libx265'"),
        (VideoOptions(end=0.5), KEY, "range '0 to None' instead of '0 to 1/2'"),
        (VideoOptions(), {"model": "b"}, "model 'a' instead of 'b'"),
    ],
)
def test_another_job_is_refused(
    source: Path, tmp_path: Path, options: VideoOptions, key: dict[str, str], name: str
) -> None:
    target = tmp_path / "b.mp4"
    with pytest.raises(Stop):
        VideoJob(source, target).run(Stopping(8), key=KEY)
    with pytest.raises(RequestError, match=rf"\.b\.mp4\.parts holds the beginning of another job, with (.*){name}"):
        VideoJob(source, target, options).run(double, key=key)
    lines: list[str] = []
    VideoJob(source, target, options).run(double, key=key, overwrite=True, log=lines.append)
    assert lines == [] and target.exists()


def test_the_beginning_of_another_job_without_a_segment_is_none(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "b.mp4"
    with pytest.raises(Stop):
        VideoJob(source, target).run(Stopping(3), key=KEY)
    assert (tmp_path / ".b.mp4.parts" / ".ganrt-job.json").exists()
    assert VideoJob(source, target, VideoOptions(crf=30)).run(double, key=KEY) == 20


def test_the_rest_of_a_job_whose_video_was_taken_away_is_not_taken_for_it(source: Path, tmp_path: Path) -> None:
    job = VideoJob(source, tmp_path / "b.mp4")
    job.run(double, key=KEY)
    job.folder.mkdir()
    JobRecord(job.folder, {**job._describe(), "batch": "1", **KEY}).begin()
    (job.folder / "complete").write_bytes(b"20")
    assert job.run(Stopping(0), key=KEY) == 20, "only the removal of the folder was left"
    assert not job.folder.exists()
    job.folder.mkdir()
    JobRecord(job.folder, {**job._describe(), "batch": "1", **KEY}).begin()
    (job.folder / "complete").write_bytes(b"20")
    (tmp_path / "b.mp4").unlink()
    assert job.run(double, key=KEY) == 20 and len(decode(tmp_path / "b.mp4")) == 20


def test_a_file_that_came_meanwhile_is_not_replaced(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "b.mp4"

    def write_another(frames: Pictures) -> Pictures:
        target.write_bytes(b"mine")
        return double(frames)

    for change in (write_another, Stopping(0)):
        with pytest.raises(RequestError, match=r"b\.mp4 exists already"):
            VideoJob(source, target).run(change, key=KEY)
        assert target.read_bytes() == b"mine"
    target.rename(tmp_path / "mine")
    assert VideoJob(source, target).run(Stopping(0), key=KEY) == 20 and len(decode(target)) == 20


def test_a_job_that_replaces_a_file_goes_on_without_overwrite(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "b.mp4"
    target.write_bytes(b"mine")
    with pytest.raises(Stop):
        VideoJob(source, target).run(Stopping(8), key=KEY, overwrite=True)
    calls = Stopping(20 - 6)
    assert VideoJob(source, target).run(calls, key=KEY) == 20 and calls.left == 0
    assert len(decode(target)) == 20 and not list(tmp_path.glob(".*"))
    with pytest.raises(RequestError, match=r"b\.mp4 exists already"):
        VideoJob(source, target).run(double, key=KEY)


def test_files_of_others_in_the_folder_of_a_job_stay(source: Path, tmp_path: Path) -> None:
    job = VideoJob(source, tmp_path / "b.mp4")
    job.folder.mkdir()
    for name in ("mine.txt", "000000.packets.txt", ".mine.0123abcd", "000000.packets", ".000001.packets.0123abcd"):
        (job.folder / name).write_bytes(b"x")
    assert job.run(double) == 20
    assert {path.name for path in job.folder.iterdir()} == {"mine.txt", "000000.packets.txt", ".mine.0123abcd"}


def test_one_process_at_a_time_makes_a_video(source: Path, tmp_path: Path) -> None:
    job = VideoJob(source, tmp_path / "b.mp4")

    def compete(frames: Pictures) -> Pictures:
        with pytest.raises(RequestError, match=r"another process is writing .*/b\.mp4; wait for it, or stop it first"):
            VideoJob(source, tmp_path / "b.mp4").run(double, overwrite=True)
        return double(frames)

    assert job.run(compete, key=KEY) == 20 and not list(tmp_path.glob(".*"))


def test_a_range_without_frames_is_refused_before_any_work(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"a\.mp4 has no frames in the range that was asked for"):
        VideoJob(source, tmp_path / "b.mp4", VideoOptions(start=99))


def test_names_that_begin_like_an_address(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("data:x.mp4", "concat:a|b.mp4", "pipe:/%03d.mp4", "-x.mkv"):
        transform_video(double, "a.mp4", name)
        assert len(decode(tmp_path / name)) == 20
        VideoJob(name, "again.mp4")


def test_a_full_disk(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise av.error.OSError(errno.ENOSPC, "No space left on device", "b.mp4")

    monkeypatch.setattr("ganrt.video.joining.Joining._write_packets", fail)
    with pytest.raises(MachineError, match=r"joined cannot be written: No space left on device$"):
        transform_video(double, source, tmp_path / "b.mp4")


def test_a_file_that_exists_is_replaced_only_if_told(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "b.mp4"
    target.write_bytes(b"mine")
    with pytest.raises(RequestError, match=r"b\.mp4 exists already; choose another name, or add --overwrite"):
        transform_video(double, source, target)
    assert target.read_bytes() == b"mine" and not list(tmp_path.glob(".*"))
    with pytest.raises(Stop):
        VideoJob(source, target).run(Stopping(8), overwrite=True)
    assert target.read_bytes() == b"mine", "until the new one is whole"
    transform_video(double, source, target, overwrite=True)
    assert len(decode(target)) == 20


def test_a_damaged_segment_is_reported(source: Path, tmp_path: Path) -> None:
    job = VideoJob(source, tmp_path / "b.mp4")
    for content, message in (
        (b"", "no list of packets"),
        (b"x" * 30, "no list of packets"),
        (b"{}" + (2).to_bytes(8, "little"), "packets"),
        (b'{"packets": []}' + (15).to_bytes(8, "little"), "no packets"),
        (b'{"packets": [[0, 1, -1, 1]]}' + (28).to_bytes(8, "little"), "no packets"),
        (b"\xff\xfe" + (2).to_bytes(8, "little"), "Expecting value"),
        (
            b'{"width": 2, "height": 2, "digest": "", "packets": [[0, 1, 5, 1]]}' + (66).to_bytes(8, "little"),
            "its packets have another length",
        ),
    ):
        with pytest.raises(Stop):
            job.run(Stopping(8), key=KEY, overwrite=True)
        path = job.folder / "000000.packets"
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match=rf"000000\.packets is damaged: .*{message}.*; add --overwrite"):
            job.run(double, key=KEY)
        with pytest.raises(ArtifactError):
            read_segment(path)
    with pytest.raises(ArtifactError, match="absent"):
        read_segment(tmp_path / "absent")


def keep_pictures(frames: Iterator[SourceFrame]) -> list[tuple[int, str]]:
    return [(frame.pts, frame.digest) for frame in frames]


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"g": "5"}),
        ("libx265", {"x265-params": "log-level=none:keyint=5:min-keyint=5:open-gop=1:bframes=3:scenecut=0"}),
        ("libx264", {"g": "6", "x264-params": "open-gop=1:bframes=3"}),
    ],
    ids=["closed", "open x265", "open x264"],
)
def test_reading_goes_on_behind_every_frame(tmp_path: Path, codec: str, options: dict[str, str]) -> None:
    path = Clip(frames=20, size=(64, 64), codec=codec, options=options).write(tmp_path / "a.mp4")
    source = inspect_video(path, Range(), 10**6)
    whole = keep_pictures(read_frames(source, Range()))
    assert len(whole) == 20
    for number, (pts, digest) in enumerate(whole):
        assert keep_pictures(read_frames(source, Range(), Place(pts, digest))) == whole[number + 1 :]
        start = Range(pts * source.time_base)
        assert keep_pictures(read_frames(source, start)) == whole[number:]


def test_decoding_begins_at_a_key_frame(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ganrt.video.reader as reader

    decoded: list[int] = []
    inner = reader._decode

    def count(*arguments: object) -> Iterator[object]:
        for pair in inner(*arguments):  # type: ignore[arg-type]
            decoded.append(pair[0])
            yield pair

    monkeypatch.setattr(reader, "_decode", count)
    found = inspect_video(source, Range(), 10**6)
    whole = keep_pictures(read_frames(found, Range()))
    decoded.clear()
    assert keep_pictures(read_frames(found, Range(), Place(*whole[12]))) == whole[13:]
    assert min(decoded) == whole[10][0], "a key frame each 5 frames"
    decoded.clear()
    assert keep_pictures(read_frames(found, Range(), Place(whole[12][0], "another"))) == whole[13:]
    assert min(decoded) == 0, "the seek gave another picture"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda x: x.astype(np.uint16),
            RequestError,
            r"became uint16 of shape \(1, 24, 32, 3\); videos are written of uint8",
        ),
        (lambda x: x[..., [0, 1, 2, 2]], RequestError, r"became uint8 of shape \(1, 24, 32, 4\); .* without opacity"),
        (lambda x: x[0], RequestError, r"became uint8 of shape \(24, 32, 3\)"),
        (lambda x: x[[0, 0]], BackendError, "1 frames became 2; each must become one"),
        (lambda x: x[:, :1, :1], MachineError, "libx26. cannot encode frames of 1 x 1 pixels|needs"),
    ],
)
def test_frames_that_cannot_be_written(
    source: Path, tmp_path: Path, change: object, error: type[Exception], message: str
) -> None:
    options = VideoOptions(codec="libx265")
    with pytest.raises(error, match=message):
        transform_video(change, source, tmp_path / "b.mp4", options)  # type: ignore[arg-type]


def test_frames_of_two_sizes(source: Path, tmp_path: Path) -> None:
    sizes = itertools.cycle([24, 22])
    with pytest.raises(
        BackendError, match="a frame became 32 x 22 pixels, and the one before 32 x 24; all must have one"
    ):
        transform_video(lambda frames: frames[:, : next(sizes)], source, tmp_path / "b.mp4")


def test_a_batch_is_a_number(source: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="batch is 0; it must be a whole number from 1"):
        transform_video(double, source, tmp_path / "b.mp4", batch=0)
