"""Synthetic images hold values that can occur, and depend on the seed and the sample number alone."""

import numpy as np
import pytest

from ganrt import latents
from ganrt.spec import Image
from ganrt.synthetic import draw_image, draw_texture

STREAM = 2**31
SIZE = (40, 56)
KINDS = [
    Image("x", "content", 3, (-1.0, 1.0)),
    Image("x", "luma", 1, (0.0, 1.0)),
    Image("x", "latent", 4, (-3.0, 3.0)),
    Image("x", "labels", 1, (0.0, 11.0)),
    Image("x", "segmap", 12, (0.0, 1.0)),
    Image("x", "instances", 1, (0.0, 999.0)),
    Image("x", "mask", 1, (-1.0, 1.0)),
]


@pytest.mark.parametrize("item", KINDS, ids=lambda item: f"{item.role}-{item.channels}")
def test_a_sample_depends_on_its_number_alone(item: Image) -> None:
    together = draw_image(item, 7, 5, 4, STREAM, SIZE)
    assert together.shape == (4, item.channels, *SIZE) and together.dtype == np.float32
    assert together.flags.c_contiguous
    low, high = item.range
    assert low <= together.min() and together.max() <= high
    np.testing.assert_array_equal(together[2:3], draw_image(item, 7, 7, 1, STREAM, SIZE))
    for other in (
        draw_image(item, 8, 5, 4, STREAM, SIZE),
        draw_image(item, 7, 9, 4, STREAM, SIZE),
        draw_image(item, 7, 5, 4, STREAM + 1, SIZE),
    ):
        assert not np.array_equal(together, other)


def find_blocks(images: np.ndarray, side: int = 8) -> np.ndarray:
    """Standard deviations of all blocks of one channel."""
    count, _, height, width = images.shape
    tiles = images[:, :1].reshape(count, height // side, side, width // side, side)
    return tiles.std(axis=(2, 4)).ravel()


def test_a_picture_has_flat_parts_gradients_and_texture() -> None:
    found = find_blocks(draw_image(KINDS[0], 1, 0, 16, STREAM, SIZE)) / 2.0
    assert np.mean(found < 1e-6) > 0.1
    assert np.mean((found > 1e-6) & (found < 0.02)) > 0.1
    assert np.mean(found > 0.1) > 0.2


def test_a_map_of_classes_holds_whole_numbers_in_regions() -> None:
    found = draw_image(KINDS[3], 1, 0, 16, STREAM, SIZE)
    assert set(np.unique(found)) == set(range(12))
    assert np.mean(find_blocks(found) == 0) > 0.3


def test_classes_in_several_channels_are_one_hot() -> None:
    found = draw_image(KINDS[4], 1, 0, 16, STREAM, SIZE)
    assert set(np.unique(found)) == {0.0, 1.0}
    assert (found.sum(axis=1) == 1).all() and (found.sum(axis=(0, 2, 3)) > 0).all()


def test_instances_have_numbers_of_their_own() -> None:
    found = draw_image(KINDS[5], 1, 0, 1, STREAM, SIZE)
    assert 5 <= len(np.unique(found)) <= 10 and (found == np.rint(found)).all() and found.max() > 255


def test_a_mask_has_two_values() -> None:
    found = draw_image(KINDS[6], 1, 0, 16, STREAM, SIZE)
    assert set(np.unique(found)) == {-1.0, 1.0} and 0.2 < np.mean(found > 0) < 0.8


def test_a_range_without_a_whole_number_still_gets_a_value() -> None:
    found = draw_image(Image("x", "labels", 1, (0.2, 0.7)), 1, 0, 2, STREAM, SIZE)
    assert found.min() >= 0.2 and found.max() <= np.float32(0.7)


def test_a_texture_is_blocks_of_four_pixels_with_noise() -> None:
    """As in files of ganrt 0.1, which draw these again."""
    item = Image("mask", "mask", 1, (-1.0, 3.0))
    found = draw_texture(item, 9, 100, 2, STREAM + 1, (10, 14))
    values = latents.uniform(9, 100, 2, STREAM + 1, 3 * 4 + 10 * 14, 0.0, 1.0)
    blocks = np.kron(values[:, :12].reshape(2, 3, 4), np.ones((1, 4, 4)))[:, :10, :14]
    wanted = -1 + 4 * (0.75 * blocks + 0.25 * values[:, 12:].reshape(2, 10, 14))
    np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-6, atol=1e-6)
