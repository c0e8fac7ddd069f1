"""Pictures of clients whose opacity a model takes or makes."""

import io
import struct
from typing import Any, Literal

import numpy as np
import PIL.Image
import PIL.ImageCms
import pytest

from ganrt.errors import RequestError
from ganrt.images import Pictures
from ganrt.serve.photos import decode_picture, encode_pictures

RGBA = np.random.default_rng(0).integers(1, 256, (5, 7, 4), np.uint8)
"""No pixel is fully transparent: color that nobody sees is not kept."""
SRGB = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()


def write(array: Pictures, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(array).save(buffer, form, **options)
    return buffer.getvalue()


def read(content: bytes, channels: int) -> Pictures:
    return decode_picture("the picture 'x'", content, channels, 10**6)


@pytest.mark.parametrize("profile", [None, SRGB])
def test_opacity_that_is_taken_is_part_of_the_picture(profile: bytes | None) -> None:
    found = read(write(RGBA, icc_profile=profile), 4)
    np.testing.assert_array_equal(found, RGBA)
    opaque = read(write(RGBA[..., :3]), 4)
    np.testing.assert_array_equal(opaque, np.dstack([RGBA[..., :3], np.full((5, 7), 255, np.uint8)]))


def test_opacity_that_is_not_taken_is_kept_beside_it() -> None:
    np.testing.assert_array_equal(read(write(RGBA), 3), RGBA)


def make_grey_profile(gamma: float) -> bytes:
    """An ICC profile of version 2 for pictures of one channel, which Pillow cannot make."""
    white = b"".join(struct.pack(">i", round(part * 2**16)) for part in (0.9642, 1.0, 0.8249))
    curve = struct.pack(">4sIIHH", b"curv", 0, 1, round(gamma * 256), 0)
    parts = ((b"wtpt", struct.pack(">4sI", b"XYZ ", 0) + white), (b"kTRC", curve))
    start, table, body = 128 + 4 + 12 * len(parts), struct.pack(">I", len(parts)), b""
    for name, content in parts:
        table += struct.pack(">4sII", name, start + len(body), len(content))
        body += content
    head = struct.pack(">I4xI4s4s4s12x4s", start + len(body), 0x02200000, b"mntr", b"GRAY", b"XYZ ", b"acsp")
    return head.ljust(68, b"\0") + white.ljust(60, b"\0") + table + body


@pytest.mark.parametrize("channels", [3, 4])
def test_a_profile_of_grey_is_applied_to_the_colours_alone(channels: int) -> None:
    grey = np.dstack([np.full((5, 7), 128, np.uint8), RGBA[..., 3]])
    found = read(write(grey, icc_profile=make_grey_profile(1.0)), channels)
    np.testing.assert_allclose(found[..., :3].astype(int), 188, atol=1)  # half the light, in sRGB
    np.testing.assert_array_equal(found[..., 3:], RGBA[..., 3:])


@pytest.mark.parametrize("form", ["png", "webp"])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_pictures_of_all_bands_are_encoded(form: Literal["png", "webp"], bands: int) -> None:
    picture = RGBA[..., [3, 1, 2, 0][:bands]]
    with PIL.Image.open(io.BytesIO(encode_pictures(picture[None], form))) as made:
        mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[bands]
        np.testing.assert_array_equal(np.asarray(made.convert(mode)).reshape(picture.shape), picture)


def test_several_transparent_pictures_are_a_grid() -> None:
    with PIL.Image.open(io.BytesIO(encode_pictures(np.stack([RGBA, RGBA]), "png"))) as made:
        assert made.mode == "RGBA"
        np.testing.assert_array_equal(np.asarray(made)[2:7, 2:9], RGBA)


def test_channels_that_files_do_not_have_are_named() -> None:
    with pytest.raises(RequestError, match="the picture 'x' takes 5 channels, and picture files have 1, 3 or 4"):
        read(write(RGBA), 5)


def test_the_first_picture_of_what_phones_write_is_taken() -> None:
    picture, preview = (PIL.Image.new("RGB", size, "red") for size in ((16, 8), (4, 2)))
    buffer = io.BytesIO()
    picture.save(buffer, "MPO", save_all=True, append_images=[preview])
    assert read(buffer.getvalue(), 3).shape == (8, 16, 3)
