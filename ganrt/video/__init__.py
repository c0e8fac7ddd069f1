"""Transforms videos: decodes frames, has new ones made of them, encodes those, and keeps sound and timestamps.

`transform_video` does it all. FFmpeg does the decoding and encoding, through PyAV, which the extra `video` installs.
"""

from __future__ import annotations

from ganrt.errors import MissingLibraryError

try:
    import av
except ImportError as error:
    raise MissingLibraryError("av", "video", "reading and writing videos") from error

from ganrt.video.encoders import CONTAINERS
from ganrt.video.job import VideoJob, VideoOptions, transform_video

av.logging.set_level(None)  # damage is reported by errors and remarks, not by lines that FFmpeg prints

__all__ = ["CONTAINERS", "VideoJob", "VideoOptions", "transform_video"]
