"""What a variant adds to flat parts: measured where the original is flat, in levels of a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes.sessions import FakeSession

from ganrt.agreement import compare
from ganrt.feeds import Array, Feeds
from ganrt.flat_parts import SHIFT, TEXTURE, FlatParts, measure_flat_parts
from ganrt.golden import Golden
from ganrt.images import Floats
from ganrt.proving import prove
from ganrt.spec import Latent, Output, Range, Spec

LEVEL = 2 / 255
"""Of images from -1 to 1."""
WOVEN = np.tile(np.array([[1, -1, 1, -1], [-1, 1, -1, 1]] * 2), (16, 16)).astype(np.float32)
"""A pattern with a standard deviation of 1, 64 x 64."""


def make_sky() -> Floats:
    """(2, 3, 64, 64): the upper half is nearly flat, the lower half is noise."""
    random = np.random.default_rng(0)
    image = random.uniform(-1, 1, (2, 3, 64, 64))
    image[:, :, :32] = 0.2 + random.normal(0, 0.3 * LEVEL, (2, 3, 32, 64))
    return image.astype(np.float32)


def measure(found: Floats, expected: Floats, value_range: Range = (-1.0, 1.0)) -> FlatParts:
    return measure_flat_parts(found, expected, value_range)


def test_a_pattern_is_measured_where_the_original_is_flat() -> None:
    sky = make_sky()
    flat = measure(sky + np.float32(1.26 * LEVEL) * WOVEN, sky)
    assert flat.original == pytest.approx(0.3, abs=0.01)
    assert flat.found == pytest.approx(np.hypot(0.3, 1.26), abs=0.01)
    assert flat.texture == pytest.approx(flat.found - 0.3, abs=0.01) and flat.shift == pytest.approx(0, abs=0.01)
    assert compare(sky + np.float32(1.26 * LEVEL) * WOVEN, sky, (-1.0, 1.0)).psnr.min() > 40
    below = sky.copy()
    below[:, :, 32:] += 9 * LEVEL * WOVEN[:32]  # in the noise
    assert measure(below, sky).texture == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("step", [-1.8, 1.8])
def test_a_shift_is_no_texture(step: float) -> None:
    sky = make_sky()
    flat = measure(sky + np.float32(step * LEVEL), sky)
    assert flat.shift == pytest.approx(1.8, abs=0.01) and flat.texture == pytest.approx(0, abs=0.01)
    colours = sky + np.float32(step * LEVEL) * np.array([1, -1, 0], np.float32)[:, None, None]
    assert measure(colours, sky).shift == pytest.approx(1.2, abs=0.01)  # they do not cancel


def test_only_one_sample_may_have_it() -> None:
    sky = make_sky()
    made = sky.copy()
    made[1] += 2 * LEVEL * WOVEN
    flat = measure(made, sky)
    assert flat.texture[0] == 0 and flat.texture[1] > 1.5
    assert flat.failures() == ("adds a texture of 1.72 levels of 255 to the flat parts of sample 1; 0.75 are allowed",)
    joined = FlatParts.join([measure(sky, sky), flat])
    assert "of sample 3;" in joined.failures()[0] and len(joined.shift) == 4


@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0)])
def test_levels_are_those_of_a_picture(value_range: Range) -> None:
    low, high = value_range
    sky = ((make_sky() + 1) / 2 * (high - low) + low).astype(np.float32)
    made = sky + WOVEN * np.float32((high - low) / 255)
    assert measure(made, sky, value_range).found == pytest.approx(np.hypot(0.3, 1.0), abs=0.01)


def test_what_is_clipped_is_not_seen() -> None:
    black = np.full((1, 3, 64, 64), -1.0, np.float32)
    assert measure(black - np.abs(WOVEN), black).failures() == ()
    assert measure(black + 2 * LEVEL * WOVEN, black).found == pytest.approx(1.0, abs=0.01)  # the brighter half


@pytest.mark.parametrize(("rows", "measured"), [(8, False), (16, False), (24, True)])
def test_hardly_any_flat_parts_are_not_measured(rows: int, measured: bool) -> None:
    image = np.random.default_rng(0).uniform(-1, 1, (1, 1, 64, 61)).astype(np.float32)
    image[:, :, :rows] = 0
    flat = measure(image + WOVEN[:, :61], image)
    assert (flat.texture > 1).all() == measured and np.isfinite(flat.measure_excess()).all()


def test_small_images_have_no_blocks() -> None:
    image = np.zeros((2, 1, 7, 7), np.float32)
    assert measure(image + 1, image).failures() == ()


def test_the_excess_is_a_share_of_what_is_allowed() -> None:
    def excess(found: float, shift: float) -> float:
        return float(FlatParts(np.array([0.3]), np.array([found]), np.array([shift])).measure_excess()[0])

    assert excess(0.3 + TEXTURE, 0) == pytest.approx(1) and excess(0.3, SHIFT) == pytest.approx(1)
    assert excess(0.3, 2 * SHIFT) == pytest.approx(4) and excess(0.3, 0) == 0
    one, other = (excess(float(np.hypot(0.3, added)), 0) for added in (0.5, 0.7))
    assert excess(float(np.sqrt(0.3**2 + 0.5**2 + 0.7**2)), 0) == pytest.approx(one + other)


def _draw_sky(given: Feeds) -> Array:
    return np.resize(make_sky()[:1], (len(given["z"]), 3, 64, 64)) + given["z"][:, :1, None, None] * np.float32(1e-3)


class Woven(FakeSession):
    """The images of the original with a faint pattern on them."""

    def __init__(self, spec: Spec, precision: str, strength: float) -> None:
        super().__init__(spec)
        self.precision, self.strength = precision, np.float32(strength)

    def run(self, feeds: Feeds) -> Array:
        return np.asarray(_draw_sky(feeds) + self.strength * LEVEL * WOVEN, np.float32)


@pytest.mark.parametrize("precision", ["bf16", "fp16", "int8"])
def test_a_proof_of_a_reduced_precision_fails_for_a_pattern(precision: str) -> None:
    spec = Spec("sky", (Latent("z", (4,)),), Output(3, (-1.0, 1.0), (64, 64)))
    golden = Golden.make(spec, _draw_sky)
    found: Any = {
        strength: prove(Woven(spec, precision, strength), spec, golden, "key").proof for strength in (0.4, 1.3)
    }
    assert found[0.4].passed and found[1.3].worst_psnr > 45
    assert found[1.3].failures[0].startswith("adds a texture of 1.03 levels of 255 to the flat parts of sample ")
