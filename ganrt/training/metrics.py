"""Metrics of generated digits, in the features of a classifier trained on the real scans."""

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
"""Resolution of the scans in pixels."""


@dataclass(frozen=True)
class DigitMetrics:
    """Metrics of a set of pictures, and of held-out real scans for comparison.

    Read confidence and shares together: the classifier may also be confident about noise or a grey blur, but assigns
    all of it to one or two digits.
    """

    confidence: float
    """Largest class probability, mean over the pictures."""
    shares: tuple[float, ...]
    """Share of the pictures classified as 0, 1, ... 9."""
    real_confidence: float
    """Confidence on the held-out real scans."""
    real_accuracy: float
    """Accuracy on the held-out real scans."""
    distance: float
    """FD-digits: `frechet_distance` between the pictures and the training scans, in the classifier's hidden layer. It
    is not FID, which is defined by the features of Inception v3."""
    real_distance: float
    """The same distance for the held-out real scans, a practical lower bound."""


class DigitClassifier:
    """A classifier of 8 x 8 digits, trained on three quarters of the real scans.

    Scans are resized to size x size, as a generator sees them, and averaged back to 8 x 8 cells. Fitting is
    deterministic and takes seconds.
    """

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
        """Number of pictures that `measure_diversity` uses."""
        self.real_diversity = measure_diversity(check, check_labels, learn, learn_labels)
        """Diversity of the held-out scans, as a reference."""

    def evaluate(self, pictures: Pictures) -> DigitMetrics:
        """Metrics of square pictures, uint8 (N, H, W, C) with N >= 2; channels are averaged."""
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
        """Diversity of the first `count` of square pictures, uint8 (N, H, W, C) with N >= count, compared with the
        training scans. Features are the 8 x 8 cells in [0, 1], labels those that the classifier predicts.
        """
        features = _average_cells(pictures[: self.count])
        return measure_diversity(features, self._classifier.predict(features), self._real, self._real_labels)

    def predict(self, pictures: Pictures) -> NDArray[np.int64]:
        """Predicted digit of each picture, uint8 (N, H, W, C): int64 (N,)."""
        found: NDArray[np.int64] = self._classifier.predict(_average_cells(pictures)).astype(np.int64)
        return found

    def _hidden_features(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Activations of the classifier's hidden layer, (N, 64)."""
        found: NDArray[np.float64] = np.maximum(
            features @ self._classifier.coefs_[0] + self._classifier.intercepts_[0], 0
        )
        return found


def frechet_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Squared Frechet distance of two normal distributions with the means and covariances of two sets of features:
    |m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)) (Dowson, Landau, J. Multivariate Analysis 12, 1982; Heusel et al. 2017).

    Args:
        a, b: (N, D) and (M, D), at least two rows each. Fewer than D rows give a singular covariance, which is allowed.

    The trace of the root is computed from the eigenvalues of R S2 R with R = S1^(1/2). That matrix is symmetric, so no
    complex numbers arise and a singular product needs no special case.
    """
    first, second = (np.atleast_2d(np.cov(features, rowvar=False)) for features in (a, b))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    apart = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    return float(apart + np.trace(first) + np.trace(second) - 2 * cross)


def _average_cells(pictures: Pictures) -> NDArray[np.float64]:
    """Mean of each of 8 x 8 equal cells of pictures, uint8 (N, S, S, C): (N, 64) in [0, 1]."""
    grey = pictures.mean(axis=-1) / 255
    average = _cell_weights(grey.shape[1])
    cells: NDArray[np.float64] = average @ grey @ average.T
    return cells.reshape(len(grey), -1)


def _cell_weights(size: int) -> NDArray[np.float64]:
    """(8, size): share of cell i that pixel j covers."""
    cells, pixels = np.arange(_CELLS)[:, None] / _CELLS, np.arange(size)[None, :] / size
    overlap = np.minimum(cells + 1 / _CELLS, pixels + 1 / size) - np.maximum(cells, pixels)
    share: NDArray[np.float64] = np.maximum(overlap, 0) * _CELLS
    return share
