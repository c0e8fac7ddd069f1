"""Adversarial losses on logits, and penalties. To add a loss: a row of LOSSES, and known answers in its test."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, softplus


@dataclass(frozen=True)
class Loss:
    """An adversarial loss, and the training settings that belong to it.

    Both functions take logits (N,), one per image, and return the mean loss, a scalar.
    """

    name: str
    """Its key in LOSSES."""
    discriminator: Callable[[Tensor, Tensor], Tensor]
    """(logits of real images, logits of generated images) -> loss of the discriminator."""
    generator: Callable[[Tensor], Tensor]
    """Logits of generated images -> loss of the generator."""
    critic_steps: int = 1
    """Default number of discriminator updates per generator update."""
    betas: tuple[float, float] = (0.5, 0.999)
    """Default betas of Adam."""
    clip: float | None = None
    """Bound of every parameter of the discriminator, which is clamped before each of its updates; None for none."""
    penalty: float = 0.0
    """Weight of `gradient_penalty` in the discriminator's loss. The penalty is defined per image, so the discriminator
    is built without batch norm."""
    centred: bool = False
    """Whether logit 0 means undecided between real and generated."""


def gradient_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """E (|grad D(x)| - 1)^2 at x = share * real + (1 - share) * fake (Gulrajani et al., "Improved Training of
    Wasserstein GANs", NeurIPS 2017, algorithm 1).

    Args:
        discriminator: images (N, ...) -> logits (N,).
        real, fake: images (N, ...). No gradients flow back into them.
        share: (N,) in [0, 1], one for each pair. The norm is taken over all dimensions but the batch.

    Returns a scalar that is differentiable with respect to the discriminator's parameters.
    """
    weight = share.reshape(-1, *[1] * (real.ndim - 1))
    between = (weight * real + (1 - weight) * fake).detach().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(between).sum(), between, create_graph=True)
    length: Tensor = torch.linalg.vector_norm(slope.flatten(1), dim=1)
    return (length - 1).square().mean()


def orthogonal_penalty(weights: Iterable[tuple[str, nn.Parameter]]) -> Tensor:
    """Orthogonal regularisation: half the sum of the squared off-diagonal entries of W W^T, a scalar (Brock et al.,
    "Large Scale GAN Training", ICLR 2019, equation 3, and `ortho` of its code).

    Args:
        weights: named parameters. Those of two or more dimensions count, flattened to W (out, rest), except shared
            class embeddings.
    """
    total = torch.zeros(())
    for name, weight in weights:
        if weight.ndim >= 2 and "shared" not in name:
            gram = weight.flatten(1) @ weight.flatten(1).T
            total = total.to(gram.device) + (gram - gram.diag().diag()).square().sum() / 2
    return total


def _logistic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """-log D(x) - log(1 - D(G(z))) with D = sigmoid of the logit (Goodfellow et al. 2014, equation 1)."""
    return softplus(-real).mean() + softplus(fake).mean()


def _least_squares_loss(name: str, for_fake: float, for_real: float, wanted: float) -> Loss:
    """Mao et al., "Least Squares Generative Adversarial Networks", ICCV 2017, equation 9, with its a, b, c."""
    return Loss(
        name,
        lambda real, fake: ((real - for_real).square().mean() + (fake - for_fake).square().mean()) / 2,
        lambda fake: (fake - wanted).square().mean() / 2,
        centred=for_fake == -for_real,
    )


def _critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Minus the estimate of the Wasserstein distance (Arjovsky et al., "Wasserstein GAN", 2017, algorithm 1)."""
    return fake.mean() - real.mean()


def _critic_loss_with_drift(real: Tensor, fake: Tensor) -> Tensor:
    """Wasserstein loss with a drift term that keeps the logits close to 0 (Karras et al. 2018, appendix A.1)."""
    return _critic_loss(real, fake) + 0.001 * real.square().mean()


def _hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Lim, Ye, "Geometric GAN", 2017; Miyato et al. 2018, equation 16."""
    return relu(1 - real).mean() + relu(1 + fake).mean()


def _negative_mean(fake: Tensor) -> Tensor:
    return -fake.mean()


_ALL = (
    # Goodfellow et al. 2014, section 3, last paragraph: maximise log D(G(z)), which has a gradient from the start.
    Loss("non-saturating", _logistic_loss, lambda fake: softplus(-fake).mean(), centred=True),
    # Equation 1 of the same paper: minimise log(1 - D(G(z))), which saturates while D is better.
    Loss("minimax", _logistic_loss, lambda fake: -softplus(fake).mean(), centred=True),
    _least_squares_loss("lsgan", 0, 1, 1),
    # These targets minimise the Pearson chi-square divergence.
    _least_squares_loss("lsgan-sym", -1, 1, 0),
    # The paper uses RMSprop and warns of momentum: Adam with beta 0, and RMSprop's default of torch for the second.
    Loss("wgan", _critic_loss, _negative_mean, critic_steps=5, betas=(0.0, 0.99), clip=0.01),
    Loss("wgan-gp", _critic_loss, _negative_mean, critic_steps=5, betas=(0.0, 0.9), penalty=10.0),
    # Progressive growing uses it with one critic step.
    Loss("wgan-gp-drift", _critic_loss_with_drift, _negative_mean, betas=(0.0, 0.99), penalty=10.0),
    # Betas of SAGAN (Zhang et al. 2019, section 4).
    Loss("hinge", _hinge_loss, _negative_mean, betas=(0.0, 0.9), centred=True),
)

LOSSES = {loss.name: loss for loss in _ALL}
"""Name, as `--loss` takes it -> loss."""
