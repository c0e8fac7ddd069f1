"""Files that cannot be read, and requests that are refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import av
import pytest
from helpers.clips import Clip, list_times

from ganrt.errors import ArtifactError, MachineError, MissingLibraryError, RequestError
from ganrt.images import Pictures
from ganrt.video import VideoJob, VideoOptions, transform_video


def same(frames: Pictures) -> Pictures:
    return frames


def noisy(number: int) -> Pictures:
    import numpy as np

    return np.random.default_rng(number).integers(0, 256, (48, 64, 3), np.uint8)


LONG = Clip(frames=60, size=(48, 64), draw=noisy, options={"g": "10"})


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_file_that_is_cut_short(tmp_path: Path, name: str) -> None:
    source = LONG.write(tmp_path / name, **({"movflags": "faststart"} if name == "a.mp4" else {}))
    content = source.read_bytes()
    source.write_bytes(content[: len(content) * 6 // 10])
    with pytest.raises(
        ArtifactError, match=r"is cut short: it ends at [12]\.\d{3} of 2\.\d{3} seconds; choose an earlier"
    ):
        transform_video(same, source, tmp_path / "b.mkv")
    transform_video(same, source, tmp_path / "b.mkv", VideoOptions(end=0.4))
    assert len(list_times(tmp_path / "b.mkv")) == 10


def test_an_index_that_is_missing(tmp_path: Path) -> None:
    source = LONG.write(tmp_path / "a.mp4")
    source.write_bytes(source.read_bytes()[:5000])
    with pytest.raises(ArtifactError, match=r"a\.mp4 cannot be read as a video: "):
        transform_video(same, source, tmp_path / "b.mp4")


def test_damage_inside_is_an_error_or_reported(tmp_path: Path) -> None:
    source = LONG.write(tmp_path / "a.mp4")
    content = bytearray(source.read_bytes())
    place = content.index(b"mdat") + 20000
    content[place : place + 9000] = os.urandom(1) * 9000
    source.write_bytes(content)
    try:
        lines = transform_video(same, source, tmp_path / "b.mp4")
    except ArtifactError as error:
        assert "cannot be decoded at" in str(error) and "choose an earlier end or a later start" in str(error)
    else:
        assert any("is damaged at" in line and "as the decoder repaired it" in line for line in lines)
        assert len(list_times(tmp_path / "b.mp4")) == 60


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a video: "),
        (b"no video at all" * 100, "cannot be read as a video: "),
        (b"#EXTM3U\n#EXTINF:10,\nhttp://localhost/a.mp4\n#EXT-X-ENDLIST\n", "cannot be read as a video: "),
        (b"ffconcat version 1.0\nfile a.mp4\n", "cannot be read as a video: "),
    ],
)
def test_files_that_are_no_videos(tmp_path: Path, content: bytes, message: str) -> None:
    """Playlists name further files and addresses, which must not be opened."""
    source = tmp_path / "a.mp4"
    source.write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"a\.mp4 {message}"):
        transform_video(same, source, tmp_path / "b.mp4")


def test_a_file_that_is_absent(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"absent\.mp4 cannot be read as a video: No such file or directory"):
        transform_video(same, tmp_path / "absent.mp4", tmp_path / "b.mp4")


def test_sound_alone(tmp_path: Path) -> None:
    import av

    plain = Clip().write(tmp_path / "a.mp4")
    with av.open(str(plain)) as source, av.open(str(tmp_path / "sound.mp4"), "w") as file:
        stream = file.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.stream = stream
                file.mux(packet)
    with pytest.raises(ArtifactError, match=r"sound\.mp4 holds no video"):
        transform_video(same, tmp_path / "sound.mp4", tmp_path / "b.mp4")


def test_large_frames_are_rejected_by_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Clip().write(tmp_path / "a.mp4")
    VideoJob(source, tmp_path / "b.mp4", VideoOptions(most_pixels=24 * 32))
    monkeypatch.setattr("ganrt.video.inspection._decode_first", None)
    with pytest.raises(ArtifactError, match=r"a\.mp4 has frames of 32 x 24 pixels; at most 767 are read"):
        VideoJob(source, tmp_path / "b.mp4", VideoOptions(most_pixels=24 * 32 - 1))


def test_frames_that_change_their_size(tmp_path: Path) -> None:
    """Two streams, one behind the other, as recorders of broadcasts write them."""
    import av
    from av.packet import Packet

    parts = [
        Clip(
            frames=5, size=size, codec="libx264", sound=None, options={"x264-params": "repeat-headers=1:bframes=0"}
        ).write(tmp_path / f"{size[0]}.mkv")
        for size in ((24, 32), (48, 64))
    ]
    source = tmp_path / "a.mkv"
    with av.open(str(parts[0])) as first, av.open(str(parts[1])) as second, av.open(str(source), "w") as file:
        stream = file.add_stream_from_template(first.streams.video[0])
        for number, part in enumerate((first, second)):
            for packet in part.demux(part.streams.video[0]):
                if packet.size:
                    copy: Packet = Packet(bytes(packet))  # type: ignore[type-arg]
                    copy.pts = packet.pts + number * 200  # type: ignore[operator]
                    copy.dts = copy.pts if packet.dts is None else packet.dts + number * 200
                    copy.time_base, copy.stream, copy.is_keyframe = packet.time_base, stream, packet.is_keyframe
                    file.mux(copy)
    with pytest.raises(
        ArtifactError, match=r"changes at 0\.\d{3} s from 32 x 24 pixels to 64 x 48|cannot be decoded at"
    ):
        transform_video(same, source, tmp_path / "b.mkv")


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("b.avi", {}, r"b\.avi does not end as a video that is written: \.mp4, \.m4v, \.mov, \.mkv, \.webm"),
        ("b.gif", {}, r"b\.gif does not end as a video"),
        ("a.mp4", {}, r"a\.mp4 is the video itself; choose another name"),
        ("b.mp4", {"codec": "x"}, "there is no codec 'x'; there are libx264, libx265, libvpx-vp9, libsvtav1, ffv1"),
        (
            "b.webm",
            {"codec": "libx264"},
            r"\.webm files hold no video of libx264; choose libvpx-vp9, libsvtav1, or write a file that ends in ",
        ),
        (
            "b.mp4",
            {"codec": "ffv1"},
            r"\.mp4 files hold no video of ffv1; choose .*, or write a file that ends in \.mkv",
        ),
        ("b.mkv", {"codec": "ffv1", "crf": 5}, "crf was given, but ffv1 is lossless: leave it out"),
        ("b.mp4", {"crf": 52}, r"crf is 52; libx264 takes 0 \(best\) to 51"),
        ("b.mp4", {"crf": -1}, "crf is -1"),
    ],
)
def test_requests_that_are_refused(tmp_path: Path, target: str, options: dict[str, object], message: str) -> None:
    source = Clip(frames=2).write(tmp_path / "a.mp4")
    with pytest.raises(RequestError, match=message):
        VideoJob(source, tmp_path / target, VideoOptions(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize("crf", [0, 51])
def test_the_ends_of_the_range_are_allowed(tmp_path: Path, crf: int) -> None:
    VideoJob(Clip(frames=2).write(tmp_path / "a.mp4"), tmp_path / "b.mp4", VideoOptions(crf=crf))


def test_an_encoder_that_this_pyav_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import av
    from av.codec.codec import UnknownCodecError

    source = Clip(frames=2).write(tmp_path / "a.mp4")

    def fail(name: str, mode: str) -> None:
        raise UnknownCodecError(name)

    monkeypatch.setattr(av, "Codec", fail)
    with pytest.raises(MachineError, match="this installation of PyAV has no encoder libx264; install the package av"):
        VideoJob(source, tmp_path / "b.mp4")


def test_without_pyav_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("ganrt.video")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        MissingLibraryError, match=r'reading and writing videos needs av, .*pip install "ganrt\[video\]"'
    ):
        import ganrt.video  # noqa: F401


def test_two_frames_of_one_timestamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ganrt.video.reader as reader

    inner = reader._decode
    monkeypatch.setattr(reader, "_decode", lambda *a: ((pts // 1024 * 1024, frame) for pts, frame in inner(*a)))
    source = Clip().write(tmp_path / "a.mp4")
    with pytest.raises(ArtifactError, match=r"a\.mp4: two frames have the timestamp of 0\.000 s"):
        transform_video(same, source, tmp_path / "b.mp4")


def test_a_matroska_file_that_begins_later(tmp_path: Path) -> None:
    """As a part of a recording does. Its duration counts from 0 on."""
    stamps = range(100 * 12800, 100 * 12800 + 20 * 512, 512)
    source = Clip(timestamps=stamps, sound=None).write(tmp_path / "a.mkv")
    assert list_times(source)[0] == 100
    transform_video(same, source, tmp_path / "b.mkv", VideoOptions(start=0.2))
    assert len(list_times(tmp_path / "b.mkv")) == 15


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    for name in ("a.mp4", "."):
        with pytest.raises(ArtifactError, match="is no file; a video is read several times"):
            VideoJob(tmp_path / name, tmp_path / "b.mp4")


def test_links_to_themselves(tmp_path: Path) -> None:
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    with pytest.raises(ArtifactError, match=r"loop\.mp4 cannot be read as a video"):
        VideoJob(tmp_path / "loop.mp4", tmp_path / "b.mp4")
    source = Clip(frames=2).write(tmp_path / "a.mp4")
    with pytest.raises(RequestError, match=r"loop\.mp4 exists already"):
        transform_video(same, source, tmp_path / "loop.mp4")
    (tmp_path / "link.mp4").symlink_to("a.mp4")
    for one, other in (("a.mp4", "link.mp4"), ("link.mp4", "a.mp4")):
        with pytest.raises(RequestError, match="is the video itself"):
            VideoJob(tmp_path / one, tmp_path / other)


def test_frames_before_the_first_key_frame_are_not_left_out_in_silence(tmp_path: Path) -> None:
    """A part that was cut out of a recording: the decoder says nothing."""
    whole = Clip(frames=20, options={"g": "8", "keyint_min": "8", "bf": "0"}, sound=None).write(tmp_path / "a.mkv")
    assert transform_video(same, whole, tmp_path / "b.mkv") == ()
    with av.open(whole) as read, av.open(tmp_path / "c.mkv", "w") as made:
        stream = made.add_stream_from_template(read.streams.video[0])
        for packet in [packet for packet in read.demux(video=0) if packet.size][3:]:
            packet.stream = stream
            made.mux(packet)
    (line,) = transform_video(same, tmp_path / "c.mkv", tmp_path / "d.mkv")
    assert line.endswith("c.mkv cannot be decoded before its first key frame; the frames of 0.200 s are left out")
    assert len(list_times(tmp_path / "d.mkv")) == 12
    assert transform_video(same, tmp_path / "c.mkv", tmp_path / "e.mkv", VideoOptions(start=0.3)) == ()
