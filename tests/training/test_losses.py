"""Losses against the formulas they stand for, in float64 numpy on probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.optional import unwrap
from torch import nn

from ganrt.errors import RequestError
from ganrt.models import get_family
from ganrt.training import LOSSES, TrainingOptions
from ganrt.training.losses import gradient_penalty, orthogonal_penalty
from ganrt.training.networks import Networks

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
        ("lsgan", ((REAL - 1) ** 2).mean() / 2 + (FAKE**2).mean() / 2),
        ("lsgan-sym", ((REAL - 1) ** 2).mean() / 2 + ((FAKE + 1) ** 2).mean() / 2),
        ("wgan", FAKE.mean() - REAL.mean()),
        ("wgan-gp", FAKE.mean() - REAL.mean()),
        ("wgan-gp-drift", FAKE.mean() - REAL.mean() + 0.001 * (REAL**2).mean()),
        ("hinge", np.maximum(1 - REAL, 0).mean() + np.maximum(1 + FAKE, 0).mean()),
    ],
)
def test_discriminator_loss(name: str, expected: float) -> None:
    assert LOSSES[name].discriminator(tensor(REAL), tensor(FAKE)).item() == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("non-saturating", -np.log(probability(FAKE)).mean()),
        ("minimax", np.log(1 - probability(FAKE)).mean()),
        ("lsgan", ((FAKE - 1) ** 2).mean() / 2),
        ("lsgan-sym", (FAKE**2).mean() / 2),
        ("wgan", -FAKE.mean()),
        ("wgan-gp", -FAKE.mean()),
        ("wgan-gp-drift", -FAKE.mean()),
        ("hinge", -FAKE.mean()),
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


def test_what_the_rows_need_around_them() -> None:
    assert {name: loss.clip for name, loss in LOSSES.items() if loss.clip} == {"wgan": 0.01}
    assert {name for name, loss in LOSSES.items() if loss.penalty == 10} == {"wgan-gp", "wgan-gp-drift"}
    assert {name for name, loss in LOSSES.items() if loss.critic_steps == 5} == {"wgan", "wgan-gp"}


def images(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def test_the_penalty_of_a_linear_critic_is_known() -> None:
    """D(x) = w . x has the gradient w everywhere, over all channels and pixels."""
    weight = images(0, 3 * 4 * 5).requires_grad_()
    found = gradient_penalty(
        lambda x: x.flatten(1) @ weight, images(1, 6, 3, 4, 5), images(2, 6, 3, 4, 5), images(3, 6)
    )
    length = np.linalg.norm(weight.detach().numpy())
    assert found.item() == pytest.approx((length - 1) ** 2, rel=1e-12)
    found.backward()
    expected = 2 * (length - 1) * weight.detach().numpy() / length
    assert weight.grad is not None
    np.testing.assert_allclose(weight.grad.numpy(), expected, rtol=1e-10)


def test_every_pair_is_mixed_by_a_share_of_its_own_and_the_mean_taken() -> None:
    """D(x) = |x|^2 / 2 has the gradient x, so the penalty shows where it was taken."""
    real, fake, share = images(1, 6, 1, 2, 2), images(2, 6, 1, 2, 2), torch.linspace(0, 1, 6, dtype=torch.float64)
    found = gradient_penalty(lambda x: x.square().flatten(1).sum(1) / 2, real, fake, share)
    mixed = [s * r + (1 - s) * f for s, r, f in zip(share.numpy(), real.numpy(), fake.numpy(), strict=True)]
    assert found.item() == pytest.approx(np.mean([(np.linalg.norm(x) - 1) ** 2 for x in mixed]), rel=1e-12)


@pytest.mark.parametrize("family", ["dcgan", "mlp"])
def test_the_penalty_of_a_family_s_discriminator_against_finite_differences(family: str) -> None:
    networks = Networks(TrainingOptions(family, {"size": 16, "channels": 1, "latent": 4}, loss="wgan-gp"))
    critic = unwrap(networks.discriminator).double()
    real, fake, share = images(1, 3, 1, 16, 16), images(2, 3, 1, 16, 16), torch.full((3,), 0.3, dtype=torch.float64)
    first = next(parameter for parameter in critic.parameters() if parameter.ndim == 4)
    gradient_penalty(critic, real, fake, share).backward()
    assert first.grad is not None
    direction = images(4, *first.shape)
    slope = (first.grad * direction).sum().item()
    values = []
    for sign in (1e-6, -2e-6):
        with torch.no_grad():
            first.add_(direction, alpha=sign)
        values.append(gradient_penalty(critic, real, fake, share).item())
    assert (values[0] - values[1]) / 2e-6 == pytest.approx(slope, rel=1e-4)


def test_a_penalised_critic_judges_each_image_alone_and_sees_its_contrast() -> None:
    networks = Networks(TrainingOptions("dcgan", {"size": 16, "channels": 1, "width": 4}, loss="wgan-gp"))
    critic, pictures = unwrap(networks.discriminator), images(0, 5, 1, 16, 16).float()
    assert not any(isinstance(part, nn.BatchNorm2d) for part in critic.modules())
    with torch.no_grad():
        torch.testing.assert_close(critic(pictures)[:2], critic(pictures[:2]))
        assert (critic(pictures) - critic(pictures / 2)).abs().min() > 1e-3
    plain = unwrap(Networks(TrainingOptions("dcgan", {"size": 16, "channels": 1, "width": 4})).discriminator)
    assert any(isinstance(part, nn.BatchNorm2d) for part in plain.modules())


def test_the_orthogonal_penalty_has_the_published_gradient() -> None:
    """2 ((W W^T) (1 - I)) W of the code that BigGAN was published with."""
    weight, bias, shared = (nn.Parameter(images(k, *shape)) for k, shape in enumerate([(3, 2, 2), (3,), (4, 4)]))
    orthogonal_penalty([("conv.weight", weight), ("conv.bias", bias), ("shared.weight", shared)]).backward()
    w = weight.detach().numpy().reshape(3, 4)
    assert weight.grad is not None and shared.grad is None
    np.testing.assert_allclose(weight.grad.numpy().reshape(3, 4), 2 * ((w @ w.T) * (1 - np.eye(3))) @ w, rtol=1e-12)


def test_packing_widens_the_first_convolution() -> None:
    config = {"size": 16, "channels": 1, "width": 4}
    packed = unwrap(Networks(TrainingOptions("dcgan", config, packing=2)).discriminator)
    assert packed(torch.zeros(3, 2, 16, 16)).shape == (3,)
    family = get_family("dcgan")
    assert family.discriminator is not None
    plain = family.discriminator(family.configure(config))
    assert sum(p.numel() for p in packed.parameters()) - sum(p.numel() for p in plain.parameters()) == 4 * 16


def test_packing_needs_a_plain_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    family = get_family("dcgan")
    object_with_none = type(family)(**{**vars(family), "discriminator": lambda config: nn.Linear(1, 1)})
    monkeypatch.setattr("ganrt.training.networks.get_family", lambda name: object_with_none)
    with pytest.raises(RequestError, match="packing needs a discriminator that begins with a plain convolution"):
        Networks(TrainingOptions("dcgan", {"size": 16}, packing=2))
