"""Losses against the formulas they stand for, in float64 numpy on probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ganrt.training import LOSSES

REAL = np.array([-3.0, -0.5, 0.0, 2.0, 7.5])
FAKE = np.array([4.0, 0.25, -1.0, -6.0, 0.0])


def probability(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def tensor(values: np.ndarray) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("name", ["non-saturating", "minimax"])
def test_the_discriminator_maximises_the_printed_objective(name: str) -> None:
    expected = -(np.log(probability(REAL)).mean() + np.log(1 - probability(FAKE)).mean())
    assert LOSSES[name].discriminator(tensor(REAL), tensor(FAKE)).item() == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("non-saturating", -np.log(probability(FAKE)).mean()),
        ("minimax", np.log(1 - probability(FAKE)).mean()),
    ],
)
def test_generator_loss(name: str, expected: float) -> None:
    assert LOSSES[name].generator(tensor(FAKE)).item() == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize(("name", "gradient"), [("non-saturating", -1.0), ("minimax", 0.0)])
def test_only_the_minimax_form_saturates_when_the_discriminator_is_sure(name: str, gradient: float) -> None:
    logit = torch.tensor([-40.0], requires_grad=True)
    LOSSES[name].generator(logit).backward()
    assert logit.grad is not None
    assert logit.grad.item() == pytest.approx(gradient, abs=1e-6)


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("size", [-1e4, 1e4])
def test_extreme_logits_stay_finite(name: str, size: float) -> None:
    logits = torch.full((3,), size)
    assert torch.isfinite(LOSSES[name].discriminator(-logits, logits))
    assert torch.isfinite(LOSSES[name].generator(logits))


def test_each_row_stands_under_its_own_name() -> None:
    assert all(name == loss.name for name, loss in LOSSES.items())
