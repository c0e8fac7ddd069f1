"""Layers that residual GANs share: self-attention, conditional batch norm, orthogonal initialisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Self-attention as SAGAN's authors released it (Zhang et al., ICML 2019; not as the paper's text has it), and as
    BigGAN uses it: (N, C, H, W) -> the same shape, H and W even.

    Queries at every pixel, keys and values at 2 x 2 maxima; the scores are not scaled by the width.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        inner, values = max(1, width // 8), max(1, width // 2)
        self.theta = nn.Conv2d(width, inner, 1, bias=False)
        self.phi = nn.Conv2d(width, inner, 1, bias=False)
        self.g = nn.Conv2d(width, values, 1, bias=False)
        self.o = nn.Conv2d(values, width, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))
        """Starts at 0, so the block starts as the identity."""

    def forward(self, x: Tensor) -> Tensor:
        """Add the attended values, times gamma."""
        queries = self.theta(x).flatten(2)
        keys = functional.max_pool2d(self.phi(x), 2).flatten(2)
        values = functional.max_pool2d(self.g(x), 2).flatten(2)
        weights = (queries.transpose(1, 2) @ keys).softmax(-1)  # (N, H W, H W / 4)
        mixed = (values @ weights.transpose(1, 2)).unflatten(2, x.shape[2:])
        return x + self.gamma * self.o(mixed)  # type: ignore[no-any-return]


class ClassNorm(nn.Module):
    """Batch norm with a gain and a bias per class (Dumoulin et al. 2017; Miyato and Koyama 2018): x (N, C, H, W),
    labels int64 (N,)."""

    def __init__(self, width: int, classes: int, eps: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width, eps, affine=False)
        self.gains = nn.Embedding(classes, width)
        """Gains minus 1, as BigGAN-PyTorch stores them."""
        self.biases = nn.Embedding(classes, width)
        nn.init.normal_(self.gains.weight, 0.0, 0.02)
        nn.init.zeros_(self.biases.weight)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Normalise, then modulate by class."""
        return _modulate(self.norm(x), self.gains(labels), self.biases(labels))


class VectorNorm(nn.Module):
    """Batch norm whose gain and bias are linear in a vector: x (N, C, H, W), vector (N, size) (Brock et al., "Large
    Scale GAN Training", ICLR 2019)."""

    def __init__(self, width: int, size: int, eps: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width, eps, affine=False)
        self.gain = nn.Linear(size, width, bias=False)
        """Computes the gains minus 1."""
        self.bias = nn.Linear(size, width, bias=False)

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        """Normalise, then modulate by the vector."""
        return _modulate(self.norm(x), self.gain(vector), self.bias(vector))


def _modulate(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    return x * (1.0 + gain)[:, :, None, None] + bias[:, :, None, None]


def init_orthogonal(module: nn.Module) -> None:
    """Initialise as BigGAN does (Brock et al. 2019, section 3, after Saxe et al. 2014) for linear and convolution
    weights; biases 0, as PyTorch-StudioGAN has them."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.orthogonal_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
