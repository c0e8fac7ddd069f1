"""Photographs through small networks: tiles, luma, and `Generator.transform`."""

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import skimage.data
from helpers.networks import build_network

import ganrt
from ganrt.bundle import Bundle
from ganrt.errors import RequestError
from ganrt.images import encode_png, from_uint8, to_uint8
from ganrt.tiles import MAX_OVERLAP
from ganrt.transform import transform

RGB = (0.0, 1.0)
PHOTO = skimage.data.astronaut()[100:148, 180:244]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("srvgg", {"width": 6, "convs": 3, "scale": 3}),
        ("msrresnet", {"width": 4, "blocks": 2}),
        ("rrdb", {"width": 4, "blocks": 1, "growth": 2, "scale": 2}),
        ("espcn", {"width": 4, "scale": 2}),
        ("vdsr", {"width": 4, "convs": 3, "scale": 2}),
    ],
)
@pytest.mark.parametrize("tile", [8, 20, 400])
def test_tiles_make_the_same_picture(name: str, values: dict[str, Any], tile: int) -> None:
    """The overlap is the receptive-field radius, so pictures differ by at most one step of rounding."""
    spec, compute = build_network(name, **values)
    assert (spec.output.reach or 0) <= MAX_OVERLAP
    given = {spec.images[0].name: np.stack([PHOTO[:45, :61], PHOTO[3:, 3:]])}
    whole, tiled = (transform(spec, given, compute, side).astype(int) for side in (0, tile))
    assert np.abs(whole - tiled).max() <= 1 and np.mean(whole != tiled) < 1e-3


def test_tiled_floats_are_equal_within_rounding() -> None:
    """Before anything is rounded to uint8: a window with a margin of the receptive-field radius computes its inner part
    exactly."""
    spec, compute = build_network("srvgg", width=6, convs=3, scale=2)
    reach, (low,) = spec.output.reach or 0, [from_uint8(PHOTO[None], RGB)]
    whole = compute({"low_res": low})
    part = compute({"low_res": np.ascontiguousarray(low[:, :, 10 - reach : 30 + reach, 12 - reach : 40 + reach])})
    inner = part[:, :, 2 * reach : -2 * reach, 2 * reach : -2 * reach]
    assert np.abs(inner - whole[:, :, 20:60, 24:80]).max() < 1e-4


def test_no_seam_shows_when_the_receptive_field_exceeds_the_overlap() -> None:
    """A residual network with a receptive-field radius of 136 pixels, on a photograph: at most one step of rounding
    remains."""
    spec, compute = build_network("rrdb", width=8, blocks=2, growth=4, scale=1)
    assert spec.output.reach == 136
    photo = skimage.data.astronaut()[40:250, 100:310]
    whole, tiled = (transform(spec, {"low_res": photo}, compute, side)[0].astype(int) for side in (0, 72))
    assert np.abs(whole - tiled).max() <= 1 and np.mean(whole != tiled) < 1e-3


def by_hand(photo: np.ndarray, scale: int, compute: Any) -> np.ndarray:
    """Y through the net, colour by Pillow's bicubic interpolation, as pytorch/examples does it."""
    y, cb, cr = PIL.Image.fromarray(photo).convert("YCbCr").split()
    made = compute({"luma": np.asarray(y, np.float32)[None, None] / 255})
    new = PIL.Image.fromarray((made[0, 0] * 255 + 0.5).clip(0, 255).astype(np.uint8))
    cb, cr = (plane.resize(new.size, PIL.Image.Resampling.BICUBIC) for plane in (cb, cr))
    return np.asarray(PIL.Image.merge("YCbCr", (new, cb, cr)).convert("RGB"))


@pytest.mark.parametrize("tile", [0, 16])
def test_luma_goes_through_the_network_and_colour_is_resized(tile: int) -> None:
    spec, compute = build_network("espcn", scale=3, width=8)
    made = transform(spec, {"luma": PHOTO}, compute, tile)[0].astype(int)
    assert np.abs(made - by_hand(PHOTO, 3, compute)).max() <= 1


def test_a_grey_array_for_luma_stays_grey() -> None:
    spec, compute = build_network("espcn", scale=2, width=4)
    grey = PHOTO[..., 1]
    made = transform(spec, {"luma": grey}, compute, None)
    assert made.shape == (1, 96, 128, 1)
    assert np.array_equal(made, to_uint8(compute({"luma": from_uint8(grey[None, ..., None], RGB)}), RGB))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(encode_png(PHOTO))
    return path


def test_generator_transform(espcn: Bundle, photo: Path) -> None:
    with ganrt.load(espcn.folder, "onnxruntime") as generator:
        made = generator.transform(photo)
        assert made.shape == (96, 128, 3) and made.dtype == np.uint8
        assert np.array_equal(generator.transform(PHOTO, tile=16), made)
        assert np.array_equal(generator.transform(luma=PHOTO[None]), made[None])
        assert np.abs(made.astype(int) - by_hand(PHOTO, 2, lambda feeds: generator(**feeds))).max() <= 1
        with pytest.raises(RequestError, match="luma was given twice"):
            generator.transform(PHOTO, luma=PHOTO)
        with pytest.raises(RequestError, match="2 pictures were given; this model takes 1"):
            generator.transform(PHOTO, PHOTO)
        with pytest.raises(RequestError, match="the picture 'luma' is missing; this espcn model takes luma"):
            generator.transform()


def test_a_model_without_image_inputs_is_an_error(bundle: Bundle) -> None:
    with (
        ganrt.load(bundle.folder) as generator,
        pytest.raises(RequestError, match=r"takes no pictures; use sample\(\)"),
    ):
        generator.transform(PHOTO)
