"""Metrics of digits, on real scans and on noise."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from numpy.typing import NDArray

from ganrt.training import DigitClassifier, load_images
from ganrt.training.metrics import frechet_distance


@pytest.fixture(scope="module")
def classifier() -> DigitClassifier:
    return DigitClassifier(28)


@pytest.mark.parametrize("channels", [1, 3])
def test_real_scans_are_digits(classifier: DigitClassifier, channels: int) -> None:
    metrics = classifier.evaluate(load_images("digits", 28, channels).pictures)
    assert metrics.confidence > 0.98
    assert metrics.real_confidence > 0.95 and metrics.real_accuracy > 0.95
    np.testing.assert_allclose(metrics.shares, 0.1, atol=0.01)
    assert sum(metrics.shares) == pytest.approx(1.0)


def test_the_classifier_distinguishes_the_digits(classifier: DigitClassifier) -> None:
    data = load_images("digits", 28, 1)
    for digit in range(10):
        assert classifier.evaluate(data.pictures[data.labels == digit]).shares[digit] > 0.97


def test_noise_is_caught_by_its_shares(classifier: DigitClassifier) -> None:
    """Not by the confidence: a classifier may be sure of what it has never seen."""
    noise = np.random.default_rng(0).integers(0, 256, (500, 28, 28, 1), np.uint8)
    assert min(classifier.evaluate(noise).shares) == 0


def test_one_picture_over_and_over_has_one_share(classifier: DigitClassifier) -> None:
    same = np.repeat(load_images("digits", 28, 1).pictures[:1], 20, axis=0)
    assert classifier.evaluate(same).shares == (1.0, *[0.0] * 9)


def test_the_distance_grows_as_pictures_get_worse(classifier: DigitClassifier) -> None:
    data = load_images("digits", 28, 1)
    assert data.labels is not None
    real, ones = classifier.evaluate(data.pictures), classifier.evaluate(data.pictures[data.labels == 1])
    noise = classifier.evaluate(np.random.default_rng(0).integers(0, 256, (500, 28, 28, 1), np.uint8))
    assert 0 < real.distance < real.real_distance < 0.5
    assert ones.distance > 10 * real.real_distance and noise.distance > 10 * real.real_distance
    assert (classifier.predict(data.pictures) == data.labels).mean() > 0.97


def features(seed: int, count: int, size: int) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    return random.normal(size=(count, size)) @ random.normal(size=(size, size)) + random.normal(size=size)


def test_the_distance_of_scaled_and_moved_features_is_known() -> None:
    """Of N(m, S) and N(m + d, c^2 S): |d|^2 + (c - 1)^2 Tr S."""
    a = features(0, 400, 5)
    a -= a.mean(axis=0)
    expected = 9 * 5 + (2.5 - 1) ** 2 * np.trace(np.cov(a, rowvar=False))
    assert frechet_distance(a, 2.5 * a + 3) == pytest.approx(expected, rel=1e-10)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("count", [400, 6])
def test_the_distance_against_a_matrix_square_root(count: int) -> None:
    """With 6 rows the covariances of 8 features are singular."""
    a, b = features(1, count, 8), features(2, count + 50, 8)
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(second)
    cross = scipy.linalg.svdvals(scipy.linalg.sqrtm(first + 1e-12 * np.eye(8)).real @ root.real).sum()
    expected = np.square(a.mean(axis=0) - b.mean(axis=0)).sum() + np.trace(first + second) - 2 * cross
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-4)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-4)
    if count > 8:
        direct = np.trace(first + second - 2 * scipy.linalg.sqrtm(first @ second).real)
        assert frechet_distance(a, b) - np.square(a.mean(0) - b.mean(0)).sum() == pytest.approx(direct, rel=1e-8)
