"""Colors of videos: Y'CbCr of frames to RGB pictures and back, with the matrix and the range that the tags say."""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from ganrt.errors import ArtifactError
from ganrt.images import Pictures

_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
}
"""Matrix by the number that files have for it (ITU-T H.273, MatrixCoefficients)."""
_UNKNOWN = (2, 3)
BT709 = 1
"""Number of BT.709 for matrix, primaries and transfer (H.273)."""
RGB = 0
"""Number of the matrix of RGB (H.273)."""
_PRIMARIES_2020, _PQ, _HLG = 9, 16, 18
_EXACT = 0x4 | 0x2000 | 0x40000 | 0x80000
"""FFmpeg's SWS_BICUBIC, SWS_FULL_CHR_H_INT, SWS_ACCURATE_RND and SWS_BITEXACT. PyAV 17 has no names for the last."""


def check_colors(frame: VideoFrame) -> str | None:
    """Return what a user should know about the colors of a frame, or None.

    Raises ArtifactError for HDR, a color space wider than sRGB, opacity, and a matrix that is not read.
    """
    if frame.color_trc in (_PQ, _HLG) or frame.color_primaries == _PRIMARIES_2020:
        raise ArtifactError(
            f"its colors are HDR or BT.2020 (primaries {int(frame.color_primaries)}, transfer {int(frame.color_trc)}); "
            "convert it to BT.709 first, for example with FFmpeg's filters zscale and tonemap"
        )
    components = frame.format.components
    if any(component.is_alpha for component in components):
        raise ArtifactError(
            f"it has opacity ({frame.format.name}), which is not kept; remove it first, or transform its frames as "
            "pictures"
        )
    choose_matrix(frame)
    bits = max(component.bits for component in components)
    return f"has {bits} bits of color, of which 8 are used" if bits > 8 else None


def choose_matrix(frame: VideoFrame) -> Colorspace:
    """The matrix of a frame: that of its tag; without one, BT.709 from 1280 pixels wide or 577 high on, BT.601 below,
    as mpv does. Raises ArtifactError for one that is not read."""
    tag = int(frame.colorspace)
    if tag in _MATRICES:
        return _MATRICES[tag]
    if frame.format.is_rgb or len(frame.format.components) == 1 or tag in _UNKNOWN:
        large = frame.width >= 1280 or frame.height > 576
        return Colorspace.ITU709 if large else Colorspace.ITU601
    raise ArtifactError(f"its color matrix has the number {tag}; BT.601, BT.709, FCC and SMPTE 240M are read")


def choose_range(frame: VideoFrame) -> ColorRange:
    """The range of a frame: that of its tag; without one, full for RGB and FFmpeg's `yuvj` formats, else limited."""
    if frame.color_range in (ColorRange.MPEG, ColorRange.JPEG):
        return ColorRange(frame.color_range)
    full = frame.format.is_rgb or frame.format.name.startswith("yuvj")
    return ColorRange.JPEG if full else ColorRange.MPEG


def to_picture(frame: VideoFrame, reformatter: VideoReformatter) -> Pictures:
    """Convert a frame to RGB: uint8 (H, W, 3). The transfer function stays: it is taken for that of sRGB, as players
    do."""
    made = reformatter.reformat(
        frame,
        format="rgb24",
        src_colorspace=choose_matrix(frame),
        src_color_range=choose_range(frame),
        dst_color_range=ColorRange.JPEG,
        interpolation=_EXACT,
        threads=1,
    )
    return made.to_ndarray().view(np.uint8)


def to_frame(picture: Pictures, form: str, reformatter: VideoReformatter) -> VideoFrame:
    """Convert RGB, uint8 (H, W, 3), to a frame of a pixel format: BT.709 of limited range, or RGB of full range."""
    frame = VideoFrame.from_ndarray(picture, "rgb24")
    frame.color_range = ColorRange.JPEG
    rgb = is_rgb(form)
    made = reformatter.reformat(
        frame,
        format=form,
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.JPEG if rgb else ColorRange.MPEG,
        interpolation=_EXACT,
        threads=1,
    )
    made.colorspace = RGB if rgb else BT709
    made.color_range = ColorRange.JPEG if rgb else ColorRange.MPEG
    made.color_primaries = made.color_trc = BT709
    return made


def is_rgb(form: str) -> bool:
    """Whether a pixel format that is written holds RGB."""
    return not form.startswith("yuv")
