"""Writing photos: what each format holds, and what is said of what it does not."""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
import PIL.Image
import pytest
from helpers.picture_files import make_chunk, save
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ganrt.errors import RequestError
from ganrt.photos.formats import FILE_FORMATS, SEGMENT, choose_format, list_losses
from ganrt.photos.metadata import Metadata
from ganrt.photos.opacity import fill_hidden_color, resize_plane, split_opacity
from ganrt.photos.photo import Frame, Photo
from ganrt.photos.png_chunks import insert_chunks
from ganrt.photos.reader import ReadOptions, read_photo
from ganrt.photos.writer import encode_photo, round_durations

DEEP = ReadOptions(depth=16)
COLOR = np.random.default_rng(3).integers(0, 256, (6, 8, 3)).astype(np.uint8)
EXIF = PIL.Image.Exif()
EXIF.update({0x010F: "Maker", 0x4746: 5})
EXIF.get_ifd(0x8825)[1] = "N"
ALL = Metadata("PNG", (300.0, 150.0), EXIF.tobytes(), b"<x:xmpmeta/>", {"Title": "é✓", "Comment": "hi"}, 3)


def make_frames(values: np.ndarray, count: int = 1) -> tuple[Frame, ...]:
    return tuple(Frame(*split_opacity(np.roll(values, k, axis=0)), 10.0 if count > 1 else 0.0) for k in range(count))


# Pixels


@given(
    st.sampled_from(["png", "tiff"]),
    st.integers(1, 4),
    st.data(),
    st.sampled_from([np.uint8, np.uint16]),
)
def test_pixels_of_any_size_are_read_back(form: str, bands: int, data: st.DataObject, dtype: Any) -> None:
    """Also of one row or column; sixteen bits of grey with opacity become color in TIFF."""
    if dtype == np.uint16:
        pytest.importorskip("imagecodecs")
    shape = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    values = data.draw(arrays.arrays(dtype, (*shape, bands)))
    if bands in (2, 4):
        values[..., -1] = np.iinfo(dtype).max // 3
    content = encode_photo(Photo(make_frames(values)), form)
    found = read_photo(content, DEEP).frames[0].join()
    wide = dtype == np.uint16 and bands == 2 and form == "tiff"
    np.testing.assert_array_equal(found, values[..., [0, 0, 0, 1]] if wide else values)
    assert found.dtype == dtype


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_pages_of_sixteen_bits(bands: int) -> None:
    pytest.importorskip("imagecodecs")
    values = np.random.default_rng(bands).integers(1, 65535, (5, 6, bands)).astype(np.uint16)
    frames = make_frames(values, 3)
    again = read_photo(encode_photo(Photo(frames), "tiff"), DEEP).frames
    for frame, found in zip(frames, again, strict=True):
        np.testing.assert_array_equal(found.color, frame.color.repeat(3, axis=2) if bands == 2 else frame.color)


@pytest.mark.parametrize("form", ["png", "webp", "avif"])
def test_frames_become_of_one_kind(form: str) -> None:
    """One in grey, one with opacity: all have color and opacity."""
    clear = np.full((6, 8, 1), 100, np.uint8)
    frames = (Frame(COLOR[..., :1]), Frame(COLOR), Frame(COLOR[::-1], clear), Frame(COLOR[::-1, :, :1], clear))
    found = read_photo(encode_photo(Photo(frames), form)).frames
    for frame, read in zip(frames, found, strict=True):
        wanted = frame.color if frame.color.shape[2] == 3 else frame.color.repeat(3, axis=2)
        opacity = 255 if frame.opacity is None else 100
        joined = read.join()
        assert joined.shape[2] == 3 or np.abs(joined[..., 3].astype(int) - opacity).max() <= 2
        if form != "avif":
            np.testing.assert_array_equal(read.color, wanted)


def test_sizes_of_frames_may_differ_in_tiff_alone() -> None:
    photo = Photo((Frame(COLOR), Frame(COLOR[:3])))
    assert [frame.color.shape for frame in read_photo(encode_photo(photo, "tiff")).frames] == [(6, 8, 3), (3, 8, 3)]
    with pytest.raises(RequestError, match="PNG cannot hold frames of different sizes; choose tiff"):
        encode_photo(photo, "png")


@pytest.mark.parametrize(
    ("values", "count", "form", "message"),
    [
        (np.zeros((1, 65501, 1), np.uint8), 1, "jpeg", "JPEG cannot hold 65501 x 1 pixels; a side has 65500 at most"),
        (np.zeros((16384, 1, 1), np.uint8), 1, "webp", "WEBP cannot hold 1 x 16384 pixels; a side has 16383 at most"),
        (np.zeros((2, 2, 3), np.uint16), 2, "png", "PNG cannot hold 2 frames of 16 bits; choose tiff"),
        (np.zeros((2, 2, 3), np.uint16), 1, "avif", "AVIF cannot hold 16 bits; choose png, tiff"),
    ],
)
def test_pixels_that_a_format_cannot_hold(values: np.ndarray, count: int, form: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        encode_photo(Photo(make_frames(values, count)), form)


def test_errors_of_the_encoder_are_sentences() -> None:
    with pytest.raises(RequestError, match="PNG cannot hold it: "):
        encode_photo(Photo(make_frames(COLOR), Metadata(text={"✓": "keywords are Latin"})), "png")


def test_durations_add_up() -> None:
    photo = Photo(tuple(Frame(frame.color, None, 100 / 3) for frame in make_frames(COLOR, 6)))
    for form in ("png", "webp", "avif"):
        found = [frame.milliseconds for frame in read_photo(encode_photo(photo, form)).frames]
        assert sum(found) == 200 and set(found) == {33, 34}


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30))
def test_rounded_durations_are_never_off(milliseconds: list[float]) -> None:
    made = np.cumsum(round_durations(milliseconds))
    assert np.abs(made - np.cumsum(milliseconds)).max() <= 0.5 + 1e-6


# Metadata


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("form", FILE_FORMATS)
@pytest.mark.parametrize("count", [1, 2])
def test_all_is_kept_or_said(form: str, count: int, deep: bool) -> None:
    if deep:
        pytest.importorskip("imagecodecs")
    photo = Photo(make_frames(COLOR.astype(np.uint16) * 257 if deep else COLOR, count), ALL)
    try:
        content = encode_photo(photo, form)
    except RequestError:
        return
    losses = " ".join(list_losses(photo, form))
    found = read_photo(content, DEEP).metadata
    assert found.dpi == pytest.approx((300, 150), rel=1e-3)
    assert found.xmp == ALL.xmp
    assert bool(found.exif) != ("EXIF" in losses)
    if found.exif:
        exif = PIL.Image.Exif()
        exif.load(found.exif)
        assert exif[0x010F] == "Maker" and exif[0x4746] == 5 and exif.get_ifd(0x8825)[1] == "N"
    for keyword, text in ALL.text.items():
        assert (found.text.get(keyword) == text) != (keyword in losses)
    if count > 1:
        assert (found.loops == 3) != ("how often an animation is played, which was 3 times" in losses)
        shown = [frame.milliseconds for frame in read_photo(content).frames]
        assert (shown == [10, 10]) != ("how long frames are shown" in losses)
    else:
        assert "animation" not in losses and "shown" not in losses


def test_nothing_is_said_where_nothing_is_lost() -> None:
    for form in FILE_FORMATS:
        assert list_losses(Photo(make_frames(COLOR)), form) == ()


def test_jpeg_holds_little() -> None:
    exif = PIL.Image.Exif()
    exif[0x010E] = "x" * SEGMENT
    photo = Photo(make_frames(COLOR), Metadata(exif=exif.tobytes(), xmp=b"x" * 65001, text={"Comment": "y" * 65001}))
    found = read_photo(encode_photo(photo, "jpeg")).metadata
    assert not found.exif and not found.xmp and not found.text
    assert [loss.partition(" of ")[0] for loss in list_losses(photo, "jpeg")] == [
        "JPEG holds no EXIF data",
        "JPEG holds no XMP data",
        "JPEG holds no Comment",
    ]


@pytest.mark.parametrize(("name", "form"), [("JPEG", "jpeg"), ("TIFF", "tiff"), ("GIF", "png"), ("", "png")])
def test_the_format_of_a_photo(name: str, form: str) -> None:
    assert choose_format(Photo(make_frames(COLOR), Metadata(name))) == form


@given(st.lists(st.tuples(st.sampled_from([b"teSt", b"pRVt"]), st.binary(max_size=50)), max_size=4))
def test_chunks_are_put_behind_the_header(chunks: list[tuple[bytes, bytes]]) -> None:
    plain = save(COLOR)
    made = insert_chunks(plain, iter(chunks))
    put = b"".join(make_chunk(*chunk) for chunk in chunks)
    assert made == plain[:33] + put + plain[33:]
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(io.BytesIO(made))), COLOR)
    assert zlib.crc32(plain[12:29]).to_bytes(4, "big") == made[29:33]


# Planes


@given(st.data(), st.integers(1, 3), st.sampled_from([np.uint8, np.uint16]))
def test_what_is_hidden_never_shows(data: st.DataObject, bands: int, dtype: Any) -> None:
    """Visible pixels stay, the fill lies between visible values, and hidden ones make no difference."""
    shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    color, other = (data.draw(arrays.arrays(dtype, (*shape, bands))) for _ in range(2))
    opacity = data.draw(arrays.arrays(dtype, (*shape, 1), elements=st.sampled_from([0, 0, 1, np.iinfo(dtype).max])))
    seen = opacity[..., 0] > 0
    other[seen] = color[seen]
    filled = fill_hidden_color(color, opacity)
    np.testing.assert_array_equal(filled[seen], color[seen])
    if seen.any():
        np.testing.assert_array_equal(filled, fill_hidden_color(other, opacity))
        assert (filled >= color[seen].min(axis=0)).all() and (filled <= color[seen].max(axis=0)).all()


@given(
    arrays.arrays(np.uint16, st.tuples(st.integers(1, 7), st.integers(1, 7), st.just(1))),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
)
def test_planes_of_any_size(plane: np.ndarray, size: tuple[int, int]) -> None:
    made = resize_plane(plane, size)
    assert made.shape == (*size, 1) and made.dtype == plane.dtype
    flat = np.full_like(plane, plane[0, 0, 0])
    assert (resize_plane(flat, size) == flat[0, 0, 0]).all()


def test_a_photo_is_reduced_with_its_opacity() -> None:
    opacity = np.zeros((40, 60, 1), np.uint8)
    opacity[:20] = 255
    color = np.full((40, 60, 3), 70, np.uint8)
    frame = Frame(color, opacity)
    small = frame.reduce(30)
    assert small.color.shape == (20, 30, 3) and small.opacity is not None and small.opacity.shape == (20, 30, 1)
    assert (small.color == 70).all() and (small.opacity[:8] == 255).all() and not small.opacity[12:].any()
    assert frame.reduce(60) is frame and Frame(color[:1]).reduce(10).color.shape == (1, 10, 3)
    photo = Photo((frame,), Metadata(dpi=(300.0, 300.0))).map_frames(lambda one: one.reduce(30))
    assert photo.metadata.dpi == (150, 150)


def test_avif_keeps_colors_of_single_pixels() -> None:
    checks = np.zeros((32, 32, 3), np.uint8)
    checks[::2, ::2], checks[1::2, 1::2] = (250, 20, 20), (20, 20, 250)
    found = read_photo(encode_photo(Photo((Frame(checks),)), "avif", 100)).frames[0].color
    assert np.abs(found.astype(int) - checks).max() <= 12
