"""How different pictures of classes are: from the data's classes, from each other, and how much of the data they cover.

Distances are Euclidean, in whatever features (N, D) the caller compares in.
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
    """Of some pictures. Noise in them raises `spread` and `nearest`, so read them beside a measure of quality."""

    classes: int
    """Classes that at least one in a hundred pictures is of."""
    divergence: float
    """Kullback-Leibler divergence of the histogram of their classes from the data's, in nats: 0 is equal."""
    spread: float
    """Mean distance of two pictures of one class, averaged over the classes that have two."""
    nearest: float
    """Mean distance from a picture to the nearest other one of its class. It falls with the number of pictures, so
    compare equal numbers."""
    coverage: float
    """Share of the data that has one of the pictures closer than its own 5th neighbour in the data (Naeem et al.,
    "Reliable Fidelity and Diversity Metrics for Generative Models", ICML 2020). It grows with their number."""


def measure_diversity(features: Features, labels: Labels, data: Features, data_labels: Labels) -> Diversity:
    """Compare pictures with data.

    Args:
        features, labels: of N pictures, (N, D) and (N,), at least two of some class.
        data, data_labels: the same of M real ones, more than 5; every class from 0 on is among them.
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
    """sum p log(p / q) of two histograms, where q has no zero."""
    there = found > 0
    return float((found[there] * np.log(found[there] / expected[there])).sum())
