"""Open videos with FFmpeg: only files of a few formats, and errors that name the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from ganrt.errors import ArtifactError, GanrtError

_FORMATS = "mov,matroska,avi,m4v"
"""FFmpeg's formats that are read. Playlists, which name further files and addresses, are not among them."""

_TAGS: dict[str, Any] = {} if int(av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "replace"}
"""Tags that are not UTF-8 are read all the same, which PyAV 19 does by itself."""


@contextmanager
def open_video(path: Path) -> Iterator[InputContainer]:
    """Open a video to read. Raises ArtifactError, naming it, if that fails, or FFmpeg fails in the block."""
    if path.exists() and not path.is_file():
        raise ArtifactError(f"{path} is no file; a video is read several times, so write it to one first")
    try:
        options = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
        with av.open(str(path.absolute()), container_options=options, **_TAGS) as container:
            yield container
    except GanrtError:
        raise
    except (FFmpegError, OSError) as error:
        raise ArtifactError(f"{path} cannot be read as a video: {error.strerror or error}") from error


def list_pictures(container: InputContainer) -> list[VideoStream]:
    """The video streams of a file that are no covers."""
    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
