"""Each change against its definition, one image at a time, in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ganrt.training.augment import KINDS, NUMBERS, augment

SIDE = 16


@pytest.fixture
def pictures() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (40, 3, SIDE, SIDE)).astype(np.float32))


@pytest.fixture
def random() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).uniform(size=(40, NUMBERS)).astype(np.float32))


def test_color(pictures: torch.Tensor, random: torch.Tensor) -> None:
    found = augment(pictures, ["color"], random).numpy()
    for x, u, y in zip(pictures.numpy().astype(float), random.numpy().astype(float), found, strict=True):
        x = x + u[0] - 0.5
        x = (x - x.mean(axis=0)) * (2 * u[1]) + x.mean(axis=0)
        x = (x - x.mean()) * (0.5 + u[2]) + x.mean()
        np.testing.assert_allclose(y, x, atol=1e-5)


def test_translation(pictures: torch.Tensor, random: torch.Tensor) -> None:
    found = augment(pictures, ["translation"], random).numpy()
    seen = set()
    for x, u, y in zip(pictures.numpy(), random.numpy(), found, strict=True):
        down, right = (int(v * 5) - 2 for v in u[3:5])
        seen |= {("down", down), ("right", right)}
        padded = np.pad(x, ((0, 0), (2, 2), (2, 2)))
        np.testing.assert_array_equal(y, padded[:, 2 - down : 2 - down + SIDE, 2 - right : 2 - right + SIDE])
    assert len(seen) == 10  # from two pixels one way to two the other, on both axes


def test_cutout(pictures: torch.Tensor, random: torch.Tensor) -> None:
    found = augment(pictures, ["cutout"], random).numpy()
    for x, u, y in zip(pictures.numpy(), random.numpy(), found, strict=True):
        top, left = (int(v * (SIDE + 1)) - SIDE // 4 for v in u[5:7])
        expected = x.copy()
        expected[:, max(top, 0) : max(top + SIDE // 2, 0), max(left, 0) : max(left + SIDE // 2, 0)] = 0
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_gradients_flow_and_the_ends_of_the_range_are_fine(kind: str, pictures: torch.Tensor) -> None:
    for value in (2.0**-33, 1.0):  # what 32-bit words make of u, rounded to float32
        x = pictures.clone().requires_grad_()
        augment(x, [kind], torch.full((40, NUMBERS), value)).sum().backward()
        assert x.grad is not None and torch.isfinite(x.grad).all() and x.grad.abs().sum() > 0


def test_one_kind_after_the_other(pictures: torch.Tensor, random: torch.Tensor) -> None:
    both = augment(pictures, ["color", "cutout"], random)
    assert torch.equal(both, augment(augment(pictures, ["color"], random), ["cutout"], random))
    assert torch.equal(augment(pictures, [], random), pictures)


def test_the_chance_of_a_change_is_that_of_each_image_and_kind(pictures: torch.Tensor, random: torch.Tensor) -> None:
    whole = augment(pictures, ["color", "cutout"], random)
    assert torch.equal(augment(pictures, ["color", "cutout"], random, 1.0), whole)
    assert torch.equal(augment(pictures, ["color", "cutout"], random, 0.0), pictures)
    found = augment(pictures, ["color", "cutout"], random, 0.5)
    for x, u, y in zip(pictures, random, found, strict=True):
        kinds = [
            kind for kind, gate in zip(KINDS, u[-len(KINDS) :], strict=True) if gate < 0.5 and kind != "translation"
        ]
        assert torch.equal(y, augment(x[None], kinds, u[None])[0])
