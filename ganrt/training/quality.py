"""Are the digits digits? A classifier that learned from the real scans is asked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from ganrt.images import Pictures
from ganrt.training.data import load_images

_CELLS = 8
"""The scans' own resolution."""


@dataclass(frozen=True)
class DigitQuality:
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


class DigitJudge:
    """A classifier of 8 x 8 digits, trained on three quarters of the real scans as a generator of this size sees them:
    enlarged to size x size, then averaged down again."""

    def __init__(self, size: int) -> None:
        real = load_images("digits", size, 1)
        learn, check, learn_labels, check_labels = train_test_split(
            _features(real.pictures), real.labels, test_size=0.25, stratify=real.labels, random_state=0
        )
        self._classifier = MLPClassifier((64,), max_iter=500, random_state=0).fit(learn, learn_labels)
        self._real_confidence = float(self._classifier.predict_proba(check).max(axis=1).mean())
        self._real_accuracy = float(self._classifier.score(check, check_labels))

    def judge(self, pictures: Pictures) -> DigitQuality:
        """`pictures`: uint8 (N, H, W, C) with N >= 1, square; colours are averaged."""
        chances = self._classifier.predict_proba(_features(pictures))
        counts = np.bincount(chances.argmax(axis=1), minlength=10)
        shares = tuple((counts / len(pictures)).tolist())
        return DigitQuality(float(chances.max(axis=1).mean()), shares, self._real_confidence, self._real_accuracy)


def _features(pictures: Pictures) -> NDArray[np.float64]:
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
