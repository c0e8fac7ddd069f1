"""Sound, subtitles, chapters, tags: copied where the new file can hold them, else reported."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.audio.stream import AudioStream
from av.packet import Packet
from av.video.stream import VideoStream
from helpers.clips import Clip, draw_frame, list_packets, list_times

from ganrt.errors import ArtifactError, RequestError
from ganrt.images import Pictures
from ganrt.video import VideoOptions, transform_video

MS = Fraction(1, 1000)


def same(frames: Pictures) -> Pictures:
    return frames


def copy_packet(packet: Packet[Any], stream: Any) -> Packet[Any]:
    made: Packet[Any] = Packet(bytes(packet))
    made.pts, made.dts, made.duration, made.time_base = packet.pts, packet.dts, packet.duration, packet.time_base
    made.is_keyframe, made.stream = packet.is_keyframe, stream
    return made


@pytest.fixture
def rich(tmp_path: Path) -> Path:
    """A Matroska file with two sounds, subtitles, chapters, a font and tags."""
    plain = Clip(frames=25, options={"bf": "0"}).write(tmp_path / "plain.mp4")
    path = tmp_path / "rich.mkv"
    with av.open(str(plain)) as source, av.open(str(path), "w") as file:
        file.metadata.update({"title": "Rich", "MY_OWN_TAG": "kept?"})
        video = file.add_stream_from_template(source.streams.video[0])
        sounds = [file.add_stream_from_template(source.streams.audio[0]) for _ in range(2)]
        sounds[0].metadata["language"], sounds[1].metadata["language"] = "eng", "deu"
        texts = file.add_mux_stream("subrip")
        file.add_attachment("font.ttf", "application/x-truetype-font", b"a font")
        file.set_chapters(
            [
                {"id": k + 1, "start": k * 500, "end": k * 500 + 500, "time_base": MS, "metadata": {"title": f"C{k}"}}
                for k in range(2)
            ]
        )
        for number in range(3):
            packet: Packet[Any] = Packet(f"line {number}".encode())
            packet.pts = packet.dts = number * 300
            packet.duration, packet.time_base, packet.stream = 200, MS, texts
            file.mux(packet)
        for packet in source.demux():
            if packet.size:
                targets = [video] if packet.stream.type == "video" else sounds
                file.mux([copy_packet(packet, target) for target in targets])
    return path


def test_matroska_to_matroska_keeps_everything(rich: Path, tmp_path: Path) -> None:
    target = tmp_path / "b.mkv"
    assert transform_video(same, rich, target) == ()
    for kind in ("audio", "subtitle"):
        assert list_packets(target, kind) == list_packets(rich, kind) != []
    assert list_times(target) == list_times(rich)
    with av.open(str(rich)) as a, av.open(str(target)) as b:
        assert [stream.type for stream in b.streams] == ["video", "audio", "audio", "subtitle", "attachment"]
        assert [stream.metadata.get("language") for stream in b.streams.audio] == ["eng", "deu"]
        assert [stream.disposition for stream in b.streams] == [stream.disposition for stream in a.streams]
        assert [chapter["metadata"]["title"] for chapter in b.chapters()] == ["C0", "C1"]
        assert b.metadata["title"] == "Rich" and b.metadata["MY_OWN_TAG"] == "kept?"


def test_what_mp4_cannot_hold_is_said(rich: Path, tmp_path: Path) -> None:
    lines = transform_video(same, rich, tmp_path / "b.mp4")
    assert lines == (
        f"{rich} has a stream that .mp4 files cannot hold, which is left out: subtitle srt",
        f"{rich} has a stream that .mp4 files cannot hold, which is left out: attachment of an unknown codec",
        f"{rich} has tags that .mp4 files cannot hold, which are left out: MY_OWN_TAG",
    )
    with av.open(str(tmp_path / "b.mp4")) as file:
        assert [stream.type for stream in file.streams][:3] == ["video", "audio", "audio"]


def test_chapters_of_a_cut(rich: Path, tmp_path: Path) -> None:
    transform_video(same, rich, tmp_path / "b.mkv", VideoOptions(start=0.6))
    with av.open(str(tmp_path / "b.mkv")) as file:
        chapters: list[Any] = list(file.chapters())
    found = [(c["metadata"]["title"], c["start"] * c["time_base"], c["end"] * c["time_base"]) for c in chapters]
    first = next(second for second in list_times(rich) if second >= Fraction(3, 5))
    assert found == [("C1", 0, 1 - first)]
    texts = [second for second, _ in list_packets(rich, "subtitle")]
    found_texts = [second for second, _ in list_packets(tmp_path / "b.mkv", "subtitle")]
    assert found_texts == [second - first for second in texts if second >= first] != []
    transform_video(same, rich, tmp_path / "c.mkv", VideoOptions(end=0.3))
    with av.open(str(tmp_path / "c.mkv")) as file:
        assert [chapter["metadata"]["title"] for chapter in file.chapters()] == ["C0"]
    assert [second for second, _ in list_packets(tmp_path / "c.mkv", "subtitle")] == texts[:1]


def test_sound_that_cannot_be_held_is_an_error_before_any_work(tmp_path: Path) -> None:
    source = Clip().write(tmp_path / "a.mp4")
    with pytest.raises(
        RequestError, match=r"\.webm files cannot hold the sound of .*a\.mp4 \(audio aac\) as it is; write a"
    ):
        transform_video(same, source, tmp_path / "b.webm")
    assert not list(tmp_path.glob(".*"))


def test_webm_keeps_its_sound(tmp_path: Path) -> None:
    source = tmp_path / "a.webm"
    with av.open(str(source), "w") as file:
        video = file.add_stream("libvpx-vp9", rate=25)
        assert isinstance(video, VideoStream)
        video.width, video.height, video.pix_fmt = 32, 24, "yuv420p"
        sound = file.add_stream("libopus", rate=48000)
        assert isinstance(sound, AudioStream)
        sound.layout, sound.format = "mono", "s16"
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(draw_frame(number), "rgb24")
            frame.pts = number
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        for start in range(0, 19200, 960):
            wave = np.sin(np.arange(start, start + 960) / 20) * 9000
            audio = av.AudioFrame.from_ndarray(wave.astype(np.int16)[None], "s16", "mono")
            audio.rate, audio.pts, audio.time_base = 48000, start, Fraction(1, 48000)
            file.mux(sound.encode(audio))
        file.mux(sound.encode(None))
    assert transform_video(same, source, tmp_path / "b.webm") == ()
    assert list_times(tmp_path / "b.webm") == list_times(source)
    assert list_packets(tmp_path / "b.webm") == list_packets(source) != []
    with av.open(str(tmp_path / "b.webm")) as file:
        assert file.streams.video[0].codec_context.codec.canonical_name == "vp9"


def test_a_cover_and_a_second_video_are_reported(tmp_path: Path) -> None:
    import io

    import PIL.Image

    plain = Clip(frames=5).write(tmp_path / "plain.mp4")
    content = io.BytesIO()
    PIL.Image.fromarray(draw_frame(0)).save(content, "PNG")
    source = tmp_path / "a.mkv"
    with av.open(str(plain)) as a, av.open(str(source), "w") as file:
        file.add_attachment("cover.png", "image/png", content.getvalue())
        streams = [file.add_stream_from_template(a.streams.video[0]) for _ in range(2)]
        for packet in a.demux(a.streams.video[0]):
            if packet.size:
                file.mux([copy_packet(packet, stream) for stream in streams])
    lines = transform_video(same, source, tmp_path / "b.mkv")
    assert f"{source} holds 2 videos, of which the first is used" in lines
    assert f"{source} holds a cover picture, which is not copied" in lines


def test_packets_that_cannot_be_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ganrt.video.joining as joining

    source = Clip().write(tmp_path / "a.mp4")

    def reverse(*arguments: Any) -> Any:
        return iter(sorted(inner(*arguments), key=lambda packet: -(packet.dts or 0)))

    inner = joining.read_copies
    monkeypatch.setattr(joining, "read_copies", reverse)
    with pytest.raises(ArtifactError, match=r"the frames and the sound of .*a\.mp4 cannot be joined in a \.mp4 file: "):
        transform_video(same, source, tmp_path / "b.mp4")
    assert not (tmp_path / "b.mp4").exists()
