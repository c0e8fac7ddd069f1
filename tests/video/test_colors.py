"""Colors: matrices and ranges by the tags, compared with the formulas of the standards; what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.stream import VideoStream
from helpers.clips import Clip, decode, draw_frame

from ganrt.errors import ArtifactError
from ganrt.images import Pictures
from ganrt.video import VideoOptions, transform_video

WEIGHTS = {601: (0.299, 0.114), 709: (0.2126, 0.0722)}
"""Weights of red and blue in luma: ITU-R BT.601 and BT.709."""
FLAT = np.array([[200, 30, 60], [20, 180, 90], [70, 60, 220], [128, 128, 128]], np.uint8)


def draw_bars(number: int, size: tuple[int, int] = (32, 64)) -> Pictures:
    """Four bars of one color each: subsampled chroma is exact inside them."""
    return np.broadcast_to(FLAT.repeat(size[1] // 4, axis=0), (size[0], size[1], 3)).copy()


def to_yuv(rgb: Any, standard: int, full: bool) -> Any:
    """The formula of the standards, as floats."""
    red, blue = WEIGHTS[standard]
    r, g, b = (rgb[..., k] / 255.0 for k in range(3))
    y = red * r + (1 - red - blue) * g + blue * b
    u, v = (b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))
    if full:
        return np.stack([255 * y, 255 * u + 128, 255 * v + 128], axis=-1)
    return np.stack([16 + 219 * y, 128 + 224 * u, 128 + 224 * v], axis=-1)


def write_yuv(path: Path, standard: int, full: bool, tags: dict[str, int], size: tuple[int, int] = (32, 64)) -> Path:
    """A lossless video of `draw_bars` that is converted by the formula, with some tags."""
    yuv = np.rint(to_yuv(draw_bars(0, size), standard, full)).astype(np.uint8)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv444p"
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for number in range(2):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(yuv.transpose(2, 0, 1)), "yuv444p")
            frame.pts = number
            for name, value in tags.items():
                setattr(frame, name, value)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def read_first(source: Path, target: Path) -> Pictures:
    """The first frame that is handed over."""
    seen: list[Pictures] = []

    def record(frames: Pictures) -> Pictures:
        seen.append(frames)
        return frames

    transform_video(record, source, target)
    assert seen[0].dtype == np.uint8 and seen[0].shape[0] == 1
    return seen[0][0]


@pytest.mark.parametrize(
    ("standard", "full", "tags"),
    [
        (601, False, {"colorspace": 5, "color_range": 1}),
        (601, False, {"colorspace": 6, "color_range": 1}),
        (601, True, {"colorspace": 6, "color_range": 2}),
        (709, False, {"colorspace": 1, "color_range": 1}),
        (709, True, {"colorspace": 1, "color_range": 2}),
        (601, False, {}),
    ],
)
def test_frames_are_rgb_by_the_tags(tmp_path: Path, standard: int, full: bool, tags: dict[str, int]) -> None:
    source = write_yuv(tmp_path / "a.mkv", standard, full, tags)
    found = read_first(source, tmp_path / "b.mkv")
    assert np.abs(found.astype(int) - draw_bars(0)).max() <= 2


@pytest.mark.parametrize(
    ("size", "standard"), [((576, 64), 601), ((578, 64), 709), ((16, 1280), 709), ((16, 1276), 601)]
)
def test_without_a_tag_the_size_says_which_matrix(tmp_path: Path, size: tuple[int, int], standard: int) -> None:
    source = write_yuv(tmp_path / "a.mkv", standard, False, {}, size)
    found = read_first(source, tmp_path / "b.mkv")
    assert np.abs(found.astype(int) - draw_bars(0, size)).max() <= 2


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9", "libsvtav1"])
def test_what_is_written_is_bt709_of_limited_range_and_says_so(tmp_path: Path, codec: str) -> None:
    source = write_yuv(tmp_path / "a.mkv", 601, True, {"colorspace": 6, "color_range": 2}, (64, 64))
    transform_video(lambda frames: frames, source, tmp_path / "b.mkv", VideoOptions(codec=codec, crf=4))
    frame = decode(tmp_path / "b.mkv")[0]
    assert (frame.colorspace, frame.color_range, frame.color_trc, frame.color_primaries) == (1, 1, 1, 1)
    assert frame.format.name == "yuv420p"
    wanted = to_yuv(draw_bars(0, (64, 64)), 709, False)[:, 8::16]
    luma = np.frombuffer(bytes(frame.planes[0]), np.uint8).reshape(-1, frame.planes[0].line_size)[:64, :64]
    assert np.abs(luma[32, 8::16] - wanted[32, :, 0]).max() <= 4
    for plane, channel in ((1, 1), (2, 2)):
        values = np.frombuffer(bytes(frame.planes[plane]), np.uint8).reshape(-1, frame.planes[plane].line_size)
        assert np.abs(values[16, 4:32:8] - wanted[32, :, channel]).max() <= 4


def test_ffv1_loses_nothing(tmp_path: Path) -> None:
    source = Clip(frames=6).write(tmp_path / "a.mp4")
    noise = np.random.default_rng(0).integers(0, 256, (6, 25, 31, 3), np.uint8)
    taken = iter(noise)
    transform_video(lambda frames: next(taken)[None], source, tmp_path / "b.mkv", VideoOptions(codec="ffv1"))
    for made, frame in zip(noise, decode(tmp_path / "b.mkv"), strict=True):
        np.testing.assert_array_equal(frame.to_ndarray(format="rgb24"), made)


@pytest.mark.parametrize(
    ("codec", "form"),
    [
        ("libx264", "yuv444p"),
        ("libx265", "yuv444p"),
        ("libvpx-vp9", "yuv420p"),
        ("libsvtav1", "yuv420p"),
        ("ffv1", "bgr0"),
    ],
)
def test_odd_sizes_lose_no_column(tmp_path: Path, codec: str, form: str) -> None:
    source = Clip(frames=3).write(tmp_path / "a.mp4")
    enlarge = [np.kron(draw_frame(k, (65, 67)), np.ones((1, 1, 1), np.uint8)) for k in range(3)]
    taken = iter(enlarge)
    transform_video(lambda frames: next(taken)[None], source, tmp_path / "b.mkv", VideoOptions(codec=codec))
    frame = decode(tmp_path / "b.mkv")[0]
    assert (frame.width, frame.height, frame.format.name) == (67, 65, form)


def test_a_grey_result_is_grey(tmp_path: Path) -> None:
    source = Clip(frames=3).write(tmp_path / "a.mp4")
    transform_video(lambda frames: frames[..., :1], source, tmp_path / "b.mkv", VideoOptions(codec="ffv1"))
    for frame in decode(tmp_path / "b.mkv"):
        picture = frame.to_ndarray(format="rgb24")
        assert (picture == picture[..., :1]).all() and int(np.ptp(picture)) > 50


def test_a_grey_source_is_rgb(tmp_path: Path) -> None:
    source = Clip(frames=2, codec="ffv1", form="gray", sound=None).write(tmp_path / "a.mkv")
    found = read_first(source, tmp_path / "b.mkv")
    assert found.shape == (24, 32, 3) and (found == found[..., :1]).all()


def tag(**values: int) -> Any:
    def prepare(stream: VideoStream) -> None:
        for name, value in values.items():
            setattr(stream.codec_context, name, value)

    return prepare


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (
            Clip(codec="ffv1", form="yuva420p", sound=None),
            r"it has opacity \(yuva420p\), which is not kept; remove it first",
        ),
        (Clip(codec="ffv1", form="bgra", sound=None), r"it has opacity \(bgra\)"),
        (
            Clip(codec="ffv1", form="yuv420p10le", sound=None, prepare=tag(color_trc=16, color_primaries=9)),
            r"its colors are HDR or BT\.2020 \(primaries 9, transfer 16\); convert it to BT\.709 first",
        ),
        (Clip(codec="ffv1", form="yuv420p10le", sound=None, prepare=tag(color_trc=18)), "its colors are HDR"),
        (Clip(codec="ffv1", sound=None, prepare=tag(color_primaries=9)), "its colors are HDR"),
        (Clip(codec="ffv1", sound=None, prepare=tag(colorspace=8)), "its color matrix has the number 8; BT.601"),
    ],
)
def test_colors_that_would_be_wrong_are_refused(tmp_path: Path, clip: Clip, message: str) -> None:
    source = clip.write(tmp_path / "a.mkv")
    with pytest.raises(ArtifactError, match=rf"a\.mkv cannot be transformed: {message}"):
        transform_video(lambda frames: frames, source, tmp_path / "b.mkv")


def test_opacity_beside_the_frames_is_refused(tmp_path: Path) -> None:
    def prepare(stream: VideoStream) -> None:
        stream.metadata["alpha_mode"] = "1"

    source = Clip(codec="libvpx-vp9", sound=None, prepare=prepare).write(tmp_path / "a.webm")
    with pytest.raises(ArtifactError, match=r"a\.webm has opacity \(alpha_mode\), which is not kept"):
        transform_video(lambda frames: frames, source, tmp_path / "b.webm")


def test_ten_bits_are_reduced_and_that_is_said(tmp_path: Path) -> None:
    source = Clip(codec="ffv1", form="yuv420p10le", sound=None).write(tmp_path / "a.mkv")
    lines = transform_video(lambda frames: frames, source, tmp_path / "b.mkv")
    assert lines == (f"{source} has 10 bits of color, of which 8 are used",)


def test_fields_are_reported(tmp_path: Path) -> None:
    def prepare(stream: VideoStream) -> None:
        stream.codec_context.flags |= 1 << 18  # AV_CODEC_FLAG_INTERLACED_DCT

    source = Clip(sound=None, options={"x264-params": "tff=1"}, prepare=prepare).write(tmp_path / "a.mkv")
    lines = transform_video(lambda frames: frames, source, tmp_path / "b.mkv")
    assert any("is interlaced; both fields of a frame are transformed as one picture" in line for line in lines)
