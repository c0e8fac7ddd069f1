"""The frames of a video as RGB pictures with their timestamps, from the beginning or from a place inside."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from ganrt.errors import ArtifactError
from ganrt.images import Pictures
from ganrt.video.colors import to_picture
from ganrt.video.inspection import Range, SourceVideo
from ganrt.video.opening import open_video


class SourceFrame(NamedTuple):
    """A frame as it is shown."""

    pts: int
    """Timestamp, in units of the source's time base."""
    duration: int
    """In the same units; 0 where it is not known."""
    picture: Pictures
    """RGB, uint8 (H, W, 3)."""
    is_damaged: bool
    """Whether the decoder had to invent parts of it."""

    @property
    def digest(self) -> str:
        """SHA-256 of the picture."""
        return hashlib.sha256(self.picture.tobytes()).hexdigest()


class Place(NamedTuple):
    """A frame that was read before."""

    pts: int
    digest: str


def read_frames(source: SourceVideo, part: Range, behind: Place | None = None) -> Iterator[SourceFrame]:
    """Yield the frames of a part of a video, in the order they are shown.

    Args:
        behind: begin behind this frame. Decoding starts at a key frame before it if that gives the same picture of it,
            else at the beginning of the file.

    Raises ArtifactError, naming the file and the second, for a frame that cannot be decoded, one of another size, and
    timestamps that do not ascend.
    """
    target = _find_target(source, part, behind)
    if target is not None and source.has_order:
        frames = _read_part(source, part, target, seek=True)
        first = next(frames, None)
        if behind is None and first is not None:
            yield first
            yield from frames
            return
        if behind is not None and first is not None and (first.pts, first.digest) == behind:
            yield from frames
            return
    for frame in _read_part(source, part, target, seek=False):
        if behind is None or frame.pts > behind.pts:
            yield frame


def _find_target(source: SourceVideo, part: Range, behind: Place | None) -> int | None:
    """Timestamp to seek; None for the beginning of the file."""
    if behind is not None:
        return behind.pts
    if part.start > 0:
        return int((part.start + source.start) / source.time_base)
    return None


def _read_part(source: SourceVideo, part: Range, target: int | None, seek: bool) -> Iterator[SourceFrame]:
    """The frames of a part from a timestamp on. With `seek`, none if there is no key frame before it to seek to."""
    with open_video(source.path) as container:
        stream = container.streams[source.stream]
        assert isinstance(stream, VideoStream)
        stream.codec_context.options = {"max_pixels": str(source.most_pixels + 1)}
        stream.thread_type = "AUTO"
        if seek and target is not None:
            try:
                container.seek(target, stream=stream)
            except FFmpegError:
                return
        reformatter = VideoReformatter()
        last: int | None = None
        for pts, frame in _decode(container, stream, source):
            second = pts * source.time_base - source.start
            if seek and last is None and target is not None and not (frame.key_frame and pts <= target):
                return  # frames that follow depend on others that are missing
            if last is not None and pts <= last:
                raise ArtifactError(f"{source.path}: two frames have the timestamp of {float(second):.3f} s")
            last = pts
            if part.end is not None and second >= part.end:
                return
            if second >= part.start and (target is None or pts >= target):
                picture = source.orientation.apply(to_picture(frame, reformatter))
                yield SourceFrame(pts, frame.duration or 0, picture, frame.is_corrupt)


def _decode(container: InputContainer, stream: VideoStream, source: SourceVideo) -> Iterator[tuple[int, VideoFrame]]:
    """Each decoded frame with its timestamp."""
    stamps: deque[int] = deque()
    second = Fraction(0)
    for packet in container.demux(stream):
        if packet.dts is not None and packet.size:
            stamps.append(packet.dts)
            second = packet.dts * source.time_base - source.start
        try:
            frames = packet.decode()
        except FFmpegError as error:
            raise ArtifactError(
                f"{source.path} cannot be decoded at {float(second):.3f} s: {error.strerror}; choose an earlier end or "
                "a later start"
            ) from error
        for frame in frames:
            if (frame.width, frame.height) != (source.width, source.height):
                raise ArtifactError(
                    f"{source.path} changes at {float(second):.3f} s from {source.width} x {source.height} pixels to "
                    f"{frame.width} x {frame.height}; choose an earlier end or a later start"
                )
            pts = frame.pts if source.has_order else stamps.popleft()
            if pts is None:
                raise ArtifactError(f"{source.path} has a frame without a timestamp near {float(second):.3f} s")
            yield pts, frame
