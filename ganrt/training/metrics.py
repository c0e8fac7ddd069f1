"""Are the digits digits? A classifier that learned from the real scans is asked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from ganrt.images import Pictures
from ganrt.training.data import load_images
from ganrt.training.diversity import Diversity, measure_diversity

_CELLS = 8
"""The scans' own resolution."""


@dataclass(frozen=True)
class DigitMetrics:
    """What the classifier thinks of some pictures, with its answers on real scans it has not learned from beside it.

    Read confidence and shares together: of noise or a grey blur the classifier may be sure too, but it takes all of it
    for one or two digits.
    """

    confidence: float
    """Mean over the pictures of the largest class probability."""
    shares: tuple[float, ...]
    """Share of the pictures that it takes for a 0, 1, ... 9."""
    real_confidence: float
    """The same confidence on the held-out real scans."""
    real_accuracy: float
    """Share of the held-out real scans that it gets right."""
    distance: float
    """`frechet_distance` of the pictures from the scans that it learned from, in its hidden layer ("FD-digits"). No
    FID: that is defined in the features of one network, which is not part of this package."""
    real_distance: float
    """The same distance of the held-out real scans: what no generator should be expected to beat by much."""


class DigitClassifier:
    """A classifier of 8 x 8 digits, trained on three quarters of the real scans as a generator of this size sees them:
    enlarged to size x size, then averaged down again."""

    def __init__(self, size: int) -> None:
        real = load_images("digits", size, 1)
        learn, check, learn_labels, check_labels = train_test_split(
            _average_cells(real.pictures), real.labels, test_size=0.25, stratify=real.labels, random_state=0
        )
        self._real, self._real_labels = learn, learn_labels
        self._classifier = MLPClassifier((64,), max_iter=500, random_state=0).fit(learn, learn_labels)
        self._learned = self._hidden_features(learn)
        self._real_distance = frechet_distance(self._hidden_features(check), self._learned)
        self._real_confidence = float(self._classifier.predict_proba(check).max(axis=1).mean())
        self._real_accuracy = float(self._classifier.score(check, check_labels))
        self.count = len(check)
        """Pictures that `diversity` looks at."""
        self.real_diversity = measure_diversity(check, check_labels, learn, learn_labels)
        """Of the held-out scans: what `diversity` of pictures as good as real ones would be."""

    def evaluate(self, pictures: Pictures) -> DigitMetrics:
        """`pictures`: uint8 (N, H, W, C) with N >= 2, square; colours are averaged."""
        features = _average_cells(pictures)
        chances = self._classifier.predict_proba(features)
        counts = np.bincount(chances.argmax(axis=1), minlength=10)
        shares = tuple((counts / len(pictures)).tolist())
        return DigitMetrics(
            confidence=float(chances.max(axis=1).mean()),
            shares=shares,
            real_confidence=self._real_confidence,
            real_accuracy=self._real_accuracy,
            distance=frechet_distance(self._hidden_features(features), self._learned),
            real_distance=self._real_distance,
        )

    def measure_diversity(self, pictures: Pictures) -> Diversity:
        """Of the first `count` pictures, in the scans' own pixels from 0 to 1, by the digits that the classifier takes
        them for.

        `pictures`: uint8 (N, H, W, C), square, N >= count; colours are averaged.
        """
        features = _average_cells(pictures[: self.count])
        return measure_diversity(features, self._classifier.predict(features), self._real, self._real_labels)

    def predict(self, pictures: Pictures) -> NDArray[np.int64]:
        """Which digit it takes each picture for, int64 (N,)."""
        found: NDArray[np.int64] = self._classifier.predict(_average_cells(pictures)).astype(np.int64)
        return found

    def _hidden_features(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values of the classifier's hidden layer, (N, 64)."""
        found: NDArray[np.float64] = np.maximum(
            features @ self._classifier.coefs_[0] + self._classifier.intercepts_[0], 0
        )
        return found


def frechet_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Squared Frechet distance of two normal distributions with the means and covariances of two sets of features:
    |m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)) (Dowson, Landau, J. Multivariate Analysis 12, 1982; Heusel et al. 2017).

    Args:
        a, b: (N, D) and (M, D), at least two rows each. Fewer than D rows give a singular covariance, which is allowed.

    The trace of the root is the sum of the roots of the eigenvalues of R S2 R with R = S1^(1/2), which is symmetric; so
    nothing complex comes up, and a singular product needs no special case.
    """
    first, second = (np.atleast_2d(np.cov(features, rowvar=False)) for features in (a, b))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    apart = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    return float(apart + np.trace(first) + np.trace(second) - 2 * cross)


def _average_cells(pictures: Pictures) -> NDArray[np.float64]:
    """uint8 (N, S, S, C) -> (N, 64) in [0, 1]: the mean of each of 8 x 8 equal cells."""
    grey = pictures.mean(axis=-1) / 255
    average = _cell_weights(grey.shape[1])
    cells: NDArray[np.float64] = average @ grey @ average.T
    return cells.reshape(len(grey), -1)


def _cell_weights(size: int) -> NDArray[np.float64]:
    """(8, size): the share of cell i that pixel j covers, when both grids span the same length."""
    cells, pixels = np.arange(_CELLS)[:, None] / _CELLS, np.arange(size)[None, :] / size
    overlap = np.minimum(cells + 1 / _CELLS, pixels + 1 / size) - np.maximum(cells, pixels)
    share: NDArray[np.float64] = np.maximum(overlap, 0) * _CELLS
    return share
