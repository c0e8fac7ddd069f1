"""How pictures are cut into tiles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganrt.spec import Image, Output, Spec
from ganrt.tiles import (
    choose_window_side,
    choose_window_sides,
    compute_margin,
    count_pixels_at_once,
    plan_tiles,
)

RGB = (0.0, 1.0)


def make_spec(scale: int, reach: int, multiple_of: int = 1) -> Spec:
    low = Image("low", "low_res", 3, RGB, multiple_of=multiple_of)
    return Spec("upscaling", (low,), Output(3, RGB, None, scale, reach=reach))


@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    tile=st.integers(1, 12),
    margin=st.integers(0, 5),
    rule=st.integers(1, 4),
)
def test_tiles_cover_the_picture_once_and_windows_reach_beyond_them(
    size: tuple[int, int], tile: int, margin: int, rule: int
) -> None:
    height, width, side, margin = size[0] * rule, size[1] * rule, (tile + 2 * margin) * rule, margin * rule
    window, tiles = plan_tiles((height, width), (side, side), margin, rule)
    covered = np.zeros((height, width), int)
    for corner, end, start in tiles:
        covered[corner[0] : end[0], corner[1] : end[1]] += 1
        for at, to, first, wide, length in zip(corner, end, start, window, (height, width), strict=True):
            assert at < to and first % rule == wide % rule == 0 and wide <= max(side, rule)
            assert first == 0 or (first > 0 and first <= at - margin)
            assert first + wide == length or to + margin <= first + wide < length
    assert (covered == 1).all()


@pytest.mark.parametrize(
    ("length", "side", "margin", "window", "count"),
    [(100, 100, 8, 100, 1), (101, 100, 8, 59, 2), (184, 100, 8, 100, 2), (185, 100, 8, 73, 3), (1000, 384, 64, 346, 4)],
)
def test_there_are_as_few_tiles_as_possible_and_windows_are_no_larger_than_needed(
    length: int, side: int, margin: int, window: int, count: int
) -> None:
    for size in ((length, 50), (50, length)):
        found, tiles = plan_tiles(size, (side, side), margin, 1)
        assert sorted(found) == sorted((window, 50)) and len(list(tiles)) == count


@pytest.mark.parametrize(
    ("scale", "reach", "multiple_of", "side"),
    [
        (1, 1, 1, 512),
        (2, 10, 1, 512),
        (3, 10, 1, 341),
        (4, 18, 1, 256),
        (4, 18, 24, 240),
        (4, 50, 1, 300),  # so that the overlap is not most of the work
        (4, 500, 1, 384),
        (8, 5, 1, 128),
        (8, 5, 200, 1200),
    ],
)
def test_windows_are_bounded_by_output_pixels(scale: int, reach: int, multiple_of: int, side: int) -> None:
    spec = make_spec(scale, reach, multiple_of)
    assert choose_window_side(spec) == side
    assert side % multiple_of == compute_margin(spec) % multiple_of == 0


def test_a_margin_is_the_receptive_field_up_to_64_pixels() -> None:
    assert [compute_margin(make_spec(2, reach)) for reach in (1, 63, 64, 65, 900)] == [1, 63, 64, 64, 64]
    assert compute_margin(make_spec(2, 18, 8)) == 24
    assert compute_margin(Spec("global", (Image("x", "content", 3, RGB),), Output(3, RGB, None))) == 0


def test_pixels_at_once() -> None:
    assert [count_pixels_at_once(make_spec(scale, 1)) for scale in (1, 2, 4)] == [512**2, 512**2, 256**2]


@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    scale=st.integers(1, 8),
    reach=st.integers(1, 100),
    rule=st.integers(1, 8),
)
def test_windows_have_no_more_pixels_than_a_square_one(
    size: tuple[int, int], scale: int, reach: int, rule: int
) -> None:
    spec, whole = make_spec(scale, reach, rule), (4 * size[0] * rule, 4 * size[1] * rule)
    square, margin = choose_window_side(spec), compute_margin(spec)
    sides = choose_window_sides(spec, whole)
    assert np.prod(sides) <= square**2 and all(side % rule == 0 for side in sides)

    def count_pixels(sides: tuple[int, int]) -> int:
        window, tiles = plan_tiles(whole, sides, margin, rule)
        return int(np.prod(window)) * len(list(tiles))

    assert count_pixels(sides) <= count_pixels((square, square))


@pytest.mark.parametrize(
    ("size", "sides", "share"),
    [((256, 256), (256, 256), 1.0), ((288, 288), (162, 288), 1.13), ((320, 320), (178, 320), 1.12)],
)
def test_the_cost_of_a_pixel_hardly_rises_where_tiles_begin(
    size: tuple[int, int], sides: tuple[int, int], share: float
) -> None:
    assert choose_window_sides(make_spec(4, 18), size) == sides
    window, tiles = plan_tiles(size, sides, 18, 1)
    assert np.prod(window) * len(list(tiles)) <= share * np.prod(size)
