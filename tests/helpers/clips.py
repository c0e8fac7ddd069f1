"""Tiny videos, written with PyAV, and what is in a video."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from ganrt.images import Pictures

RATE = 8000


def draw_frame(number: int, size: tuple[int, int] = (24, 32)) -> Pictures:
    """A picture that is another one for each number."""
    height, width = size
    down, right = np.indices((height, width))
    planes = [right * 6 + number * 3, down * 8 + number * 5, (down + right) * 4 + 40]
    picture = np.stack([plane % 200 for plane in planes], axis=2).astype(np.uint8)
    picture[: height // 3, : width // 4] = (230, 20, 40)
    return picture


@dataclass(frozen=True)
class Clip:
    """A video to write."""

    frames: int = 20
    size: tuple[int, int] = (24, 32)
    """Height and width."""
    codec: str = "libx264"
    form: str = "yuv420p"
    time_base: Fraction = Fraction(1, 12800)
    timestamps: Sequence[int] | None = None
    """None for 25 frames a second."""
    sound: str | None = "aac"
    options: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[VideoStream], None] = lambda stream: None
    """Called with the stream before it is opened."""
    draw: Callable[[int], Pictures] | None = None
    tags: dict[str, str] = field(default_factory=lambda: {"title": "A clip"})

    def write(self, path: Path, **container: Any) -> Path:
        with av.open(str(path), "w", container_options=container) as file:
            stream = file.add_stream(self.codec, rate=25, options=self.options)
            assert isinstance(stream, VideoStream)
            stream.height, stream.width = self.size
            stream.pix_fmt = self.form
            stream.codec_context.time_base = self.time_base
            stream.codec_context.thread_count = 1
            self.prepare(stream)
            file.metadata.update(self.tags)
            sound = file.add_stream(self.sound, rate=RATE) if self.sound else None
            if isinstance(sound, AudioStream):
                sound.layout = "mono"
            self._encode(file, stream)
            if isinstance(sound, AudioStream):
                _write_sine(file, sound, self.frames / 25)
        return path

    def _encode(self, file: Any, stream: VideoStream) -> None:
        step = int(1 / (25 * self.time_base))
        for number in range(self.frames):
            picture = self.draw(number) if self.draw else draw_frame(number, self.size)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts = self.timestamps[number] if self.timestamps else number * step
            frame.time_base = self.time_base
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def _write_sine(file: Any, stream: AudioStream, seconds: float) -> None:
    form = stream.codec_context.format.name
    assert form in ("fltp", "s32p")
    wave = np.sin(np.arange(round(seconds * RATE)) * (2 * np.pi * 440 / RATE)) / 2
    for start in range(0, len(wave), 1024):
        part = wave[None, start : start + 1024]
        values = part.astype(np.float32) if form == "fltp" else (part * (2**31 - 1)).astype(np.int32)
        frame = av.AudioFrame.from_ndarray(values, form, "mono")
        frame.rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
        file.mux(stream.encode(frame))
    file.mux(stream.encode(None))


def list_times(path: Path) -> list[Fraction]:
    """The second of each frame, as it is decoded."""
    with av.open(str(path)) as file:
        return [frame.pts * frame.time_base for frame in file.decode(video=0)]  # type: ignore[operator,misc]


def decode(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as file:
        return list(file.decode(video=0))


def list_packets(path: Path, kind: str = "audio") -> list[tuple[Fraction, str]]:
    """Second and SHA-256 of each packet of a kind of streams."""
    found = []
    with av.open(str(path)) as file:
        for packet in file.demux([stream for stream in file.streams if stream.type == kind]):
            if packet.size and packet.pts is not None:
                found.append((packet.pts * packet.time_base, hashlib.sha256(bytes(packet)).hexdigest()))
    return found
