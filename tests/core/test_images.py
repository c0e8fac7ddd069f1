"""Images and pictures: ranges, rounding, layouts and untrusted files."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import skimage.data
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ganrt.errors import ArtifactError, BackendError, RequestError
from ganrt.images import (
    check_file_channels,
    encode_png,
    from_uint8,
    make_grid,
    read_picture,
    resize,
    show_opaque,
    to_uint8,
)
from ganrt.photos import MAX_PIXELS, Frame, Photo, encode_photo
from ganrt.spec import Range

RANGES: list[Range] = [(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0), (-2.5, 0.5)]
floats = arrays.arrays(
    np.float32,
    st.tuples(st.integers(0, 2), st.sampled_from([1, 3]), st.integers(1, 3), st.integers(1, 3)),
    elements=st.floats(-3.0, 300.0, width=32),
)


@given(floats, st.sampled_from(RANGES))
def test_to_uint8_is_the_nearest_of_256_steps(images: Any, value_range: Range) -> None:
    low, high = value_range
    found = to_uint8(images, value_range)
    exact = np.clip((images.astype(np.float64) - low) * 255 / (high - low), 0, 255).transpose(0, 2, 3, 1)
    assert found.dtype == np.uint8 and found.shape == exact.shape and found.flags.c_contiguous
    assert np.abs(found - exact).max(initial=0) <= 0.5 + 1e-4


@pytest.mark.parametrize(
    ("value", "value_range", "wanted"),
    [
        (-1.0, (-1.0, 1.0), 0),
        (1.0, (-1.0, 1.0), 255),
        (0.0, (-1.0, 1.0), 128),  # a tie, 127.5, goes up
        (0.5, (0.0, 255.0), 1),
        (254.49, (0.0, 255.0), 254),
        (-7.0, (-1.0, 1.0), 0),
        (7.0, (-1.0, 1.0), 255),
        (3e38, (-1.0, 1.0), 255),
        (-3e38, (0.0, 1.0), 0),
    ],
)
def test_single_values(value: float, value_range: Range, wanted: int) -> None:
    assert to_uint8(np.full((1, 1, 1, 1), value, np.float32), value_range).item() == wanted


def test_to_uint8_does_not_change_its_input() -> None:
    images = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    kept = images.copy()
    to_uint8(images, (-1.0, 1.0))
    np.testing.assert_array_equal(images, kept)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_values_are_rejected(bad: float) -> None:
    images = np.zeros((3, 1, 2, 2), np.float32)
    images[1, 0, 1, 0] = bad
    with pytest.raises(BackendError, match="image 1 of the batch has values that are not finite"):
        to_uint8(images, (-1.0, 1.0))


@pytest.mark.parametrize("value_range", RANGES)
def test_pictures_are_unchanged_by_a_round_trip(value_range: Range) -> None:
    every_value = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    images = from_uint8(every_value, value_range)
    assert images.dtype == np.float32 and images.shape == (1, 3, 16, 16) and images.flags.c_contiguous
    np.testing.assert_allclose([images.min(), images.max()], value_range, rtol=1e-6)
    np.testing.assert_array_equal(to_uint8(images, value_range), every_value)


def picture(channels: int = 3, height: int = 5, width: int = 7) -> Any:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("as_file", [True, False])
def test_a_png_is_read_as_it_was_encoded(channels: int, as_file: bool, tmp_path: Path) -> None:
    content = encode_png(picture(channels))
    (tmp_path / "picture.png").write_bytes(content)
    found = read_picture(tmp_path / "picture.png" if as_file else content, channels)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, picture(channels))


def test_a_png_of_the_usual_effort_holds_the_same_picture_in_more_bytes() -> None:
    smooth = np.indices((200, 200)).sum(axis=0).astype(np.uint8)[..., None].repeat(3, axis=2)
    quick = encode_png(smooth, {"seed": "7"}, smallest=False)
    assert len(encode_png(smooth, {"seed": "7"})) < len(quick) < 1.5 * len(encode_png(smooth, {"seed": "7"}))
    np.testing.assert_array_equal(read_picture(quick, 3), smooth)


def test_a_quick_png_of_a_photograph_is_hardly_larger_than_that_of_the_usual_effort() -> None:
    photo = skimage.data.astronaut()
    usual = io.BytesIO()
    PIL.Image.fromarray(photo).save(usual, "PNG")
    quick = encode_png(photo, smallest=False)
    assert len(quick) < 1.01 * len(usual.getvalue())
    assert len(encode_photo(Photo((Frame(photo),)), "png")) == len(quick)


def test_a_png_carries_text(tmp_path: Path) -> None:
    content = encode_png(picture(), {"seed": "7", "label": "\u00e9t\u00e9 \u2713"})
    with PIL.Image.open(io.BytesIO(content)) as image:
        assert image.text == {"seed": "7", "label": "\u00e9t\u00e9 \u2713"}  # type: ignore[attr-defined]
    np.testing.assert_array_equal(read_picture(content, 3), picture())


def save_picture(image: PIL.Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


GRADIENT = np.arange(0, 2**16, 257, dtype=np.uint16).reshape(16, 16)
PALETTE = PIL.Image.new("P", (2, 2), 1)
PALETTE.putpalette([0, 0, 0, 250, 100, 50])
TRANSPARENT = PIL.Image.new("RGBA", (2, 2), (250, 100, 50, 0))
EXIF = PIL.Image.Exif()
EXIF[0x0112] = 6  # "the camera was held upright": rotate by 90 degrees


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (save_picture(PIL.Image.fromarray(GRADIENT)), (GRADIENT >> 8)[..., None].repeat(3, axis=2)),
        (save_picture(PALETTE), np.full((2, 2, 3), [250, 100, 50])),
        (save_picture(PALETTE, transparency=b"\x00\x80"), np.full((2, 2, 3), [250, 100, 50])),
        (save_picture(TRANSPARENT), np.full((2, 2, 3), [250, 100, 50])),
        (save_picture(TRANSPARENT.convert("LA")), np.full((2, 2, 3), 139)),
        (save_picture(PIL.Image.new("1", (2, 2), 1)), np.full((2, 2, 3), 255)),
        (save_picture(PIL.Image.new("CMYK", (8, 8)), "JPEG"), np.full((8, 8, 3), 255)),
        (save_picture(PIL.Image.fromarray(picture()), exif=EXIF), np.rot90(picture(), -1)),
        (save_picture(PIL.Image.fromarray(picture()), "WEBP", lossless=True), picture()),
        (
            save_picture(PALETTE, save_all=True, append_images=[PIL.Image.new("P", (2, 2), 0)]),
            np.full((2, 2, 3), [250, 100, 50]),
        ),
    ],
    ids=["16 bit", "palette", "palette+alpha", "RGBA", "LA", "1 bit", "CMYK", "EXIF", "WebP", "animation"],
)
def test_every_kind_of_picture_becomes_rgb(content: bytes, wanted: Any) -> None:
    np.testing.assert_array_equal(read_picture(content, 3), wanted)


OPAQUE = save_picture(PIL.Image.fromarray(picture()))


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (OPAQUE, np.concatenate([picture(), np.full((5, 7, 1), 255, np.uint8)], axis=2)),
        (save_picture(PIL.Image.fromarray(picture(4))), picture(4)),
        (save_picture(PIL.Image.fromarray(picture(4)), "WEBP", lossless=True, exact=True), picture(4)),
        (save_picture(TRANSPARENT), np.full((2, 2, 4), [250, 100, 50, 0])),
        (save_picture(TRANSPARENT.convert("LA")), np.full((2, 2, 4), [139, 139, 139, 0])),
        (save_picture(PALETTE, transparency=b"\x00\x80"), np.full((2, 2, 4), [250, 100, 50, 128])),
        (save_picture(PIL.Image.new("CMYK", (8, 8)), "JPEG"), np.full((8, 8, 4), 255)),
        (save_picture(PIL.Image.fromarray(GRADIENT)), np.dstack([*[GRADIENT >> 8] * 3, np.full((16, 16), 255)])),
        (save_picture(PIL.Image.fromarray(picture(4)), exif=EXIF), np.rot90(picture(4), -1)),
    ],
    ids=["RGB", "RGBA", "WebP", "transparent", "LA", "palette+alpha", "CMYK", "16 bit", "EXIF"],
)
def test_every_kind_of_picture_has_its_opacity(content: bytes, wanted: Any) -> None:
    np.testing.assert_array_equal(read_picture(content, 4), wanted)


def test_a_grid_of_transparent_pictures_keeps_them_and_is_transparent_around() -> None:
    pictures = np.stack([picture(4), picture(4)[::-1]])
    sheet = read_picture(encode_png(make_grid(pictures, columns=2, pad=1)), 4)
    np.testing.assert_array_equal(sheet[1:6, 1:8], pictures[0])
    np.testing.assert_array_equal(sheet[1:6, 9:16], pictures[1])
    assert not sheet[[0, 6], :, 3].any() and not sheet[:, [0, 8, 16], 3].any()


def test_transparency_is_shown_as_a_checkerboard() -> None:
    pictures = np.zeros((2, 17, 9, 4), np.uint8)
    pictures[..., 0], pictures[1, :, :, 3] = 200, 255
    clear, opaque = show_opaque(pictures)
    assert clear[[0, 7, 8, 16], 0].tolist() == [[160] * 3, [160] * 3, [96] * 3, [160] * 3]
    assert clear[0, [7, 8]].tolist() == [[160] * 3, [96] * 3] and (opaque == [200, 0, 0]).all()
    pictures[0, :, :, 3] = 51
    assert show_opaque(pictures)[0, 0, 0].tolist() == [168, 128, 128]
    assert show_opaque(pictures[..., :3]).shape == (2, 17, 9, 3)


@pytest.mark.parametrize("channels", [2, 5])
def test_channels_that_files_do_not_have_are_rejected(channels: int) -> None:
    with pytest.raises(RequestError, match=rf"x takes {channels} channels, and picture files have 1, 3 or 4; give a u"):
        check_file_channels("x", channels)


def test_colours_become_grey_by_their_luma() -> None:
    assert read_picture(save_picture(TRANSPARENT), 1).tolist() == [[[139], [139]], [[139], [139]]]


GOOD = encode_png(picture())


def make_bomb() -> bytes:
    """A PNG file with a valid header of 12000 x 12000 pixels and no data."""
    content = bytearray(save_picture(PIL.Image.new("L", (1, 1))))
    content[16:24] = (12000).to_bytes(4, "big") * 2
    import zlib

    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is an empty file"),
        (b"\x89PNG\r\n\x1a\n", "begins as a PNG file does, but it is damaged"),
        (b"<svg/>" * 9, "is in none of the formats that are read: PNG, JPEG, WEBP"),
        (GOOD[: len(GOOD) // 2], "cannot be read"),
        (save_picture(PIL.Image.new("L", (4, 4)), "GIF"), "is in none of the formats"),
        (save_picture(PIL.Image.new("L", (4, 4)), "TIFF"), "is in none of the formats"),
        (save_picture(PIL.Image.new("L", (16, 16)), "JPEG")[:300], "cannot be read"),
        (make_bomb(), "cannot be read|144000000 pixels|at most"),
    ],
    ids=["empty", "signature", "SVG", "cut PNG", "GIF", "TIFF", "cut JPEG", "bomb"],
)
def test_other_files_are_rejected(content: bytes, reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason):
        read_picture(content, 3)


@pytest.mark.parametrize("length", range(len(GOOD)))
def test_a_truncated_file_is_rejected_unless_all_pixels_are_there(length: int) -> None:
    try:
        np.testing.assert_array_equal(read_picture(GOOD[:length], 3), picture())
    except ArtifactError:
        assert length < len(GOOD) - 12  # the length of the end mark


def test_a_large_picture_is_rejected_by_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(ArtifactError, match=f"12000 x 12000 pixels; at most {MAX_PIXELS} are read"):
        read_picture(make_bomb(), 3)


@pytest.mark.parametrize("name", ["missing.png", "."])
def test_the_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=f"{tmp_path}.* cannot be read"):
        read_picture(tmp_path / name, 3)


@given(
    st.sampled_from(["PNG", "JPEG", "WEBP"]),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
)
def test_damaged_pictures_are_decoded_or_rejected(kind: str, changes: list[tuple[int, int]]) -> None:
    content = bytearray(save_picture(PIL.Image.fromarray(picture()), kind, exif=EXIF))
    for place, value in changes:
        content[place % len(content)] = value
    try:
        assert read_picture(bytes(content), 3).dtype == np.uint8
    except ArtifactError as error:
        assert "the picture" in str(error)


def test_a_grid_holds_every_picture_in_order() -> None:
    pictures = np.stack([np.full((2, 3, 1), 50 + k, np.uint8) for k in range(5)])
    sheet = make_grid(pictures, columns=2, pad=1, scale=2)
    assert sheet.shape == (3 * (4 + 1) + 1, 2 * (6 + 1) + 1, 1)
    tops, lefts = (1, 1, 6, 6, 11), (1, 8, 1, 8, 1)
    for k, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        assert (sheet[top : top + 4, left : left + 6] == 50 + k).all()
    assert (sheet == 24).sum() == sheet.size - 5 * 24


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (4, 2), (5, 3), (9, 3), (10, 4), (64, 8)])
def test_a_grid_is_about_square(count: int, columns: int) -> None:
    sheet = make_grid(np.zeros((count, 4, 4, 3), np.uint8), pad=0)
    assert sheet.shape == (4 * -(-count // columns), 4 * columns, 3)


@pytest.mark.parametrize("options", [{"columns": 0}, {"columns": -1}, {"scale": 0}, {"pad": -1}])
def test_invalid_grids_are_rejected(options: dict[str, int]) -> None:
    with pytest.raises(RequestError, match="a grid of 2 pictures"):
        make_grid(np.zeros((2, 4, 4, 3), np.uint8), **options)


def test_an_empty_grid_is_rejected() -> None:
    with pytest.raises(RequestError, match="a grid of 0 pictures"):
        make_grid(np.zeros((0, 4, 4, 3), np.uint8))


@pytest.mark.parametrize("channels", [1, 3])
def test_resize(channels: int) -> None:
    flat = np.full((8, 6, channels), 77, np.uint8)
    np.testing.assert_array_equal(resize(flat, (3, 5)), np.full((3, 5, channels), 77))
