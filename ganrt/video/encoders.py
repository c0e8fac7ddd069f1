"""The encoders that videos are written with, and their settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType

import av
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange

from ganrt.errors import MachineError, RequestError
from ganrt.video.colors import BT709, RGB, is_rgb

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""Ending of a video that is written, in lower case -> FFmpeg's name of its format."""
_MP4 = (".mp4", ".m4v", ".mov")
_THREADS = 8
"""Of every encoder, on every machine: some encode the same pictures to other bytes with another number."""


@dataclass(frozen=True)
class Encoder:
    """One of FFmpeg's encoders."""

    name: str
    endings: tuple[str, ...]
    """Of the files that hold its videos."""
    crf: tuple[int, int, int] | None
    """Lowest, highest and default constant rate factor: lower is better and larger. None for lossless."""
    settings: Mapping[str, str]
    form: str = "yuv420p"
    """Pixel format."""
    odd_form: str = "yuv420p"
    """Pixel format for an odd width or height."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Ending -> codec tag, where it is not FFmpeg's usual one."""

    def check_crf(self, crf: int | None) -> int | None:
        """The factor to use. Raises RequestError for one that this encoder does not take."""
        if self.crf is None:
            if crf is not None:
                raise RequestError(f"crf was given, but {self.name} is lossless: leave it out")
            return None
        low, high, usual = self.crf
        if crf is not None and not low <= crf <= high:
            raise RequestError(f"crf is {crf}; {self.name} takes {low} (best) to {high}")
        return usual if crf is None else crf

    def choose_form(self, width: int, height: int) -> str:
        """Pixel format for frames of a size."""
        return self.odd_form if width % 2 or height % 2 else self.form


ENCODERS = MappingProxyType(
    {
        one.name: one
        for one in (
            Encoder(
                "libx264",
                (*_MP4, ".mkv"),
                (0, 51, 17),
                # With its AVX-512 code, x264 makes other bytes of the same frames in one run of ten.
                {"preset": "medium", "x264-params": "cpu-independent=1"},
                odd_form="yuv444p",
            ),
            Encoder(
                "libx265",
                (*_MP4, ".mkv"),
                (0, 51, 20),
                {"preset": "medium", "x265-params": "log-level=none:frame-threads=3"},
                odd_form="yuv444p",
                tags=dict.fromkeys(_MP4, "hvc1"),  # the one that Apple's players take
            ),
            Encoder(
                "libvpx-vp9",
                (".webm", ".mkv", ".mp4"),
                (0, 63, 24),
                {"deadline": "good", "cpu-used": "3", "row-mt": "1"},
            ),
            Encoder("libsvtav1", (".webm", ".mkv", ".mp4"), (1, 63, 24), {"preset": "6"}),
            Encoder("ffv1", (".mkv",), None, {"level": "3", "slices": "4", "slicecrc": "1"}, "bgr0", "bgr0"),
        )
    }
)
"""Name -> encoder. The first that an ending takes is used for it."""


def choose_encoder(name: str | None, ending: str) -> Encoder:
    """The encoder of a name, or the usual one of an ending.

    Raises RequestError for an unknown name, and for an ending whose files do not hold its videos; MachineError if this
    build of FFmpeg lacks it.
    """
    fitting = [one for one in ENCODERS.values() if ending in one.endings]
    if name is not None and name not in ENCODERS:
        raise RequestError(f"there is no codec {name!r}; there are {', '.join(ENCODERS)}")
    chosen = fitting[0] if name is None else ENCODERS[name]
    if chosen not in fitting:
        raise RequestError(
            f"{ending} files hold no video of {chosen.name}; choose {', '.join(one.name for one in fitting)}, or write "
            f"a file that ends in {', '.join(chosen.endings)}"
        )
    try:
        av.Codec(chosen.name, "w")
    except ValueError as error:
        raise MachineError(f"this installation of PyAV has no encoder {chosen.name}; install the package av") from error
    return chosen


@dataclass(frozen=True)
class EncoderSettings:
    """Everything that an encoder must know before the first frame."""

    encoder: Encoder
    crf: int | None
    width: int
    height: int
    time_base: Fraction
    rate: Fraction
    aspect: Fraction
    """Width of a pixel by its height."""
    ending: str

    @property
    def form(self) -> str:
        """Pixel format."""
        return self.encoder.choose_form(self.width, self.height)

    def apply(self, context: VideoCodecContext) -> None:
        """Configure the context of an encoder."""
        context.width, context.height, context.pix_fmt = self.width, self.height, self.form
        context.time_base, context.framerate = self.time_base, self.rate
        context.sample_aspect_ratio = self.aspect
        rgb = is_rgb(self.form)
        context.colorspace = RGB if rgb else BT709
        context.color_range = ColorRange.JPEG if rgb else ColorRange.MPEG
        context.color_primaries = context.color_trc = BT709
        context.thread_count = _THREADS
        context.flags |= Flags.global_header | Flags.bitexact
        options = dict(self.encoder.settings)
        if self.crf is not None:
            options["crf"] = str(self.crf)
        context.bit_rate = 0
        context.options = options
        if self.ending in self.encoder.tags:
            context.codec_tag = self.encoder.tags[self.ending]

    def open(self) -> VideoCodecContext:
        """A new encoder."""
        os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 prints its settings otherwise
        context = av.CodecContext.create(self.encoder.name, "w")
        assert isinstance(context, VideoCodecContext)
        self.apply(context)
        return context
