"""Figures of diversity on points of the plane, where they can be counted."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ganrt.training import DigitClassifier, load_images
from ganrt.training.diversity import measure_diversity

LINE = np.stack([np.arange(20.0), np.zeros(20)], axis=1)
"""Points 1 apart."""
HALVES = np.repeat([0, 1], 10)


def test_the_data_itself() -> None:
    found = measure_diversity(LINE, HALVES, LINE, HALVES)
    assert (found.classes, found.divergence, found.nearest, found.coverage) == (2, 0.0, 1.0, 1.0)
    assert found.spread == pytest.approx(np.mean([abs(i - j) for i in range(10) for j in range(10) if i != j]))


def test_one_point_over_and_over() -> None:
    """The last point has its 5th neighbour 5 away, the 6th from the end too: 15 to 19 have it nearer than that."""
    found = measure_diversity(np.repeat(LINE[-1:], 30, axis=0), np.ones(30, np.int64), LINE, HALVES)
    assert (found.classes, found.spread, found.nearest) == (1, 0.0, 0.0)
    assert found.divergence == pytest.approx(math.log(2))
    assert found.coverage == np.mean([19 - i < sorted(abs(i - j) for j in range(20))[5] for i in range(20)])


def test_pairs_of_twins_are_near_and_spread() -> None:
    twins = np.repeat(LINE[::2], 2, axis=0)
    found = measure_diversity(twins, HALVES, LINE, HALVES)
    assert found.nearest == 0 and found.spread > 3


def test_a_class_counts_from_one_picture_in_a_hundred() -> None:
    points = np.concatenate([LINE[:1]] * 199 + [LINE[-1:]])
    labels = np.array([0] * 199 + [1])
    assert measure_diversity(points, labels, LINE, HALVES).classes == 1
    assert measure_diversity(points[100:], labels[100:], LINE, HALVES).classes == 2


def test_the_classifier_compares_with_held_out_scans() -> None:
    classifier, data = DigitClassifier(16), load_images("digits", 16, 1)
    order = np.random.default_rng(0).permutation(len(data))
    real, same = (
        classifier.measure_diversity(data.pictures[order]),
        classifier.measure_diversity(np.repeat(data.pictures[:10], 50, axis=0)),
    )
    assert real.spread == pytest.approx(classifier.real_diversity.spread, rel=0.05)
    assert real.nearest == pytest.approx(classifier.real_diversity.nearest, rel=0.05)
    assert classifier.count == 450 and classifier.real_diversity.coverage > 0.7 and real.coverage > 0.7
    assert real.classes == 10 and real.divergence < 0.02
    assert same.spread < 0.1 * real.spread and same.coverage < 0.1
