"""Join segments to one video, with the sound and all else that is copied; nothing is encoded again."""

from __future__ import annotations

import errno
import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from ganrt import atomic
from ganrt.errors import ArtifactError, MachineError
from ganrt.video.copies import Copies, add_copy, read_copies
from ganrt.video.encoders import CONTAINERS, EncoderSettings
from ganrt.video.inspection import Range, SourceVideo
from ganrt.video.opening import open_video
from ganrt.video.packets import Segment, read_packets

_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Errors that no other format avoids."""
_FAST_START = {"movflags": "+faststart"}
_KEEP_STAMPS = {"avoid_negative_ts": "disabled"}
_OPTIONS = {"mp4": _FAST_START, "mov": _FAST_START, "matroska": _KEEP_STAMPS, "webm": _KEEP_STAMPS}
"""Format -> options. With faststart a browser plays a file before it has all of it. Sound that begins before 0, as that
of MP4 files does, would move all timestamps in Matroska files."""
_BIT_EXACT = 0x400
"""FFmpeg's AVFMT_FLAG_BITEXACT."""
_OF_THE_FILE = ("major_brand", "minor_version", "compatible_brands", "encoder", "software", "duration")
_OF_THE_ENCODING = ("rotate", "encoder", "duration", "bps", "number_of_frames", "number_of_bytes", "vendor_id")
"""Tags, in lower case, that are about the old file or the old encoding. Matroska's statistics begin with `_`."""


@dataclass(frozen=True)
class Joining:
    """What is joined, and how."""

    source: SourceVideo
    copies: Copies
    part: Range
    settings: EncoderSettings

    def write(self, path: Path, segments: Sequence[tuple[Path, Segment]]) -> list[str]:
        """Write the video; it appears complete or not at all.

        Returns what a user should know about it. Raises ArtifactError if the file cannot be made of the source's
        packets, MachineError if it cannot be written.
        """
        form = CONTAINERS[self.settings.ending]
        shift = segments[0][1].timestamps[0] if self.part.start else 0
        with atomic.new_file(path) as file, open_video(self.source.path) as original:
            name = str(Path(file.name).absolute())  # FFmpeg takes the beginning of `data:clips/clip.mp4` for a protocol
            try:
                with av.open(name, "w", format=form, container_options=_OPTIONS[form]) as made:
                    self._write_packets(original, made, segments, shift)
            except (FFmpegError, ValueError) as error:
                if isinstance(error, OSError) and error.errno in _OF_DISKS:
                    raise MachineError(f"{path} cannot be written: {error.strerror}") from error
                raise ArtifactError(
                    f"the frames and the sound of {self.source.path} cannot be joined in a {self.settings.ending} "
                    f"file: {error}; write a file that ends in .mkv"
                ) from error
            return self._find_lost(original, Path(file.name))

    def _write_packets(
        self, original: InputContainer, made: OutputContainer, segments: Sequence[tuple[Path, Segment]], shift: int
    ) -> None:
        first = shift * self.source.time_base
        made.flags |= _BIT_EXACT  # else Matroska files hold random numbers
        made.metadata.update(_select_tags(original.metadata, _OF_THE_FILE))
        video = made.add_stream(self.settings.encoder.name, rate=self.settings.rate)
        assert isinstance(video, VideoStream)
        self.settings.apply(video.codec_context)
        video.time_base = self.source.time_base
        video.metadata.update(_select_tags(original.streams[self.source.stream].metadata, _OF_THE_ENCODING))
        copies = {index: add_copy(made, original.streams[index]) for index in self.copies.streams}
        self._copy_chapters(original, made, first)
        made.start_encoding()
        end = None if self.part.end is None else self.part.end + self.source.start
        frames = _read_frames(segments, shift, video, self.source.time_base)
        others = read_copies(original, copies, first, end) if copies else iter(())
        for packet in heapq.merge(frames, others, key=_find_second):
            made.mux(packet)

    def _copy_chapters(self, original: InputContainer, made: OutputContainer, first: Fraction) -> None:
        chapters = []
        for chapter in original.chapters():
            base = chapter["time_base"] or Fraction(1, av.time_base)
            start, end = chapter["start"] * base, chapter["end"] * base
            if end <= first or (self.part.end is not None and start >= self.part.end + self.source.start):
                continue
            chapter["start"], chapter["end"] = (
                round(max(start - first, Fraction(0)) / base),
                round((end - first) / base),
            )
            chapters.append(chapter)
        made.set_chapters(chapters)

    def _find_lost(self, original: InputContainer, path: Path) -> list[str]:
        """Sentences about tags that the new file does not hold."""
        with open_video(path) as made:
            kept = {name.lower() for name in made.metadata}
        wanted = _select_tags(original.metadata, _OF_THE_FILE)
        lost = [name for name in wanted if name.lower() not in kept]
        if not lost:
            return []
        return [
            f"{self.source.path} has tags that {self.settings.ending} files cannot hold, which are left out: "
            f"{', '.join(sorted(lost))}"
        ]


def _select_tags(tags: dict[str, str], without: Sequence[str]) -> dict[str, str]:
    return {name: value for name, value in tags.items() if name.lower() not in without and not name.startswith("_")}


def _find_second(packet: Packet[Stream]) -> float:
    assert packet.dts is not None
    return float(packet.dts * packet.time_base)


def _read_frames(
    segments: Sequence[tuple[Path, Segment]], shift: int, stream: VideoStream, time_base: Fraction
) -> Iterator[Packet[Stream]]:
    """Yield the packets of all segments, with timestamps of decoding that ascend over all of them."""
    order = find_decoding_times([segment for _, segment in segments])
    for path, segment in segments:
        for entry, content in read_packets(path, segment):
            packet: Packet[Stream] = Packet(content)
            packet.pts, packet.dts, packet.duration = entry.pts - shift, next(order) - shift, entry.duration
            packet.time_base, packet.is_keyframe, packet.stream = time_base, entry.key, stream
            yield packet


def find_decoding_times(segments: Sequence[Segment]) -> Iterator[int]:
    """Yield a timestamp of decoding for each packet: those of the frames in the order they are shown, begun as many
    frames earlier as the encoder reorders, so that no frame is decoded later than it is shown.

    Encoders number their packets too, but each segment's numbers begin before its first frame, where those of the
    segment before have not ended.
    """
    shown = [stamp for segment in segments for stamp in segment.timestamps]
    decoded = [packet.pts for segment in segments for packet in segment.packets]
    places = {stamp: place for place, stamp in enumerate(shown)}
    delay = max(number - places[stamp] for number, stamp in enumerate(decoded))
    step = shown[1] - shown[0] if len(shown) > 1 else 1
    yield from (shown[0] - step * number for number in range(delay, 0, -1))
    yield from shown[: len(shown) - delay]
