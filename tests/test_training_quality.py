"""The judge knows digits, and knows what it does not know."""

from __future__ import annotations

import numpy as np
import pytest

from ganrt.training import DigitJudge, load_images


@pytest.fixture(scope="module")
def judge() -> DigitJudge:
    return DigitJudge(28)


@pytest.mark.parametrize("channels", [1, 3])
def test_real_scans_are_digits(judge: DigitJudge, channels: int) -> None:
    quality = judge.judge(load_images("digits", 28, channels).pictures)
    assert quality.confidence > 0.98
    assert quality.real_confidence > 0.95 and quality.real_accuracy > 0.95
    np.testing.assert_allclose(quality.shares, 0.1, atol=0.01)
    assert sum(quality.shares) == pytest.approx(1.0)


def test_the_judge_tells_one_digit_from_another(judge: DigitJudge) -> None:
    data = load_images("digits", 28, 1)
    for digit in range(10):
        assert judge.judge(data.pictures[data.labels == digit]).shares[digit] > 0.97


def test_noise_is_caught_by_its_shares(judge: DigitJudge) -> None:
    """Not by the confidence: a classifier may be sure of what it has never seen."""
    noise = np.random.default_rng(0).integers(0, 256, (500, 28, 28, 1), np.uint8)
    assert min(judge.judge(noise).shares) == 0


def test_one_picture_over_and_over_has_one_share(judge: DigitJudge) -> None:
    same = np.repeat(load_images("digits", 28, 1).pictures[:1], 20, axis=0)
    assert judge.judge(same).shares == (1.0, *[0.0] * 9)
