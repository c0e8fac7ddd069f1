"""Encode the frames of one segment into a file of packets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, NamedTuple

import numpy as np
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from ganrt.errors import BackendError, MachineError
from ganrt.images import Pictures
from ganrt.video.colors import to_frame
from ganrt.video.encoders import EncoderSettings
from ganrt.video.packets import PacketEntry, Segment, write_end


class MadeFrame(NamedTuple):
    """A frame to encode."""

    pts: int
    duration: int
    picture: Pictures
    """RGB, uint8 (H, W, 3)."""


class SegmentWriter:
    """Encodes frames into a file. Raises MachineError if the encoder fails, as for frames that are too large for it."""

    def __init__(self, settings: EncoderSettings, file: IO[bytes]) -> None:
        self._settings, self._file = settings, file
        self._reformatter = VideoReformatter()
        self._durations: dict[int, int] = {}
        self._packets: list[PacketEntry] = []
        self._context = settings.open()

    def encode(self, frame: MadeFrame) -> None:
        """Encode one frame."""
        size = self._settings.height, self._settings.width
        if frame.picture.shape[:2] != size:
            raise BackendError(
                f"a frame became {frame.picture.shape[1]} x {frame.picture.shape[0]} pixels, and the one before "
                f"{size[1]} x {size[0]}; all must have one size"
            )
        made = to_frame(np.ascontiguousarray(frame.picture), self._settings.form, self._reformatter)
        made.pts, made.time_base = frame.pts, self._settings.time_base
        self._durations[frame.pts] = frame.duration
        self._write(self._run(made))

    def finish(self, digest: str) -> Segment:
        """Encode what the encoder holds back, and write the end of the file."""
        self._write(self._run(None))
        if sorted(packet.pts for packet in self._packets) != sorted(self._durations):
            raise BackendError(
                f"{self._settings.encoder.name} made {len(self._packets)} packets of {len(self._durations)} frames, or "
                "changed their timestamps; choose another codec"
            )
        segment = Segment(self._settings.width, self._settings.height, digest, tuple(self._packets))
        write_end(self._file, segment)
        return segment

    def _run(self, frame: VideoFrame | None) -> list[Packet[Stream]]:
        try:
            return self._context.encode(frame)
        except FFmpegError as error:
            size = f"{self._settings.width} x {self._settings.height}"
            raise MachineError(
                f"{self._settings.encoder.name} cannot encode frames of {size} pixels ({error.strerror}); choose "
                "another codec"
            ) from error

    def _write(self, packets: Iterable[Packet[Stream]]) -> None:
        for packet in packets:
            content = bytes(packet)
            pts = -1 if packet.pts is None else packet.pts
            entry = PacketEntry(pts, self._durations.get(pts, 0), len(content), packet.is_keyframe)
            self._packets.append(entry)
            self._file.write(content)
