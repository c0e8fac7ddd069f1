"""Kinds of picture files that are rare, and read wrongly or in part by Pillow alone: compared with what their
specifications say."""

from __future__ import annotations

import io
import re
import struct
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from helpers.picture_files import (
    GREY,
    GREY_AND_OPACITY,
    PALETTE,
    RGB,
    SIGNATURE,
    make_chunk,
    make_png,
    make_profile,
    save,
    turn,
)
from hypothesis import given
from hypothesis import strategies as st

from ganrt.errors import ArtifactError, RequestError
from ganrt.photos.color_numbers import make_profile as make_numbered_profile
from ganrt.photos.opacity import turn_upright
from ganrt.photos.photo import Frame, Photo
from ganrt.photos.reader import ReadOptions, read_photo
from ganrt.photos.source import PIXEL_LIMIT

DEEP = ReadOptions(depth=16)
DRAW = np.random.default_rng(3)
COLOR = DRAW.integers(0, 256, (12, 16, 3)).astype(np.uint8)
COLOR16 = DRAW.integers(256, 65536, (12, 16, 3)).astype(np.uint16)
GREY16 = COLOR16[..., 0]
REDUCED = "the picture has 16 bits a value, of which 8 are kept; a depth of 16 keeps all"


def only(photo: Photo) -> Frame:
    assert len(photo.frames) == 1
    return photo.frames[0]


def save_tiff(values: np.ndarray, **settings: Any) -> bytes:
    tifffile = pytest.importorskip("tifffile")
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, metadata=None, **settings)
    return buffer.getvalue()


# Opacity by a color


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("value", [0, 1])
def test_one_grey_is_transparent(bits: int, value: int) -> None:
    values = (COLOR[..., 0].astype(int) % 2**bits).astype(np.uint8)
    values[0, :2] = 0, 1
    frame = only(read_photo(make_png(values, bits, GREY, [(b"tRNS", struct.pack(">H", value))])))
    assert frame.opacity is not None
    np.testing.assert_array_equal(frame.opacity[..., 0], np.where(values == value, 0, 255))
    seen = values != value
    np.testing.assert_array_equal(frame.color[seen][:, 0], values[seen] * (255 // (2**bits - 1)))


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("bands", [1, 3])
def test_one_color_of_sixteen_bits_is_transparent(depth: int, bands: int) -> None:
    """Its neighbour, of the same high byte, is not."""
    pytest.importorskip("imagecodecs")
    values = COLOR16[..., :bands].copy()
    values[5] = values[0, 0]
    values[6] = values[0, 0] ^ 1
    key = b"".join(struct.pack(">H", value) for value in values[0, 0])
    frame = only(read_photo(make_png(values, 16, RGB if bands == 3 else GREY, [(b"tRNS", key)]), ReadOptions(depth)))
    clear = (values == values[0, 0]).all(axis=2)
    assert frame.opacity is not None and frame.depth == depth
    np.testing.assert_array_equal(frame.opacity[..., 0] == 0, clear)
    np.testing.assert_array_equal(frame.color[~clear], values[~clear] >> (16 - depth))


@pytest.mark.parametrize("bits", [4, 8])
def test_each_color_of_a_palette_has_its_opacity(bits: int) -> None:
    palette = COLOR[0, :8]
    index = (COLOR[..., 1] % 8).astype(np.uint8)
    some = bytes([0, 30, 60, 255, 128])
    content = make_png(index, bits, PALETTE, [(b"PLTE", palette.tobytes()), (b"tRNS", some)])
    frame = only(read_photo(content))
    opacity = np.frombuffer(some + b"\xff" * 3, np.uint8)[index]
    assert frame.opacity is not None
    np.testing.assert_array_equal(frame.opacity[..., 0], opacity)
    np.testing.assert_array_equal(frame.color[opacity > 0], palette[index][opacity > 0])


def test_grey_with_opacity_of_sixteen_bits_stays_grey() -> None:
    values = np.stack([GREY16, np.full_like(GREY16, 30000)], axis=2)
    frame = only(read_photo(make_png(values, 16, GREY_AND_OPACITY)))
    np.testing.assert_array_equal(frame.join(), values >> 8)


def test_a_dim_picture_is_not_black_because_it_is_opaque() -> None:
    pytest.importorskip("imagecodecs")
    values = np.stack([GREY16 >> 8, np.full_like(GREY16, 65535)], axis=2)
    with pytest.raises(ArtifactError, match="255 at most, which is black in 8 bits"):
        read_photo(make_png(values, 16, GREY_AND_OPACITY))


# TIFF


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    "settings",
    [{}, {"tile": (16, 16)}, {"compression": "zlib", "predictor": True}, {"planarconfig": "separate"}],
    ids=["strips", "tiles", "predictor", "planes"],
)
@pytest.mark.parametrize("depth", [8, 16])
def test_tiff_of_sixteen_bits(order: Any, settings: dict[str, Any], depth: int) -> None:
    stored = np.moveaxis(COLOR16, 2, 0).copy() if "planarconfig" in settings else COLOR16
    content = save_tiff(stored, byteorder=order, photometric="rgb", **settings)
    photo = read_photo(content, ReadOptions(depth))
    np.testing.assert_array_equal(only(photo).color, COLOR16 >> (16 - depth))
    assert photo.remarks == ((REDUCED,) if depth == 8 else ())


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_is_turned_once(orientation: int, deep: bool) -> None:
    values = COLOR16 if deep else COLOR
    content = save_tiff(values, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    np.testing.assert_array_equal(only(read_photo(content, DEEP)).color, turn(values, orientation))


def test_orientation_of_a_png_behind_its_pixels() -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    end = make_chunk(b"IEND", b"")
    content = make_png(COLOR, 8, RGB).removesuffix(end) + make_chunk(b"eXIf", exif.tobytes()[6:]) + end
    np.testing.assert_array_equal(only(read_photo(content)).color, turn(COLOR, 6))


@given(st.integers(0, 9), st.integers(1, 4), st.integers(1, 4))
def test_pixels_are_turned_as_the_orientation_says(orientation: int, height: int, width: int) -> None:
    values = np.arange(height * width).reshape(height, width, 1)
    wanted = turn(values, orientation) if 1 <= orientation <= 8 else values
    np.testing.assert_array_equal(turn_upright(values, orientation), wanted)


def test_white_may_be_zero() -> None:
    for values in (COLOR[..., 0], GREY16):
        found = only(read_photo(save_tiff(values, photometric="miniswhite"), DEEP)).color[..., 0]
        np.testing.assert_array_equal(found, np.iinfo(values.dtype).max - values)


def test_twelve_bits_become_sixteen() -> None:
    content = save_tiff(GREY16 >> 4, photometric="minisblack", bitspersample=12)
    found = only(read_photo(content, DEEP)).color[..., 0]
    np.testing.assert_array_equal(found, (GREY16 >> 4).astype(int) * 65535 // 4095)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colors_multiplied_by_opacity_are_divided_by_it(dtype: type) -> None:
    peak = np.iinfo(dtype).max
    color = np.full((4, 6, 3), (0.8, 0.4, 0.2)) * peak
    opacity = np.linspace(0.5, 1, 24).reshape(4, 6, 1)
    stored = np.rint(np.concatenate([color * opacity, opacity * peak], axis=2)).astype(dtype)
    frame = only(read_photo(save_tiff(stored, photometric="rgb", extrasamples=["assocalpha"]), DEEP))
    assert np.abs(frame.color - color).max() <= 3
    assert frame.opacity is not None and (frame.opacity == stored[..., 3:]).all()


@pytest.mark.parametrize("color", [COLOR, COLOR16], ids=["8", "16"])
def test_a_channel_of_no_meaning_is_said(color: np.ndarray) -> None:
    content = save_tiff(np.dstack([color, color[..., :1]]), photometric="rgb", extrasamples=["unspecified"])
    photo = read_photo(content, DEEP)
    np.testing.assert_array_equal(only(photo).join(), color)
    assert photo.remarks == ("the picture has a channel that is neither color nor opacity, which is left out",)


@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        (COLOR[..., 0].astype(np.int8), {}, "its values are signed numbers of 8 bits; scale them to 0 to 255"),
        (COLOR[..., 0].astype(np.int16) - 99, {}, r"its whole numbers are -\d+ to \d+; they must be from 0 to 65535"),
        (COLOR[..., 0].astype(np.float32), {}, "its floating-point numbers are .*; they must be from 0 to 1: scale"),
        (np.full((4, 4), np.nan, np.float32), {}, "its floating-point numbers are nan to nan"),
        (COLOR.astype(np.float32), {"photometric": "rgb"}, "begins as a TIFF file does, but it is damaged or of a ki"),
    ],
)
def test_numbers_that_are_no_colors(values: np.ndarray, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        read_photo(save_tiff(values, **({"photometric": "minisblack"} | settings)))


def test_cmyk_of_sixteen_bits_is_reduced_with_a_word() -> None:
    cmyk = np.asarray(PIL.Image.fromarray(COLOR).convert("CMYK")).astype(np.uint16) * 257
    photo = read_photo(save_tiff(cmyk, photometric="separated"), DEEP)
    np.testing.assert_array_equal(only(photo).color, COLOR)
    assert photo.remarks == ("the picture has 16 bits a value of CMYK, of which 8 are kept",)


def test_lab_becomes_rgb() -> None:
    smooth = np.full((8, 8, 3), (200, 120, 40), np.uint8)
    found = only(read_photo(save(PIL.Image.fromarray(smooth).convert("LAB"), "TIFF"))).color
    assert np.abs(found.astype(int) - smooth).max() <= 3


def test_pages_may_differ() -> None:
    images = [
        PIL.Image.fromarray(values) for values in (COLOR, COLOR[..., 0], GREY16, np.dstack([COLOR, COLOR])[:5, :, :4])
    ]
    content = save(images[0], "TIFF", save_all=True, append_images=images[1:])
    photo = read_photo(content, DEEP)
    assert [frame.join().shape for frame in photo.frames] == [(12, 16, 3), (12, 16, 1), (12, 16, 1), (5, 16, 4)]
    assert [frame.depth for frame in photo.frames] == [8, 8, 16, 8]
    with pytest.raises(ArtifactError, match="its frames have more than 800 pixels together"):
        read_photo(
            save(images[0].crop((0, 0, 2, 2)), "TIFF", save_all=True, append_images=images * 2),
            ReadOptions(most_pixels=800),
        )


def test_every_page_of_sixteen_bits() -> None:
    pytest.importorskip("imagecodecs")
    tifffile = pytest.importorskip("tifffile")
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        for page in (COLOR16, COLOR16[::-1]):
            file.write(page, photometric="rgb", metadata=None, contiguous=False)
    for frame, wanted in zip(read_photo(buffer.getvalue(), DEEP).frames, (COLOR16, COLOR16[::-1]), strict=True):
        np.testing.assert_array_equal(frame.color, wanted)


# Color


@pytest.mark.parametrize("bands", [1, 3])
def test_gamma_is_applied(bands: int) -> None:
    """Linear light, as the formula of IEC 61966-2-1 makes sRGB of it."""
    steps = np.arange(256, dtype=np.uint8).reshape(16, 16)
    values = steps[..., None].repeat(bands, axis=2)
    content = make_png(values, 8, GREY if bands == 1 else RGB, [(b"gAMA", struct.pack(">I", 100000))])
    light = values / 255
    wanted = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(only(read_photo(content)).color - wanted).max() <= 1.5


P3 = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
TO_SRGB = np.array([[1.22494, -0.22494, 0], [-0.042057, 1.042057, 0], [-0.019638, -0.078636, 1.098274]])
"""Linear Display P3 to linear sRGB (from the chromaticities of both)."""


@pytest.mark.parametrize("chunk", [(b"cICP", bytes([12, 13, 0, 1])), (b"cHRM", P3)])
@pytest.mark.parametrize("bits", [8, 16])
def test_primaries_are_applied(chunk: tuple[bytes, bytes], bits: int) -> None:
    if bits == 16:
        pytest.importorskip("imagecodecs")
    content = make_png(COLOR.astype(np.uint16) * (257 if bits == 16 else 1), bits, RGB, [chunk])
    color = COLOR / 255
    light = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4) @ TO_SRGB.T
    made = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clip(0) ** (1 / 2.4) - 0.055).clip(0, 1)
    frame = only(read_photo(content, DEEP))
    assert frame.depth == bits
    assert np.abs(frame.color / np.iinfo(frame.color.dtype).max - made).max() < 2 / 255


@pytest.mark.parametrize(
    "chunks",
    [
        [(b"gAMA", struct.pack(">I", 45455))],
        [(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))],
        [(b"cICP", bytes([1, 13, 0, 1])), (b"gAMA", struct.pack(">I", 100000))],
        [(b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 100000))],
        [(b"iCCP", b"p\0\0" + zlib.compress(make_profile(swap=False))), (b"gAMA", struct.pack(">I", 100000))],
        [(b"cHRM", bytes(32))],
        [(b"gAMA", bytes(4))],
    ],
    ids=["gamma", "primaries", "cICP first", "sRGB first", "profile first", "no primaries", "no gamma"],
)
def test_color_spaces_that_are_srgb_change_nothing(chunks: list[tuple[bytes, bytes]]) -> None:
    np.testing.assert_array_equal(only(read_photo(make_png(COLOR, 8, RGB, chunks))).color, COLOR)


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused(transfer: int, name: str) -> None:
    content = make_png(COLOR16, 16, RGB, [(b"cICP", bytes([9, transfer, 0, 1]))])
    with pytest.raises(ArtifactError, match=rf"the picture: its values are HDR \({name}\); convert it to SDR first"):
        read_photo(content)


def test_avif_says_its_color_space_and_depth() -> None:
    codecs = pytest.importorskip("imagecodecs")
    values = np.full((16, 16, 3), (120, 200, 90), np.uint8)
    plain = only(read_photo(codecs.avif_encode(values, level=90, primaries=1, transfer=13, matrix=1))).color
    wide = only(read_photo(codecs.avif_encode(values, level=90, primaries=12, transfer=13, matrix=1))).color
    assert np.abs(plain.astype(int) - values).max() <= 3 and plain[8, 8, 0] - 25 > wide[8, 8, 0]
    with pytest.raises(ArtifactError, match="HDR"):
        read_photo(codecs.avif_encode(values, level=90, primaries=9, transfer=16, matrix=9))
    deep = read_photo(codecs.avif_encode(values.astype(np.uint16) * 4, level=90, bitspersample=10))
    assert deep.remarks == ("the picture has more than 8 bits a value, of which 8 are kept",)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_grey_pixels_may_have_a_profile_of_colors(form: str) -> None:
    grey = np.full((8, 8), 90, np.uint8)
    same = only(read_photo(save(grey, form, icc_profile=make_profile(swap=False)))).color
    np.testing.assert_array_equal(same[..., 0], grey)
    swapped = only(read_photo(save(grey, form, icc_profile=make_profile(swap=True)))).color
    assert np.abs(swapped.astype(int) - 90).max() <= 2


def test_opacity_and_palettes_have_profiles_too() -> None:
    values = np.dstack([COLOR, np.full(COLOR.shape[:2], 200, np.uint8)])
    frame = only(read_photo(save(values, icc_profile=make_profile(swap=True))))
    assert np.abs(frame.color.astype(int) - COLOR[..., [1, 0, 2]]).max() <= 1
    assert frame.opacity is not None and (frame.opacity == 200).all()
    palette = PIL.Image.fromarray(COLOR).quantize(8)
    found = only(read_photo(save(palette, icc_profile=make_profile(swap=True)))).color
    assert np.abs(found.astype(int) - np.asarray(palette.convert("RGB"))[..., [1, 0, 2]]).max() <= 1


def test_profiles_of_images_whose_colors_were_converted() -> None:
    image = PIL.Image.fromarray(COLOR).convert("CMYK")
    image.info["icc_profile"] = b"\0" * 16 + b"CMYK" + b"\0" * 200
    photo = read_photo(image.convert("RGB"))
    np.testing.assert_array_equal(only(photo).color, COLOR)
    assert photo.remarks == (
        "the picture has a color profile that is of no use since its colors were converted, and is left out",
    )
    with pytest.raises(ArtifactError, match="its color profile is damaged: it has 1 bytes"):
        read_photo(save(COLOR, icc_profile=b"x"))


# Frames


def test_the_picture_that_is_no_frame_is_left_out_with_a_word() -> None:
    frames = [PIL.Image.fromarray(COLOR[::step]) for step in (1, -1)]
    white = PIL.Image.new("RGB", (16, 12), "white")
    photo = read_photo(save(white, save_all=True, default_image=True, append_images=frames, duration=[5, 7], loop=2))
    assert [frame.milliseconds for frame in photo.frames] == [5, 7] and photo.metadata.loops == 2
    np.testing.assert_array_equal(photo.frames[0].color, COLOR)
    assert photo.remarks == ("the picture has a picture for programs that show no animations, which is left out",)


@pytest.mark.parametrize(("repeats", "plays"), [(None, 1), (0, 0), (3, 4)])
def test_how_often_a_gif_is_played(repeats: int | None, plays: int) -> None:
    frames = [PIL.Image.new("RGB", (4, 4), color) for color in ("red", "lime")]
    settings = {} if repeats is None else {"loop": repeats}
    content = save(frames[0], "GIF", save_all=True, append_images=frames[1:], **settings)
    assert read_photo(content).metadata.loops == plays


def test_a_gif_that_was_cut_between_frames_is_said() -> None:
    frames = [PIL.Image.fromarray(COLOR[..., k]) for k in range(3)]
    content = save(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)
    assert not read_photo(content).remarks
    silent = 0
    for length in range(800, len(content)):
        try:
            photo = read_photo(content[:length])
        except ArtifactError:
            continue
        assert photo.remarks == ("the picture has no end mark: it may have been cut, and have had more frames",)
        silent += len(photo.frames) < 3
    assert silent


def test_frames_of_sixteen_bits() -> None:
    codecs = pytest.importorskip("imagecodecs")
    photo = read_photo(codecs.apng_encode(np.stack([COLOR16, COLOR16[::-1]])), DEEP)
    assert len(photo.frames) == 2 and photo.frames[0].depth == 8
    assert photo.remarks == ("the picture has 16 bits a value of an animation, of which 8 are kept",)


def test_a_pillow_image_stays_at_its_frame() -> None:
    frames = [PIL.Image.new("RGB", (4, 4), color) for color in ("red", "lime", "blue")]
    with PIL.Image.open(io.BytesIO(save(frames[0], "GIF", save_all=True, append_images=frames[1:]))) as image:
        image.seek(1)
        assert len(read_photo(image).frames) == 3 and image.tell() == 1
        assert len(read_photo(image, ReadOptions(all_frames=False)).frames) == 1


def test_a_pillow_image_has_no_sixteen_bits_of_color() -> None:
    with PIL.Image.open(io.BytesIO(make_png(COLOR16, 16, RGB))) as image:
        assert read_photo(image).remarks == (REDUCED,)
    message = "a Pillow image holds 8 bits of color; give the file for a depth of 16"
    with PIL.Image.open(io.BytesIO(make_png(COLOR16, 16, RGB))) as image, pytest.raises(RequestError, match=message):
        read_photo(image, DEEP)


# Metadata

CUT_EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x0f\0\x02\0\0\0"
IPTC = b"\xff\xed\0\x1cPhotoshop 3.0\x008BIM\x04\x04" + bytes(6)


@pytest.mark.parametrize(
    ("content", "remark"),
    [
        (make_png(COLOR, 8, RGB, [(b"pHYs", struct.pack(">IIB", 2, 1, 0))]), "has pixels that are not square .2 to 1."),
        (
            save(COLOR, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x0f\0\x02\0\0\0"),
            "is partly damaged: Corrupt EXIF",
        ),
        (
            save(COLOR, "JPEG").replace(
                b"\xff\xd8", b"\xff\xd8\xff\xed\0\x1cPhotoshop 3.0\x008BIM\x04\x04" + bytes(6), 1
            ),
            "holds data of Photoshop or IPTC, which is left out",
        ),
    ],
)
def test_what_is_not_kept_is_said(content: bytes, remark: str) -> None:
    (found,) = read_photo(content).remarks
    assert found.startswith("the picture ")
    assert re.search(remark, found)


@pytest.mark.parametrize(("unit", "dpi"), [(2, 300), (3, 762), (1, None)])
def test_resolution_of_exif_data(unit: int, dpi: int | None) -> None:
    exif = PIL.Image.Exif()
    exif.update({0x011A: 300.0, 0x011B: 300.0, 0x0128: unit})
    found = read_photo(save(COLOR, "WEBP", exif=exif)).metadata.dpi
    assert found == (dpi and pytest.approx((dpi, dpi)))


# Files


class Pipe(io.BytesIO):
    def seekable(self) -> bool:
        return False


def test_file_objects(tmp_path: Path) -> None:
    content = save(COLOR)
    behind = io.BytesIO(content)
    behind.read()
    (tmp_path / "photo.png").write_bytes(content)
    for source in (behind, Pipe(content), bytearray(content), memoryview(content)):
        np.testing.assert_array_equal(only(read_photo(source)).color, COLOR)  # type: ignore[arg-type]
    assert not behind.closed
    with (
        (tmp_path / "photo.png").open(encoding="latin-1") as text,
        pytest.raises(RequestError, match=r"photo.png is open as text; open it in binary mode: open\(path, 'rb'\)"),
    ):
        read_photo(text)  # type: ignore[arg-type]
    for wrong in (io.StringIO("a"), tmp_path, "a\0b"):
        with pytest.raises((RequestError, ArtifactError), match=r"open as text|Is a directory|embedded null byte"):
            read_photo(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "content", [b"%PDF-1.4\n" + bytes(90), b"8BPS\0\1" + bytes(90), b"<svg/>" * 9, save(COLOR, "ICO")]
)
def test_other_formats(content: bytes) -> None:
    with pytest.raises(ArtifactError, match="is in none of the formats that are read: PNG, JPEG, WEBP, AVIF, TIFF"):
        read_photo(content)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF"])
def test_no_part_of_a_file_is_taken_for_all_of_it(form: str) -> None:
    content = save(COLOR, form)
    whole = only(read_photo(content)).color
    np.testing.assert_array_equal(only(read_photo(content + b"garbage" * 9)).color, whole)
    for length in range(1, len(content), max(1, len(content) // 40)):
        try:
            found = only(read_photo(content[:length])).color
        except ArtifactError:
            continue
        np.testing.assert_array_equal(found, whole)


def make_huge(side: int) -> bytes:
    """A header of a square picture, and no pixels."""
    header = make_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return SIGNATURE + header + make_chunk(b"IDAT", zlib.compress(b"")) + make_chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_000, 50_000])
def test_the_limit_of_pixels_is_ours_alone(side: int) -> None:
    """Pillow's limits lie between these sizes: it warns above the first, and rejects above the second."""
    limit = PIL.Image.MAX_IMAGE_PIXELS
    assert limit is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ArtifactError, match=f"has {side} x {side} pixels; at most 67108864 are read"):
            read_photo(make_huge(side))
        with pytest.raises(ArtifactError, match="cannot be read: image file is truncated"):
            read_photo(make_huge(20_000), ReadOptions(most_pixels=10**9))
    assert limit == PIL.Image.MAX_IMAGE_PIXELS


def test_the_limit_comes_back_when_the_last_thread_is_done() -> None:
    limit = PIL.Image.MAX_IMAGE_PIXELS
    assert limit is not None
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with PIXEL_LIMIT.lift():
            entered.set()
            leave.wait()

    thread = threading.Thread(target=hold)
    with PIXEL_LIMIT.lift():
        thread.start()
        entered.wait()
    assert PIL.Image.MAX_IMAGE_PIXELS is None
    leave.set()
    thread.join()
    assert limit == PIL.Image.MAX_IMAGE_PIXELS


@given(st.sampled_from(["PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF"]), st.data())
def test_damaged_files_are_read_or_rejected(form: str, data: st.DataObject) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    settings = {"exif": exif} if form not in ("BMP", "GIF") else {}
    content = bytearray(save(COLOR, form, **settings))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=6)):
        content[place] = data.draw(st.integers(0, 255))
    try:
        read_photo(bytes(content), ReadOptions(most_pixels=10**6))
    except ArtifactError as error:
        assert "the picture" in str(error)


def test_numbers_of_no_color_space_are_left_out() -> None:
    with PIL.Image.open(io.BytesIO(make_png(COLOR, 8, RGB))) as image:
        image.info["chromaticity"] = (0.3, 0.3) * 4
        assert make_numbered_profile(image, io.BytesIO(SIGNATURE)) == b""
