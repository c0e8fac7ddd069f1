"""Files of encoded frames: the segments of a video that is being made.

A file holds the packets of one closed group of frames one after the other, then JSON that lists them, then the length
of that as eight bytes, little-endian. Timestamps are exact, which those of containers are not always.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from ganrt.errors import ArtifactError

_LENGTH = 8
_LARGEST = 1 << 26
"""Most bytes of the JSON."""


class PacketEntry(NamedTuple):
    """A packet, in the units of the time base of the source."""

    pts: int
    duration: int
    size: int
    """Bytes."""
    key: bool


class Segment(NamedTuple):
    """What the end of a file says."""

    width: int
    height: int
    digest: str
    """SHA-256 of the last frame of the source that is in it, as RGB."""
    packets: tuple[PacketEntry, ...]
    """In the order of decoding."""

    @property
    def timestamps(self) -> list[int]:
        """Of the frames, in the order they are shown."""
        return sorted(packet.pts for packet in self.packets)


def write_end(file: IO[bytes], segment: Segment) -> None:
    """Finish a file, after the bytes of the packets."""
    content = json.dumps(segment._asdict()).encode()
    file.write(content + len(content).to_bytes(_LENGTH, "little"))


def read_segment(path: Path) -> Segment:
    """Read the end of a file. Raises ArtifactError if it is damaged."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _LENGTH))
            length = int.from_bytes(file.read(_LENGTH), "little")
            if not 0 < length <= min(_LARGEST, size - _LENGTH):
                raise ValueError("no list of packets")
            file.seek(size - _LENGTH - length)
            segment = _parse(json.loads(file.read(length)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} is damaged: {error}; add --overwrite to start over") from error
    if sum(packet.size for packet in segment.packets) != size - _LENGTH - length:
        raise ArtifactError(f"{path} is damaged: its packets have another length; add --overwrite to start over")
    return segment


def _parse(found: Any) -> Segment:
    packets = tuple(PacketEntry(int(p), int(d), int(s), bool(k)) for p, d, s, k in found["packets"])
    if not packets or any(packet.size < 0 for packet in packets):
        raise ValueError("no packets")
    return Segment(int(found["width"]), int(found["height"]), str(found["digest"]), packets)


def read_packets(path: Path, segment: Segment) -> Iterator[tuple[PacketEntry, bytes]]:
    """Yield each packet of a file with its bytes."""
    with path.open("rb") as file:
        for packet in segment.packets:
            yield packet, file.read(packet.size)
