"""What a video holds, found before any of its frames is transformed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ganrt.errors import ArtifactError
from ganrt.video.colors import check_colors
from ganrt.video.opening import list_pictures, open_video
from ganrt.video.orientation import Orientation, read_orientation

_SLACK = Fraction(1, 2)
"""Seconds by which a file may end before the duration that it states."""
_RATES = Fraction(1, 10), Fraction(1000)
"""Lowest and highest frame rate that is believed."""


@dataclass(frozen=True)
class SourceVideo:
    """A video to read."""

    path: Path
    stream: int
    """Number of its stream of pictures in the file."""
    width: int
    height: int
    """Of a frame as it is stored."""
    orientation: Orientation
    time_base: Fraction
    """Seconds of a unit of the timestamps."""
    rate: Fraction
    """Frames a second, on average."""
    aspect: Fraction
    """Width of a pixel by its height, as the frames are shown."""
    start: Fraction
    """Second at which a player begins: where the first stream does."""
    frames: int
    """Frames in the range that was asked for; almost: some codecs have packets that are not shown."""
    first: int
    """Lowest timestamp of a packet in that range; 0 if there is none."""
    has_order: bool
    """Whether packets have the timestamps of their frames. Those of AVI files have them in the order of decoding."""
    has_milliseconds: bool
    """Whether all timestamps in the range are whole milliseconds."""
    most_pixels: int
    remarks: tuple[str, ...]
    """What is not kept, in sentences."""


@dataclass(frozen=True)
class Range:
    """A part of a video: seconds from where a player begins."""

    start: Fraction = Fraction(0)
    end: Fraction | None = None

    @property
    def is_all(self) -> bool:
        """Whether nothing is cut off."""
        return self.start == 0 and self.end is None

    def holds(self, second: Fraction) -> bool:
        """Whether a timestamp is in it: the start is, the end is not."""
        return self.start <= second and (self.end is None or second < self.end)


def inspect_video(path: Path, part: Range, most_pixels: int) -> SourceVideo:
    """Find out what a video holds. Reads the file to its end; decodes its first frame, once its size is checked.

    Raises ArtifactError, naming the file, if it is not a video, is cut short, has too many pixels, or holds colors or
    opacity that would be lost.
    """
    with open_video(path) as container:
        stream = _find_stream(container, path, most_pixels)
        first = _decode_first(container, stream, path)
        try:
            remarks = [check_colors(first)]
            orientation = read_orientation(first)
        except ArtifactError as error:
            raise ArtifactError(f"{path} cannot be transformed: {error}") from error
        if first.interlaced_frame:
            remarks.append("is interlaced; both fields of a frame are transformed as one picture: deinterlace it first")
        others = len(list_pictures(container)) - 1
        if others:
            remarks.append(f"holds {others + 1} videos, of which the first is used")
        if len(container.streams.video) > others + 1:
            remarks.append("holds a cover picture, which is not copied")
        aspect = stream.codec_context.sample_aspect_ratio or Fraction(1)
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        found = SourceVideo(
            path=path,
            stream=stream.index,
            width=first.width,
            height=first.height,
            orientation=orientation,
            time_base=stream.time_base or Fraction(1, av.time_base),
            rate=Fraction(rate) if _RATES[0] <= rate <= _RATES[1] else Fraction(25),
            aspect=1 / aspect if orientation.transpose else aspect,
            start=Fraction(container.start_time or 0, av.time_base),
            frames=0,
            first=0,
            has_order=container.format.name != "avi",
            has_milliseconds=True,
            most_pixels=most_pixels,
            remarks=tuple(f"{path} {remark}" for remark in remarks if remark),
        )
    return _count_frames(found, part)


def check_pixels(name: str, width: int, height: int, most_pixels: int) -> None:
    """Raise ArtifactError for frames that are too large."""
    if width * height > most_pixels:
        size = f"{width} x {height} pixels"
        raise ArtifactError(f"{name} has frames of {size}; at most {most_pixels} are read (--max-pixels)")


def _find_stream(container: InputContainer, path: Path, most_pixels: int) -> VideoStream:
    """The stream of pictures that is used."""
    streams = list_pictures(container)
    if not streams:
        raise ArtifactError(f"{path} holds no video")
    stream = streams[0]
    if getattr(stream, "codec_context", None) is None:
        raise ArtifactError(f"{path} holds a video whose codec PyAV cannot decode")
    check_pixels(str(path), stream.codec_context.width, stream.codec_context.height, most_pixels)
    if stream.metadata.get("alpha_mode", stream.metadata.get("ALPHA_MODE")) == "1":
        raise ArtifactError(f"{path} has opacity (alpha_mode), which is not kept; remove it first")
    return stream


def _decode_first(container: InputContainer, stream: VideoStream, path: Path) -> VideoFrame:
    stream.codec_context.thread_count = 1
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except FFmpegError as error:
            raise ArtifactError(f"{path} cannot be decoded from its first frame on: {error.strerror}") from error
        for frame in frames:
            return frame
    raise ArtifactError(f"{path} holds no frames")


def _count_frames(source: SourceVideo, part: Range) -> SourceVideo:
    """The source with its number of frames. Raises ArtifactError for a file that ends too early, if its end is asked
    for."""
    with open_video(source.path) as container:
        end, frames, first, whole, damaged = Fraction(0), 0, 0, True, False
        for stream, pts, duration in _list_packets(container):
            if pts is None:
                damaged = True
                continue
            base = container.streams[stream].time_base or Fraction(1, av.time_base)
            end = max(end, (pts + duration) * base)
            if stream == source.stream and part.holds(pts * base - source.start):
                first = min(first, pts) if frames else pts
                frames += 1
                whole = whole and (pts * base * 1000).denominator == 1
        # FFmpeg writes the duration of Matroska files from 0 on, also if they begin later, as parts of recordings do.
        stated_from = min(source.start, Fraction(0)) if container.format.name.startswith("matroska") else source.start
        stated = stated_from + Fraction(container.duration or 0, av.time_base)
    if part.end is None and (damaged or end < stated - _SLACK):
        raise ArtifactError(
            f"{source.path} is cut short: it ends at {float(end - source.start):.3f} of "
            f"{float(stated - source.start):.3f} seconds; choose an earlier end to transform what is there"
        )
    return replace(source, frames=frames, first=first, has_milliseconds=whole)


def _list_packets(container: InputContainer) -> Iterator[tuple[int, int | None, int]]:
    """Stream, timestamp and duration of each packet that is shown; no timestamp for one that is damaged."""
    for packet in container.demux():
        if packet.is_corrupt:
            yield packet.stream_index, None, 0
        elif packet.size and not packet.is_discard:
            stamp = packet.dts if packet.pts is None else packet.pts
            if stamp is not None:
                yield packet.stream_index, stamp, packet.duration or 0
