"""Diversity of generated pictures: histogram of classes, distances within classes, coverage of the data.

Distances are Euclidean, in features (N, D) that the caller chooses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances

Features = NDArray[np.float64]
Labels = NDArray[np.int64]
_NEIGHBOURS = 5


@dataclass(frozen=True)
class Diversity:
    """Diversity of a set of pictures. Noise raises `spread` and `nearest`, so read them beside a measure of quality."""

    classes: int
    """Number of classes that at least 1 % of the pictures belong to."""
    divergence: float
    """Kullback-Leibler divergence of the class histogram from the data's, in nats; 0 for equal histograms."""
    spread: float
    """Mean distance between two pictures of a class, averaged over the classes with at least two."""
    nearest: float
    """Mean distance from a picture to its nearest neighbour in its class. It falls with the number of pictures, so
    compare equal numbers."""
    coverage: float
    """Share of the data with a picture closer than its 5th nearest neighbour in the data (Naeem et al., "Reliable
    Fidelity and Diversity Metrics for Generative Models", ICML 2020). It rises with the number of pictures."""


def measure_diversity(features: Features, labels: Labels, data: Features, data_labels: Labels) -> Diversity:
    """Measure the diversity of pictures, compared with data.

    Args:
        features, labels: of N pictures, (N, D) and (N,), with at least two of one class.
        data, data_labels: of M > 5 real pictures, (M, D) and (M,), with at least one of each class from 0.
    """
    counts = np.bincount(data_labels)
    found = np.bincount(labels, minlength=len(counts))
    spreads, nearest = [], []
    for label in np.flatnonzero(found > 1):
        apart = pairwise_distances(features[labels == label])
        spreads.append(apart.sum() / (len(apart) * (len(apart) - 1)))
        np.fill_diagonal(apart, np.inf)
        nearest.append(apart.min(axis=1))
    radius = np.sort(pairwise_distances(data), axis=1)[:, _NEIGHBOURS]  # column 0 is the picture itself
    covered = (pairwise_distances(data, features).min(axis=1) < radius).mean()
    return Diversity(
        classes=int((found >= 0.01 * len(labels)).sum()),
        divergence=_divergence(found / found.sum(), counts / counts.sum()),
        spread=float(np.mean(spreads)),
        nearest=float(np.concatenate(nearest).mean()),
        coverage=float(covered),
    )


def _divergence(found: Features, expected: Features) -> float:
    """sum p log(p / q) of two histograms; q has no zeros."""
    there = found > 0
    return float((found[there] * np.log(found[there] / expected[there])).sum())
