"""Rotation and mirroring that a file asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from av.video.stream import VideoStream
from helpers.clips import Clip, decode, draw_frame

from ganrt.errors import ArtifactError
from ganrt.images import Pictures
from ganrt.video import transform_video

IDENTITY = 1 << 16
LAST = 1 << 30


def turn(*matrix: int) -> list[int]:
    a, b, c, d = (value * IDENTITY for value in matrix)
    return [a, b, 0, c, d, 0, 0, 0, LAST]


def write(path: Path, matrix: list[int]) -> Path:
    return Clip(
        frames=3, size=(24, 40), codec="libx264rgb", form="rgb24", options={"crf": "0"}, sound=None,
        prepare=lambda stream: stream.set_display_matrix(matrix),
    ).write(path)  # fmt: skip


@pytest.mark.parametrize(
    ("matrix", "move"),
    [
        ((1, 0, 0, 1), lambda x: x),
        ((0, 1, -1, 0), lambda x: np.rot90(x, -1)),  # clockwise, as a telephone held upright
        ((-1, 0, 0, -1), lambda x: np.rot90(x, 2)),
        ((0, -1, 1, 0), lambda x: np.rot90(x)),
        ((-1, 0, 0, 1), lambda x: x[:, ::-1]),
        ((1, 0, 0, -1), lambda x: x[::-1]),
        ((0, 1, 1, 0), lambda x: x.transpose(1, 0, 2)),
        ((0, -1, -1, 0), lambda x: np.rot90(x, 2).transpose(1, 0, 2)),
    ],
)
def test_frames_are_turned_upright(tmp_path: Path, matrix: tuple[int, ...], move: object) -> None:
    source = write(tmp_path / "a.mp4", turn(*matrix))
    seen: list[Pictures] = []

    def record(frames: Pictures) -> Pictures:
        seen.append(frames[0])
        return frames

    transform_video(record, source, tmp_path / "b.mp4")
    np.testing.assert_array_equal(seen[1], move(draw_frame(1, (24, 40))))  # type: ignore[operator]
    made = decode(tmp_path / "b.mp4")[0]
    assert made.rotation == 0 and "DISPLAYMATRIX" not in str([*cast(Any, made.side_data)])
    assert (made.height, made.width) == seen[0].shape[:2]


@pytest.mark.parametrize("degrees", [90, -90])
def test_the_same_as_ffmpeg_says(tmp_path: Path, degrees: int) -> None:
    """`VideoFrame.rotation` is by how much the frame is to be rotated counterclockwise."""
    source = Clip(
        frames=1, size=(24, 40), sound=None, prepare=lambda stream: stream.set_display_rotation(degrees)
    ).write(tmp_path / "a.mp4")
    angle = decode(source)[0].rotation
    assert abs(angle) == 90
    seen: list[Pictures] = []

    def record(frames: Pictures) -> Pictures:
        seen.append(frames[0])
        return frames

    transform_video(record, source, tmp_path / "b.mp4")
    plain = Clip(frames=1, size=(24, 40), sound=None).write(tmp_path / "c.mp4")
    transform_video(record, plain, tmp_path / "d.mp4")
    np.testing.assert_array_equal(seen[0], np.rot90(seen[1], angle // 90))


def test_other_angles_are_refused(tmp_path: Path) -> None:
    source = Clip(frames=2, sound=None, prepare=lambda stream: stream.set_display_rotation(30)).write(
        tmp_path / "a.mp4"
    )
    with pytest.raises(
        ArtifactError, match=r"a\.mp4 cannot be transformed: its frames are to be shown rotated by -?29 deg"
    ):
        transform_video(lambda frames: frames, source, tmp_path / "b.mp4")


def test_the_shape_of_pixels_stays(tmp_path: Path) -> None:
    def prepare(stream: VideoStream) -> None:
        from fractions import Fraction

        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        stream.set_display_rotation(90)

    source = Clip(frames=2, sound=None, prepare=prepare).write(tmp_path / "a.mp4")
    transform_video(lambda frames: frames, source, tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as file:
        stream = file.streams.video[0]
        assert (stream.width, stream.height) == (24, 32)
        assert str(stream.sample_aspect_ratio) == "3/4"
