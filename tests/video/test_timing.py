"""Timestamps, sound and the other things beside the pictures."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from helpers.clips import Clip, decode, list_packets, list_times

from ganrt.errors import ArtifactError, RequestError
from ganrt.images import Pictures
from ganrt.video import VideoJob, VideoOptions, transform_video
from ganrt.video.joining import find_decoding_times
from ganrt.video.packets import PacketEntry, Segment

VARIABLE = [0, 512, 700, 3000, 3001, 9000, 9512, 10024, 12000, 15000]


def double(frames: Pictures) -> Pictures:
    return frames.repeat(2, axis=1).repeat(2, axis=2)


def same(frames: Pictures) -> Pictures:
    return frames


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganrt.video.job._FRAMES", 4)


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".m4v"])
@pytest.mark.parametrize(
    "clip",
    [
        Clip(),
        Clip(frames=10, timestamps=VARIABLE),
        Clip(frames=10, timestamps=[6400 + stamp for stamp in VARIABLE]),
        Clip(frames=1),
        Clip(time_base=Fraction(1001, 30000), timestamps=list(range(20))),
    ],
    ids=["constant", "variable", "late", "one frame", "ntsc"],
)
def test_timestamps_and_sound_stay(tmp_path: Path, clip: Clip, ending: str) -> None:
    source, target = clip.write(tmp_path / "a.mp4"), tmp_path / f"b{ending}"
    assert transform_video(double, source, target, batch=3) == ()
    assert list_times(target) == list_times(source)
    assert len(list_times(target)) == clip.frames
    assert list_packets(target) == list_packets(source) != []
    assert not list(tmp_path.glob(".*")), "nothing is left behind"


def test_what_the_container_says_of_its_frames(tmp_path: Path) -> None:
    source = Clip().write(tmp_path / "a.mp4")
    transform_video(double, source, tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as file:
        stream = file.streams.video[0]
        assert (stream.width, stream.height, stream.frames) == (64, 48, 20) and stream.average_rate == Fraction(25)
        assert file.metadata["title"] == "A clip" and file.duration == 800_000
        packets = [packet for packet in file.demux(stream) if packet.size]
        assert [packet.duration for packet in packets] == [512] * 20
        stamps = [packet.dts for packet in packets]
        assert stamps == sorted(set(stamps))  # type: ignore[type-var]


def test_matroska_keeps_milliseconds(tmp_path: Path) -> None:
    source = Clip(timestamps=[k * 517 for k in range(20)]).write(tmp_path / "a.mp4")
    lines = transform_video(double, source, tmp_path / "b.mkv")
    assert lines == ("timestamps are rounded to milliseconds, as .mkv files hold them",)
    pairs = zip(list_times(source), list_times(tmp_path / "b.mkv"), strict=True)
    assert all(abs(a - b) <= Fraction(1, 2000) for a, b in pairs)
    sound = zip(list_packets(source), list_packets(tmp_path / "b.mkv"), strict=True)
    assert all(abs(a[0] - b[0]) <= Fraction(1, 2000) and a[1] == b[1] for a, b in sound)
    again = Clip().write(tmp_path / "c.mkv")
    assert transform_video(double, again, tmp_path / "d.mkv") == ()
    assert list_times(tmp_path / "d.mkv") == list_times(again)


def test_avi_has_its_timestamps_in_the_order_of_decoding(tmp_path: Path) -> None:
    source = Clip(sound="libmp3lame", time_base=Fraction(1, 25)).write(tmp_path / "a.avi")
    transform_video(double, source, tmp_path / "b.mkv")
    with av.open(str(source)) as file:
        packets = [packet for packet in file.demux(file.streams.video[0]) if packet.size]
        assert [frame.pts for frame in decode(source)] != [packet.dts for packet in packets], "frames are reordered"
        wanted = [packet.dts * packet.time_base for packet in packets]  # type: ignore[operator]
    assert list_times(tmp_path / "b.mkv") == wanted
    assert [digest for _, digest in list_packets(tmp_path / "b.mkv")] == [digest for _, digest in list_packets(source)]


@pytest.mark.parametrize(("start", "end"), [(0.2, 0.6), (Fraction(1, 5), Fraction(3, 5)), (0.17, 0.57)])
def test_a_cut(tmp_path: Path, start: Any, end: Any) -> None:
    """Frame 5 is at 0.2 s, and frame 15 at 0.6."""
    source = Clip(options={"g": "4"}).write(tmp_path / "a.mp4")
    seen: list[Pictures] = []

    def record(frames: Pictures) -> Pictures:
        seen.extend(frames)
        return frames

    transform_video(record, source, tmp_path / "b.mp4", VideoOptions(start=start, end=end))
    assert list_times(tmp_path / "b.mp4") == [Fraction(k, 25) for k in range(10)]
    whole = decode(source)
    reference = [frame.reformat(format="rgb24", src_color_range="MPEG").to_ndarray().astype(int) for frame in whole]
    assert len(seen) == 10
    for number, frame in enumerate(seen, 5):
        errors = [abs(frame.astype(int) - other).mean() for other in reference]
        assert errors.index(min(errors)) == number
    wanted = [(second - Fraction(1, 5), digest) for second, digest in list_packets(source)]
    wanted = [(second, digest) for second, digest in wanted if second >= 0 and second + Fraction(1, 5) < Fraction(end)]
    found = list_packets(tmp_path / "b.mp4")
    assert [digest for _, digest in found] == [digest for _, digest in wanted] != []
    assert all(abs(a[0] - b[0]) <= Fraction(1, RATE_OF_SOUND) for a, b in zip(found, wanted, strict=True))


RATE_OF_SOUND = 8000


def test_sound_at_the_ends_of_a_cut(tmp_path: Path) -> None:
    """A packet of sound, like a frame, begins at 0.64 s: it belongs to what begins there, not to what ends there."""
    source = Clip(frames=25).write(tmp_path / "a.mp4")
    moment = Fraction(64, 100)
    assert moment in {second for second, _ in list_packets(source)} & set(list_times(source))
    transform_video(same, source, tmp_path / "b.mp4", VideoOptions(start=moment))
    transform_video(same, source, tmp_path / "c.mp4", VideoOptions(end=moment))
    later = [(second - moment, digest) for second, digest in list_packets(source) if second >= moment]
    assert list_packets(tmp_path / "b.mp4") == later
    assert list_packets(tmp_path / "c.mp4") == [pair for pair in list_packets(source) if pair[0] < moment]


def test_an_end_alone_moves_nothing(tmp_path: Path) -> None:
    source = Clip(frames=10, timestamps=[6400 + stamp for stamp in VARIABLE]).write(tmp_path / "a.mp4")
    transform_video(same, source, tmp_path / "b.mp4", VideoOptions(end=0.7))
    times = list_times(source)
    assert list_times(tmp_path / "b.mp4") == [time for time in times if time < Fraction(7, 10)]


def test_a_cut_counts_from_where_players_begin(tmp_path: Path) -> None:
    source = Clip(sound=None, timestamps=[64000 + 512 * k for k in range(20)]).write(tmp_path / "a.mkv")
    job = VideoJob(source, tmp_path / "b.mkv", VideoOptions(start=0.2, end=0.4))
    assert job.frames == 5
    assert job.run(same) == 5


@pytest.mark.parametrize("options", [{"start": 5}, {"end": 0.0000001, "start": 0}])
def test_a_cut_without_frames(tmp_path: Path, options: dict[str, Any]) -> None:
    source = Clip().write(tmp_path / "a.mp4")
    if options.get("end"):
        with pytest.raises(
            RequestError, match=r"range from 0 to 0 s is empty; start is at least 0, and end is greater"
        ):
            VideoOptions(**options)
        return
    with pytest.raises(ArtifactError, match=r"a\.mp4 has no frames in the range that was asked for"):
        transform_video(same, source, tmp_path / "b.mp4", VideoOptions(**options))


@pytest.mark.parametrize("options", [{"start": -1}, {"start": 2, "end": 2}, {"start": 2, "end": 1}])
def test_ranges_that_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="is empty"):
        VideoOptions(**options)


def test_times_of_decoding_ascend_over_segments_and_come_before_those_of_showing() -> None:
    def make(*stamps: int) -> Segment:
        return Segment(2, 2, "", tuple(PacketEntry(stamp, 1, 1, False) for stamp in stamps))

    segments = [make(0, 40, 10, 30), make(50, 1000, 300, 60)]
    times = list(find_decoding_times(segments))
    assert times == [-20, -10, 0, 10, 30, 40, 50, 60]
    assert all(time <= packet.pts for time, packet in zip(times, [p for s in segments for p in s.packets], strict=True))
    assert list(find_decoding_times([make(7)])) == [7]
    assert list(find_decoding_times([make(1, 2, 5)])) == [1, 2, 5]
