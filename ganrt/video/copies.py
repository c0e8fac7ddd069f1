"""The other streams of a video, sound and subtitles: which of them a new file can hold, and their packets."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream

from ganrt.errors import RequestError
from ganrt.video.encoders import CONTAINERS
from ganrt.video.opening import open_video


class Copies(NamedTuple):
    """What is copied of a video beside its pictures."""

    streams: tuple[int, ...]
    """Numbers of streams in the source."""
    remarks: tuple[str, ...]
    """What is not copied, in sentences."""


def plan_copies(source: Path, ending: str) -> Copies:
    """Find the streams that a file with an ending can hold.

    Raises RequestError for sound that it cannot hold: a video without its sound is not what was asked for.
    """
    streams, remarks = [], []
    with open_video(source) as container:
        for stream in container.streams:
            if stream.type == "video":
                continue
            if _can_hold(ending, stream):
                streams.append(stream.index)
                continue
            what = _describe(stream)
            if stream.type == "audio":
                raise RequestError(
                    f"{ending} files cannot hold the sound of {source} ({what}) as it is; write a file that ends in "
                    ".mkv, which holds most kinds"
                )
            remarks.append(f"{source} has a stream that {ending} files cannot hold, which is left out: {what}")
    return Copies(tuple(streams), tuple(remarks))


def _describe(stream: Stream) -> str:
    context = getattr(stream, "codec_context", None)
    name = "of an unknown codec" if context is None else context.name
    return f"{stream.type} {name}"


def _can_hold(ending: str, stream: Stream) -> bool:
    """Whether a file with an ending can hold a stream. A trial is the only way to know."""
    if stream.type not in ("audio", "subtitle", "attachment"):
        return False  # timecodes, positions: FFmpeg cannot say whether the copies have a meaning
    trial = io.BytesIO()
    try:
        with av.open(trial, "w", format=CONTAINERS[ending]) as container:
            add_copy(container, stream)
            container.start_encoding()
    except (FFmpegError, ValueError):
        return False
    return True


def add_copy(container: OutputContainer, stream: Stream) -> Stream:
    """Add a stream like another one to a file that is written."""
    made: Stream = container.add_stream_from_template(stream)
    made.metadata.update(stream.metadata)
    made.disposition = stream.disposition
    return made


def read_copies(
    container: InputContainer, copies: Mapping[int, Stream], first: Fraction, end: Fraction | None
) -> Iterator[Packet[Stream]]:
    """Yield the packets of streams, for the streams that they are copied to.

    Args:
        copies: number of a stream -> stream of the new file.
        first: second of the source that becomes 0.
        end: second of the source from which on packets are left out; None for all.
    """
    for packet in container.demux([container.streams[index] for index in copies]):
        if not packet.size or packet.dts is None:
            continue
        base = packet.time_base
        stamp = packet.dts if packet.pts is None else packet.pts
        if (first and stamp * base < first) or (end is not None and stamp * base >= end):
            continue
        shift = round(first / base)
        packet.dts -= shift
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.stream = copies[packet.stream_index]
        yield packet
