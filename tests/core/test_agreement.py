"""Comparison of images: PSNR, defects and thresholds."""

import math
from typing import Any

import numpy as np
import pytest

from ganrt.agreement import PSNR_CAP, THRESHOLDS, compare
from ganrt.errors import BackendError

RANGE = (-1.0, 1.0)


def originals(count: int = 4) -> Any:
    return np.random.default_rng(0).uniform(-0.9, 0.9, (count, 3, 8, 8)).astype(np.float32)


def reasons(found: Any, expected: Any = None, threshold: float = 60.0) -> str:
    expected = originals() if expected is None else expected
    return "; ".join(compare(found.astype(np.float32), expected, RANGE).failures(threshold))


@pytest.mark.parametrize("error", [1e-7, 1e-4, 0.03, 0.5])
@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 255.0)])
def test_psnr_is_that_of_scikit_image(error: float, value_range: tuple[float, float]) -> None:
    from skimage.metrics import peak_signal_noise_ratio

    expected = originals()
    found = (expected + np.random.default_rng(1).normal(0, error, expected.shape)).astype(np.float32)
    agreement = compare(found, expected, value_range)
    for k in range(len(expected)):
        wanted = peak_signal_noise_ratio(
            expected[k].astype(np.float64), found[k].astype(np.float64), data_range=value_range[1] - value_range[0]
        )
        assert agreement.psnr[k] == pytest.approx(wanted)
        assert agreement.max_abs[k] == np.abs(found[k].astype(np.float64) - expected[k]).max()


def test_equal_images_have_the_largest_psnr() -> None:
    agreement = compare(originals(), originals(), RANGE)
    assert agreement.psnr.tolist() == [PSNR_CAP] * 4
    assert agreement.failures(PSNR_CAP) == ()


def test_the_worst_sample_decides() -> None:
    found = originals()
    found[2] += 0.01
    agreement = compare(found, originals(), RANGE)
    assert agreement.worst == 2
    assert agreement.failures(40) == ()
    assert agreement.failures(60) == (
        "1 of 4 samples are below 60 dB; the worst is sample 2 with 46.0 dB (largest difference 0.01)",
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_values_never_agree(bad: float) -> None:
    found = originals()
    found[3, 0, 0, 0] = bad
    agreement = compare(found, originals(), RANGE)
    assert agreement.psnr[3] == -math.inf and agreement.max_abs[3] == math.inf and agreement.worst == 3
    assert "sample 3 is not finite" in "; ".join(agreement.failures(0))
    assert compare(originals(), found, RANGE).failures(0), "nothing agrees with an original that is not finite"


def test_a_flat_image_is_a_defect() -> None:
    assert "sample 0 is flat where the original is not" in reasons(originals() * 0, threshold=0)


def test_a_flat_original_may_be_flat() -> None:
    flat = np.full_like(originals(), 0.3)
    assert reasons(flat + 1e-6, flat) == ""


def make_image_with_deviation(deviation: float) -> Any:
    """One image whose values have this standard deviation."""
    return np.tile(np.array([deviation, -deviation]), (1, 1, 8, 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("found", "expected", "flat"),
    [
        (0.0019, 0.0041, True),  # the range is 2: flat below 0.002, and an original is not flat from 0.004
        (0.0019, 0.0039, False),
        (0.0021, 0.5, False),
    ],
)
def test_the_margin_between_flat_and_not_flat(found: float, expected: float, flat: bool) -> None:
    assert (
        "flat" in reasons(make_image_with_deviation(found), make_image_with_deviation(expected), threshold=0)
    ) is flat


def test_a_saturated_image_is_a_defect() -> None:
    assert "sample 0 is saturated where the original is not" in reasons(np.sign(originals()), threshold=0)


def test_a_black_background_may_be_rounded_to_black() -> None:
    expected = np.full((1, 1, 20, 20), -0.996, np.float32)
    expected[0, 0, :2, :3] = 0.5
    black = np.where(expected < 0, np.float32(-1.0), expected)
    assert reasons(black, expected, threshold=40) == ""


def make_image_near_ends(share: float, distance: float) -> Any:
    """One image: a share of its values lies at this distance from either end of the range, the others in the middle."""
    values, count = np.zeros(1000), round(500 * share)
    values[:count], values[-count:] = -1 + distance, 1 - distance
    return values.reshape(1, 1, 20, 50).astype(np.float32)


@pytest.mark.parametrize(
    ("found", "expected", "saturated"),
    [
        ((0.99, 0), (0.94, 0), True),
        ((0.97, 0), (0.94, 0), False),
        ((0.99, 0), (0.96, 0), False),
        ((0.99, -0.5), (0.94, 0), True),  # beyond the ends
        ((0.99, 0.0019), (0.94, 0), True),  # the range is 2: at an end are the values up to 0.002 from it
        ((0.99, 0.0021), (0.94, 0), False),
        ((0.99, 0), (0.96, 0.099), False),  # near an end are those of the original up to 0.1 from it
        ((0.99, 0), (0.96, 0.101), True),
    ],
)
def test_the_margin_between_saturated_and_not_saturated(
    found: tuple[float, float], expected: tuple[float, float], saturated: bool
) -> None:
    assert (
        "saturated" in reasons(make_image_near_ends(*found), make_image_near_ends(*expected), threshold=0)
    ) is saturated


@pytest.mark.parametrize(
    "shape",
    [(3, 3, 8, 8), (8, 3, 8, 4), (4, 3, 4, 16), (0, 3, 8, 8)],
    ids=["fewer", "same size", "other sides", "none"],
)
def test_shapes_must_be_equal(shape: tuple[int, ...]) -> None:
    with pytest.raises(BackendError, match="cannot be compared with originals of shape"):
        compare(np.zeros(shape, np.float32), originals(), RANGE)


def test_thresholds_are_those_of_the_design() -> None:
    assert THRESHOLDS == {"fp32": 60.0, "bf16": 40.0, "fp16": 40.0, "int8": 30.0, "fp8": 30.0}
