"""Running pictures through image-to-image models: inputs, padding, tiles and memory."""

import io
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from ganrt.errors import ArtifactError, RequestError
from ganrt.feeds import Feeds, check_inputs
from ganrt.images import Floats, encode_png, to_uint8
from ganrt.photos.reader import read_photo
from ganrt.spec import Image, Output, Scalar, Spec
from ganrt.transform import transform

RGB = (0.0, 1.0)
PHOTO = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
UPSAMPLING = Spec("near", (Image("low", "low_res", 3, RGB, multiple_of=4),), Output(3, RGB, None, 2, reach=1))


def upsample(feeds: Feeds) -> Floats:
    """What an honest net of UPSAMPLING does with checked inputs."""
    return check_inputs(UPSAMPLING, feeds)["low"].repeat(2, axis=2).repeat(2, axis=3)


@pytest.mark.parametrize("size", [(48, 64), (45, 61), (1, 1), (4, 3)])
def test_any_size_is_padded_and_cut_back(size: tuple[int, int]) -> None:
    photo = PHOTO[: size[0], : size[1]]
    made = transform(UPSAMPLING, {"low": photo}, upsample, None)
    assert np.array_equal(made[0], photo.repeat(2, axis=0).repeat(2, axis=1)) and made.flags.c_contiguous


def test_the_padding_repeats_the_border() -> None:
    seen: list[Floats] = []

    def compute(feeds: Feeds) -> Floats:
        seen.append(feeds["low"])
        return upsample(feeds)

    transform(UPSAMPLING, {"low": PHOTO[:5, :6]}, compute, None)
    expected = np.pad(PHOTO[:5, :6], ((0, 3), (0, 2), (0, 0)), "edge")
    assert np.array_equal(to_uint8(seen[0], RGB)[0], expected)


def test_a_file_a_pillow_image_and_an_array_give_the_same_picture(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(encode_png(PHOTO))
    image = PIL.Image.fromarray(PHOTO)
    content = path.read_bytes()
    for given in (path, str(path), content, io.BytesIO(content), image, read_photo(path), PHOTO[None], [PHOTO]):
        made = transform(UPSAMPLING, {"low": given}, upsample, None)
        assert np.array_equal(made[0], PHOTO.repeat(2, axis=0).repeat(2, axis=1))
    made = transform(UPSAMPLING, {"low": image.convert("RGBA")}, upsample, None)
    assert np.array_equal(made[0, ..., :3], PHOTO.repeat(2, axis=0).repeat(2, axis=1)) and (made[..., 3] == 255).all()


def test_a_pillow_image_is_read_as_its_file_is(tmp_path: Path) -> None:
    image = PIL.Image.fromarray(PHOTO)
    image.getexif()[0x0112] = 6  # to be turned by a quarter
    image.save(tmp_path / "turned.png", exif=image.getexif())
    with PIL.Image.open(tmp_path / "turned.png") as opened:
        from_image = transform(UPSAMPLING, {"low": opened}, upsample, None)
    assert from_image.shape[1:3] == (128, 96)
    assert np.array_equal(from_image, transform(UPSAMPLING, {"low": tmp_path / "turned.png"}, upsample, None))


def test_grey_pictures() -> None:
    spec = Spec("grey", (Image("low", "low_res", 1, (-1.0, 1.0)),), Output(1, (-1.0, 1.0), None, reach=1))
    grey = PHOTO[..., 0]
    for given in (grey, grey[..., None], PIL.Image.fromarray(grey)):
        assert np.array_equal(transform(spec, {"low": given}, lambda feeds: feeds["low"], None)[0, ..., 0], grey)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            PHOTO.astype(np.float32),
            "low is an array of float32; give a uint8 or uint16 array, a path or a Pillow image",
        ),
        (PHOTO[..., 0], r"low is an array of shape \(48, 64\); this input takes \(H, W, 3\) or \(N, H, W, 3\)"),
        (PHOTO[..., :2], r"shape \(48, 64, 2\)"),
        (PHOTO[None, None], r"shape \(1, 1, 48, 64, 3\)"),
        (PHOTO[:0], r"shape \(0, 64, 3\)"),
        (np.empty((0, 4, 4, 3), np.uint8), r"shape \(0, 4, 4, 3\)"),
        ([PHOTO, PHOTO[:4]], "low is a list of pictures of different sizes; give pictures of one size"),
        ([], "low is an empty list; give at least one picture"),
        ([PHOTO, 3], r"low\[1\] is an array of int64; give a uint8"),
        ([PHOTO, (PHOTO,)], r"low\[1\] is a tuple; each entry of a list is one picture"),
        ([PHOTO[None].repeat(2, axis=0)], r"low\[0\] is an array of 2 pictures; each entry of a list is one picture"),
        (3, "low is an array of int64"),
        (None, "low is an array of object"),
    ],
)
def test_arguments_that_are_not_pictures(given: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        transform(UPSAMPLING, {"low": given}, upsample, None)


def test_files_that_are_not_pictures(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    for name in ("text.png", "absent.png"):
        with pytest.raises(ArtifactError, match=name):
            transform(UPSAMPLING, {"low": tmp_path / name}, upsample, None)


MIXING = Spec(
    "mixing",
    (
        Image("content", "content", 3, RGB),
        Image("mask", "mask", 1, RGB, like="content"),
        Image("style", "style", 3, RGB),
        Scalar("strength", (0.0, 1.0), 1.0),
    ),
    Output(3, RGB, None, reach=4),
)


def mix_by_mask(feeds: Feeds) -> Floats:
    """The content inside the mask, elsewhere the mean of the style, weighted by the strength."""
    feeds = check_inputs(MIXING, feeds)
    colour = feeds["style"].mean((2, 3), keepdims=True)
    strength = feeds["strength"][:, None, None, None] * (1 - feeds["mask"])
    return np.asarray(feeds["content"] * (1 - strength) + colour * strength, np.float32)


@pytest.mark.parametrize("tile", [0, 16])
def test_several_inputs_and_numbers(tile: int) -> None:
    contents = np.stack([PHOTO, PHOTO[::-1], PHOTO[:, ::-1]])
    mask = np.zeros(PHOTO.shape[:2], np.uint8)
    mask[:, :20] = 255
    style = np.full((7, 9, 3), (10, 200, 90), np.uint8)
    given: dict[str, Any] = {"content": contents, "mask": mask, "style": style}
    made = transform(MIXING, given, mix_by_mask, tile)
    assert np.array_equal(made[:, :, :20], contents[:, :, :20])
    assert (made[:, :, 20:] == (10, 200, 90)).all()
    for strength in (0, 0.0, np.float32(0), [0.0], [0, 0, 0]):
        assert np.array_equal(transform(MIXING, {**given, "strength": strength}, mix_by_mask, tile), contents)
    ramp = transform(MIXING, {**given, "strength": [0, 0.5, 1]}, mix_by_mask, tile)
    assert np.array_equal(ramp[0], contents[0]) and np.array_equal(ramp[2], made[2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"style": None}, "the picture 'style' is missing; this mixing model takes content .*, mask .*, style"),
        ({"mask": PHOTO[:5, :, 0]}, "mask is 64 x 5 pixels; it must be 64 x 48 like content"),
        ({"content": np.stack([PHOTO] * 2), "style": np.stack([PHOTO] * 3)}, "have different numbers of pictures"),
        ({"strength": [0.5, 0.5]}, "strength has 2 rows for 1 picture"),
        ({"strength": 2.0}, "strength has values outside 0.0 to 1.0"),
        ({"strength": "much"}, "strength has dtype <U4"),
        ({"colour": 1.0}, "no input 'colour'"),
    ],
)
def test_inputs_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    given = {"content": PHOTO, "mask": PHOTO[..., 0], "style": PHOTO, **change}
    with pytest.raises(RequestError, match=message):
        transform(MIXING, {name: value for name, value in given.items() if value is not None}, mix_by_mask, None)


def test_fixed_sizes() -> None:
    spec = Spec("fixed", (Image("low", "edges", 3, RGB, (8, 8)),), Output(3, RGB, (16, 16)))
    made = transform(spec, {"low": PHOTO[:8, :8]}, lambda feeds: feeds["low"].repeat(2, axis=2).repeat(2, axis=3), None)
    assert made.shape == (1, 16, 16, 3)
    with pytest.raises(RequestError, match="low is 64 x 48 pixels; this model takes 8 x 8 only"):
        transform(spec, {"low": PHOTO}, upsample, None)


BLURRING = Spec("blur", UPSAMPLING.inputs, Output(3, RGB, None, reach=2))


def blur(feeds: Feeds) -> Floats:
    """The mean of 5 x 5 pixels; beyond the border the last pixel is repeated."""
    low = feeds["low"]
    padded = np.pad(low, ((0, 0), (0, 0), (2, 2), (2, 2)), "edge")
    height, width = low.shape[2:]
    shifted = [padded[:, :, y : y + height, x : x + width] for y in range(5) for x in range(5)]
    return np.asarray(sum(shifted) / np.float32(25), np.float32)


@pytest.mark.parametrize("tile", [4, 12, 20])
def test_tiles_overlap_by_the_receptive_field(tile: int) -> None:
    whole, tiled = (transform(BLURRING, {"low": PHOTO}, blur, side) for side in (0, tile))
    assert np.array_equal(whole, tiled)


def test_windows_have_one_small_size() -> None:
    """A backend allocates memory for each new size."""
    shapes = set()

    def compute(feeds: Feeds) -> Floats:
        shapes.add(feeds["low"].shape)
        return upsample(feeds)

    photo = np.random.default_rng(0).integers(0, 256, (701, 1203, 3), np.uint8)
    made = transform(UPSAMPLING, {"low": photo}, compute, None)
    assert shapes == {(1, 3, 356, 608)}
    assert np.array_equal(made[0], photo.repeat(2, axis=0).repeat(2, axis=1))
    shapes.clear()
    transform(UPSAMPLING, {"low": photo[:512, :512]}, compute, None)
    transform(UPSAMPLING, {"low": photo}, compute, 0)
    assert shapes == {(1, 3, 512, 512), (1, 3, 704, 1204)}


def test_memory_is_bounded_by_the_tile() -> None:
    """As floats, this picture and its result alone would be 5 times as much."""
    photo = np.zeros((2048, 2048, 3), np.uint8)
    tracemalloc.start()
    transform(UPSAMPLING, {"low": photo}, upsample, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * photo.nbytes + 20 * 512 * 512 * 4 * 3


def test_many_small_pictures_are_computed_together_but_not_all_at_once() -> None:
    batches = []

    def compute(feeds: Feeds) -> Floats:
        batches.append(len(feeds["low"]))
        return upsample(feeds)

    photos = np.random.default_rng(0).integers(0, 256, (11, 256, 256, 3), np.uint8)
    made = transform(UPSAMPLING, {"low": photos}, compute, None)
    assert batches == [4, 4, 3]
    assert np.array_equal(made, photos.repeat(2, axis=1).repeat(2, axis=2))


def test_what_is_computed_at_a_time_is_bounded_by_output_pixels() -> None:
    spec = Spec("near", (Image("low", "low_res", 3, RGB),), Output(3, RGB, None, 4, reach=8))
    shapes = []

    def compute(feeds: Feeds) -> Floats:
        shapes.append(feeds["low"].shape)
        return feeds["low"].repeat(4, axis=2).repeat(4, axis=3)

    photo = np.random.default_rng(0).integers(0, 256, (300, 260, 3), np.uint8)
    made = transform(spec, {"low": photo}, compute, None)
    assert shapes == [(1, 3, 158, 260)] * 2
    assert np.array_equal(made[0], photo.repeat(4, axis=0).repeat(4, axis=1))
    shapes.clear()
    transform(spec, {"low": np.zeros((5, 128, 128, 3), np.uint8)}, compute, None)
    transform(spec, {"low": photo[:256, :256]}, compute, None)
    assert shapes == [(4, 3, 128, 128), (1, 3, 128, 128), (1, 3, 256, 256)]


@pytest.mark.parametrize(
    ("tile", "message"),
    [
        (6, "tile is 6; it must be 0 or a multiple of 4"),
        (-4, "tile is -4; it must be 0"),
        (4.0, "tile is 4.0; it must be 0"),
        (True, "tile is True; it must be 0"),
    ],
)
def test_invalid_tiles(tile: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        transform(UPSAMPLING, {"low": PHOTO}, upsample, tile)


def test_a_global_model_cannot_use_tiles() -> None:
    spec = Spec("everywhere", UPSAMPLING.inputs, Output(3, RGB, None, 2))
    with pytest.raises(RequestError, match="cannot use tiles: an output pixel depends on the whole picture"):
        transform(spec, {"low": PHOTO}, upsample, 16)
    large = np.zeros((520, 520, 3), np.uint8)
    assert transform(spec, {"low": large}, upsample, None).shape == (1, 1040, 1040, 3)
