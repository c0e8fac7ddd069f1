"""Picture files with everything that makes them pictures: what is read, and what is written again."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageCms
import pytest
from helpers.picture_files import make_profile, save

from ganrt.errors import ArtifactError, MissingLibraryError, RequestError
from ganrt.photos.formats import FILE_FORMATS
from ganrt.photos.metadata import Metadata
from ganrt.photos.opacity import fill_hidden_color, resize_plane
from ganrt.photos.photo import Frame, Photo
from ganrt.photos.reader import ReadOptions, read_photo
from ganrt.photos.writer import encode_photo

DEEP = ReadOptions(depth=16)
PLAIN = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
RAMP = np.arange(0, 65536, 1024).astype(np.uint16).reshape(8, 8)


def save_deep(values: np.ndarray) -> bytes:
    """A PNG file of 16 bits of color, written as the specification says."""
    height, width, bands = values.shape
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[bands], 0, 0, 0))]
    parts += [(b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def only(photo: Photo) -> Frame:
    assert len(photo.frames) == 1
    return photo.frames[0]


# Opacity


@pytest.mark.parametrize("hidden", [0, 127, 255])
def test_what_is_hidden_does_not_change_the_color(hidden: int) -> None:
    opacity = np.zeros((37, 53, 1), np.uint8)
    opacity[10:20, 5:30] = 255
    color = np.full((37, 53, 3), hidden, np.uint8)
    color[10:20, 5:30] = PLAIN[0, 0]
    filled = fill_hidden_color(color, opacity)
    assert (filled == PLAIN[0, 0]).all() and not np.shares_memory(filled, color)


def test_the_nearest_colors_fill_what_is_hidden_and_visible_ones_stay() -> None:
    opacity = np.full((4, 64, 1), 255, np.uint8)
    opacity[:, 8:-8] = 0
    color = np.zeros((4, 64, 1), np.uint8)
    color[:, :8], color[:, -8:] = 40, 200
    opacity[:, :8] = 1  # hardly visible is visible
    filled = fill_hidden_color(color, opacity)
    assert (filled[:, :8] == 40).all() and (filled[:, -8:] == 200).all()
    assert (filled[:, 8:16] == 40).all() and (filled[:, -16:-8] == 200).all()


def test_nothing_is_filled_where_all_or_nothing_is_seen() -> None:
    for value in (0, 255):
        assert fill_hidden_color(PLAIN, np.full((6, 8, 1), value, np.uint8)) is PLAIN


def test_opacity_is_resized_without_overshoot() -> None:
    plane = np.zeros((4, 4, 1), np.uint16)
    plane[:, 2:] = 65535
    assert resize_plane(plane, (4, 4)) is plane
    large = resize_plane(plane, (16, 16))
    assert large.shape == (16, 16, 1) and large.dtype == np.uint16
    assert (large[:, :4] < 4000).all() and (large[:, -4:] > 61000).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA"])
def test_opacity_of_every_mode(mode: str) -> None:
    values = np.zeros((6, 8, 4), np.uint8)
    values[2:4, 2:5] = (200, 200, 200, 255)
    image = PIL.Image.fromarray(values)
    if mode in ("P", "PA"):
        image = image.convert("RGB").quantize(4)
        index = image.getpixel((0, 0))
        content = save(image, transparency=index)
    else:
        content = save(image.convert(mode))
    frame = only(read_photo(content))
    assert frame.opacity is not None
    np.testing.assert_array_equal(frame.opacity[..., 0], values[..., 3])
    assert (frame.color == 200).all()


# Color and orientation


@pytest.mark.parametrize("deep", [False, True])
def test_a_color_profile_is_applied(deep: bool) -> None:
    if deep:
        pytest.importorskip("imagecodecs")
    content = save(PLAIN, icc_profile=make_profile(swap=True))
    if deep:
        body = b"p\0\0" + zlib.compress(make_profile(swap=True))
        chunk = struct.pack(">I", len(body)) + b"iCCP" + body + struct.pack(">I", zlib.crc32(b"iCCP" + body))
        png = save_deep(PLAIN.astype(np.uint16) * 257)
        content = png[:33] + chunk + png[33:]
    found = only(read_photo(content, DEEP if deep else ReadOptions())).color
    wanted = PLAIN[..., [1, 0, 2]].astype(int) * (257 if deep else 1)
    assert np.abs(found.astype(int) - wanted).max() <= (300 if deep else 1)


def test_a_profile_of_srgb_changes_nothing() -> None:
    np.testing.assert_array_equal(only(read_photo(save(PLAIN, icc_profile=make_profile(swap=False)))).color, PLAIN)


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        (b"\0" * 16 + b"CMYK" + b"\0" * 200, "its color profile is for CMYK, and its pixels are RGB"),
        (make_profile(swap=False)[:200], "its color profile cannot be applied"),
    ],
)
def test_profiles_that_cannot_be_applied(profile: bytes, message: str) -> None:
    with pytest.raises(ArtifactError, match=f"the picture: {message}"):
        read_photo(save(PLAIN, icc_profile=profile))


def test_cmyk_becomes_rgb() -> None:
    found = only(read_photo(save(PIL.Image.fromarray(PLAIN).convert("CMYK"), "TIFF"))).color
    np.testing.assert_array_equal(found, PLAIN)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_as_pillow_does(orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    content = save(PLAIN, exif=exif)
    with PIL.Image.open(io.BytesIO(content)) as image:
        wanted = np.asarray(PIL.ImageOps.exif_transpose(image))
    photo = read_photo(content)
    np.testing.assert_array_equal(only(photo).color, wanted)
    again = read_photo(encode_photo(photo, "png"))
    np.testing.assert_array_equal(only(again).color, wanted)


# Depth


def test_sixteen_bits_of_grey() -> None:
    content = save(RAMP)
    np.testing.assert_array_equal(only(read_photo(content, DEEP)).color[..., 0], RAMP)
    np.testing.assert_array_equal(only(read_photo(content)).color[..., 0], RAMP >> 8)


@pytest.mark.parametrize("bands", [2, 3, 4])
def test_sixteen_bits_of_color(bands: int) -> None:
    pytest.importorskip("imagecodecs")
    values = np.random.default_rng(1).integers(256, 65536, (5, 7, bands)).astype(np.uint16)
    content = save_deep(values)
    frame = only(read_photo(content, DEEP))
    np.testing.assert_array_equal(frame.join(), values)
    high = only(read_photo(content)).join()  # of grey with opacity, Pillow makes RGBA
    np.testing.assert_array_equal(high[..., [0, -1]] if bands == 2 else high, values >> 8)
    for form in ("png", "tiff"):
        photo = Photo((frame,), Metadata(dpi=(300.0, 300.0), text={"Title": "é"}))
        again = read_photo(encode_photo(photo, form), DEEP)
        wanted = values[..., [0, 0, 0, 1]] if form == "tiff" and bands == 2 else values
        np.testing.assert_array_equal(only(again).join(), wanted)
        assert again.metadata.dpi == pytest.approx((300, 300), rel=1e-4)
        assert form != "png" or again.metadata.text == {"Title": "é"}


@pytest.mark.parametrize("color", [False, True])
def test_a_picture_that_would_be_black_in_eight_bits_is_rejected(color: bool) -> None:
    if color:
        pytest.importorskip("imagecodecs")
    dim = (RAMP >> 8).astype(np.uint16)
    content = save_deep(np.stack([dim] * 3, axis=2)) if color else save(dim)
    with pytest.raises(ArtifactError, match=r"its 16-bit values are 252 at most, which is black in 8 bits; ask for"):
        read_photo(content)
    assert only(read_photo(content, DEEP)).color.max() == 252
    black = save_deep(np.zeros((2, 2, 3), np.uint16)) if color else save(np.zeros((2, 2), np.uint16))
    assert not only(read_photo(black)).color.any()


def test_color_of_sixteen_bits_needs_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "imagecodecs", None)
    with pytest.raises(MissingLibraryError, match=r"16 bits of color needs imagecodecs.*ganrt\[deep\]"):
        read_photo(save_deep(np.stack([RAMP] * 3, axis=2)), DEEP)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pillow_images_of_numbers(mode: str) -> None:
    peak = 65535 if mode == "I" else 1
    numbers = (RAMP / 65535 * peak).astype(np.int32 if mode == "I" else np.float32)
    found = only(read_photo(PIL.Image.fromarray(numbers), DEEP)).color[..., 0]
    assert np.abs(found.astype(int) - RAMP).max() <= (0 if mode == "I" else 1)
    for wrong in (numbers - 1, numbers + peak):
        with pytest.raises(ArtifactError, match=rf"numbers are .*; they must be from 0 to {peak}: scale them"):
            read_photo(PIL.Image.fromarray(wrong))


def test_depths() -> None:
    with pytest.raises(RequestError, match="depth is 12; it must be 8 or 16"):
        ReadOptions(12)


# Frames


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "AVIF", "TIFF"])
def test_every_frame_is_read(form: str) -> None:
    frames = [PIL.Image.new("RGB", (16, 16), color) for color in ("red", "lime", "blue")]
    settings = {"lossless": True} if form == "WEBP" else {}
    content = save(frames[0], form, save_all=True, append_images=frames[1:], duration=70, **settings)
    photo = read_photo(content)
    near = 4 if form == "AVIF" else 0
    for frame, wanted in zip(photo.frames, frames, strict=True):
        assert np.abs(frame.color.astype(int) - np.asarray(wanted)).max() <= near
        assert frame.milliseconds == (0 if form == "TIFF" else 70)
    for name, kind in FILE_FORMATS.items():
        if kind.frames:
            again = read_photo(encode_photo(photo, name))
            assert len(again.frames) == 3
            assert name == "tiff" or form == "TIFF" or [frame.milliseconds for frame in again.frames] == [70] * 3


def test_a_phones_file_with_two_pictures_is_its_first() -> None:
    image = PIL.Image.fromarray(PLAIN)
    photo = read_photo(save(image, "MPO", save_all=True, append_images=[image.convert("L").convert("RGB")]))
    assert len(photo.frames) == 1 and photo.remarks == ("the picture holds 2 pictures, of which the first is used",)
    assert photo.metadata.format == "JPEG"


# Metadata


def test_metadata_that_still_holds_is_kept() -> None:
    exif = PIL.Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    exif.get_ifd(0x8769).update({0x9003: "2020:01:01 00:00:00", 0xA002: 8, 0xA003: 6, 0xA001: 65535})
    exif.get_ifd(0x8825)[1] = "N"
    xmp = b'<x:xmpmeta><r tiff:Orientation="6" a="b"/></x:xmpmeta>'
    content = save(PLAIN, "JPEG", exif=exif, dpi=(300, 300), comment=b"hello", xmp=xmp)
    photo = read_photo(content)
    for name in FILE_FORMATS:
        again = read_photo(encode_photo(photo, name))
        found = PIL.Image.Exif()
        found.load(again.metadata.exif)
        assert found[0x010F] == "Maker" and 0x0112 not in found
        assert dict(found.get_ifd(0x8769)) == {0x9003: "2020:01:01 00:00:00", 0xA001: 1}
        assert found.get_ifd(0x8825)[1] == "N"
        if name in ("jpeg", "png", "tiff"):
            assert again.metadata.dpi == pytest.approx((300, 300), rel=1e-4)
        if name != "tiff":
            assert b'a="b"' in again.metadata.xmp and b"Orientation" not in again.metadata.xmp
        if name in ("jpeg", "png"):
            assert again.metadata.text["Comment"] == "hello"


def test_the_size_in_print_stays() -> None:
    photo = Photo((Frame(PLAIN),), Metadata(dpi=(72.0, 96.0)))
    large = photo.map_frames(lambda frame: frame.with_color(frame.color.repeat(4, axis=0).repeat(4, axis=1)))
    assert large.metadata.dpi == (288.0, 384.0)


# Requests


@pytest.mark.parametrize(
    ("frames", "form", "quality", "message"),
    [
        ((Frame(PLAIN, PLAIN[..., :1]),), "jpeg", None, "JPEG cannot hold opacity; choose png, webp, avif, tiff"),
        ((Frame(PLAIN),) * 2, "jpeg", None, "JPEG cannot hold 2 frames; choose png, webp, avif, tiff"),
        ((Frame(PLAIN.astype(np.uint16)),), "webp", None, "WEBP cannot hold 16 bits; choose png, tiff"),
        ((Frame(PLAIN),), "png", 90, "quality is 90 for PNG; it is 1 to 100, and for jpeg, webp, avif"),
        ((Frame(PLAIN),), "jpeg", 101, "quality is 101 for JPEG"),
        ((Frame(PLAIN),), "jpeg", 0, "quality is 0 for JPEG"),
    ],
)
def test_what_a_format_cannot_hold(frames: Any, form: str, quality: int | None, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        encode_photo(Photo(frames), form, quality)


def test_full_opacity_is_none() -> None:
    photo = Photo((Frame(PLAIN, np.full((6, 8, 1), 255, np.uint8)),))
    assert only(read_photo(encode_photo(photo, "jpeg"))).opacity is None


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "notes.txt").write_text("not a picture")
    whole = save(PLAIN, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    for name, message in {
        "empty.png": "empty.png is an empty file",
        "notes.txt": "notes.txt is in none of the formats that are read: PNG, JPEG, WEBP, AVIF, TIFF, BMP, GIF",
        "cut.jpg": "cut.jpg cannot be read: ",
        "absent.png": "absent.png cannot be read: No such file",
    }.items():
        with pytest.raises(ArtifactError, match=message):
            read_photo(tmp_path / name)
    with pytest.raises(ArtifactError, match=r"the picture has 8 x 6 pixels; at most 47 are read \(--max-pixels"):
        read_photo(save(PLAIN), ReadOptions(most_pixels=47))
    assert only(read_photo(save(PLAIN), ReadOptions(most_pixels=48))).color.shape == (6, 8, 3)
    image = PIL.Image.new("RGB", (8, 6))
    content = save(image, "GIF", save_all=True, append_images=[PIL.Image.new("RGB", (8, 6), "red")])
    with pytest.raises(ArtifactError, match="8 x 6 pixels in 2 frames; at most 95 are read"):
        read_photo(content, ReadOptions(most_pixels=95))
