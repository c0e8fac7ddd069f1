"""Luma and color of networks that take luma alone."""

import numpy as np
import PIL.Image
import pytest

from ganrt.luma import add_color, take_luma

PICTURE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
DEEP = np.random.default_rng(1).integers(0, 65536, (6, 9, 3), np.uint16)


def test_eight_bits_are_those_of_pillow() -> None:
    ycbcr = PIL.Image.fromarray(PICTURE).convert("YCbCr")
    np.testing.assert_array_equal(take_luma(PICTURE)[..., 0], np.asarray(ycbcr)[..., 0])
    made = add_color(take_luma(PICTURE), PICTURE)
    np.testing.assert_array_equal(made, np.asarray(ycbcr.convert("RGB")))


def test_sixteen_bits_are_the_same_colors_finer() -> None:
    luma = take_luma(PICTURE.astype(np.uint16) * 257)
    assert luma.dtype == np.uint16 and luma.shape == (6, 9, 1)
    np.testing.assert_allclose(luma / 257, take_luma(PICTURE), atol=1)  # Pillow rounds down
    np.testing.assert_allclose(add_color(take_luma(DEEP), DEEP).astype(int), DEEP, atol=1)


@pytest.mark.parametrize("picture", [PICTURE, DEEP])
def test_a_new_luma_keeps_the_color(picture: np.ndarray) -> None:
    """One color, a little brighter, in twice the size."""
    one = np.full_like(picture, 0) + (picture[:1, :1] // 2 + 20)
    step = 10 * (np.iinfo(one.dtype).max // 255)
    made = add_color((take_luma(one) + one.dtype.type(step)).repeat(2, axis=0).repeat(2, axis=1), one)
    assert made.shape == (12, 18, 3) and made.dtype == one.dtype
    expected = np.broadcast_to(one[:1, :1].astype(int) + step, made.shape)
    np.testing.assert_allclose(made.astype(int), expected, atol=step // 5)
