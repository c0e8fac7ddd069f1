"""What the two networks minimise, on logits. To add a loss: one row of LOSSES, and its known answers in the test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import softplus


@dataclass(frozen=True)
class Loss:
    """Both functions take logits of shape (N,), one per image, and return the mean loss as a scalar."""

    name: str
    discriminator: Callable[[Tensor, Tensor], Tensor]
    """(logits of real images, logits of generated ones) -> what the discriminator minimises."""
    generator: Callable[[Tensor], Tensor]
    """Logits of generated images -> what the generator minimises."""


def _logistic(real: Tensor, fake: Tensor) -> Tensor:
    """-log D(x) - log(1 - D(G(z))) with D = sigmoid of the logit (Goodfellow et al. 2014, equation 1)."""
    return softplus(-real).mean() + softplus(fake).mean()


_ALL = (
    # Goodfellow et al. 2014, section 3, last paragraph: maximise log D(G(z)), which has a gradient from the start.
    Loss("non-saturating", _logistic, lambda fake: softplus(-fake).mean()),
    # The same article's equation 1 as printed: minimise log(1 - D(G(z))), which saturates while D is ahead.
    Loss("minimax", _logistic, lambda fake: -softplus(fake).mean()),
)

LOSSES = {loss.name: loss for loss in _ALL}
"""Name, as `--loss` takes it, -> loss."""
