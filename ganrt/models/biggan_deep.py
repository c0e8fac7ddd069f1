"""BigGAN-deep as published for 128, 256 and 512 pixels (Brock, Donahue, Simonyan, "Large Scale GAN Training for High
Fidelity Natural Image Synthesis", ICLR 2019), in the form of huggingface/pytorch-pretrained-BigGAN. For inference: its
discriminator was never released.

Its batch norms hold statistics for 51 truncations, 0, 0.02, ..., 1, which are interpolated inside the network. The
original does that in a way of its own, and its pictures are reproduced with it:

- The two weights of the interpolation are swapped: at 0.41, half of each; at 0.405, three quarters of 0.42's.
- Its division is inexact, so at 0.14, 0.28 and 0.56 it takes the statistics of 0.16, 0.30 and 0.58, and at 0.58 and
  0.94 those of 0.56 and 0.92. A float32 input cannot tell such values from others by their last bits, so whatever is
  within 2e-7 of a multiple of 0.02 counts as that multiple.

The latent is truncated too: values resampled at 2, times the truncation. A caller who passes `z` does that beforehand.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from ganrt.errors import RequestError
from ganrt.models.family import Family, Layout, Shapes, State, check_bounds
from ganrt.models.residual import Attention
from ganrt.spec import Input, Label, Latent, Output, Scalar, Spec

_LAST = 50
"""Number of the last of the 51 statistics."""
_NEAR = 1e-5
"""How near to a whole number a float32 truncation times 50 must be to count as one."""
_SMALLEST_TRUNCATION = 1 / _LAST


Affine: TypeAlias = tuple[Tensor, Tensor]
"""What a batch norm multiplies by and then adds, (N, C, 1, 1) each."""


@dataclass(frozen=True)
class Config:
    """Settings of `biggan_deep`. The defaults are the published model for 128 pixels."""

    widths: tuple[int, ...] = (2048, 2048, 2048, 2048, 1024, 1024, 512, 512, 256, 256, 128)
    """Channels before the first block and after every block."""
    upsample: tuple[int, ...] = (1, 3, 5, 7, 9)
    """Indices of the blocks, from 0, that double height and width: every second one in the published models. Shapes
    alone do not show it; () means unknown."""
    attention: int = 8
    """Index of the block that begins with self-attention; -1 for none."""
    latent: int = 128
    """Length of the latent and of the class embedding, 1 to 4096."""
    classes: int = 1000
    """Number of classes, 1 to 100,000."""
    truncation: float = 0.0
    """Fixed truncation of the statistics, from 0.02 to 1; 0 makes it an input."""
    eps: float = 1e-4
    """Epsilon of the batch norms, as published."""

    def __post_init__(self) -> None:
        check_bounds(latent=(self.latent, 1, 4096), classes=(self.classes, 1, 100_000))
        if not 2 <= len(self.widths) <= 41 or not all(4 <= width <= 8192 for width in self.widths):
            raise RequestError(f"widths is {self.widths}; it takes 2 to 41 numbers from 4 to 8192")
        blocks = len(self.widths) - 1
        if not set(self.upsample) <= set(range(blocks)) or len(set(self.upsample)) != len(self.upsample):
            raise RequestError(f"upsample is {self.upsample}; it takes different numbers from 0 to {blocks - 1}")
        if not -1 <= self.attention < blocks:
            raise RequestError(f"attention is {self.attention}; it must be from -1 to {blocks - 1}")
        if self.truncation and not _SMALLEST_TRUNCATION <= self.truncation <= 1:
            raise RequestError(f"truncation is {self.truncation}; it must be from 0.02 to 1, or 0 for an input")
        if not 0 < self.eps < 1:
            raise RequestError(f"eps is {self.eps}; it must be between 0 and 1")

    @property
    def size(self) -> int:
        """Height and width of the images in pixels."""
        return 4 << len(self.upsample)


class Mixture(NamedTuple):
    """Interpolation between two of the 51 statistics: row `low` times `share` plus row `high` times (1 - share)."""

    low: Tensor
    """int64 (N,), or (1,) for one truncation for all images; likewise the other fields."""
    high: Tensor
    """int64 (N,)."""
    share: Tensor
    """Weight of row `low`, float32 (N, 1)."""

    def apply(self, table: Tensor) -> Tensor:
        """Interpolate a table (51, C): (N, C)."""
        return table[self.low] * self.share + table[self.high] * (1.0 - self.share)


def _find_mixture(truncation: float) -> tuple[int, int, float]:
    """`low`, `high` and `share` as the original computes them from a truncation, in float64."""
    share, low = math.modf(truncation / (1.0 / _LAST))
    return (int(low), int(low) + 1, share) if share else (int(low), int(low), 1.0)


def _effective_row(number: int) -> int:
    """The row that the original uses for the truncation number / 50, including its inexact division."""
    low, high, share = _find_mixture(number / _LAST)
    return low if share > 0.5 else high


class Norms(nn.Module):
    """All batch norms of the network at once, as a scale and a shift each. Statistics depend on the truncation; gains
    and biases are linear in a vector (N, size), except those of the last norm, which are constant.

    One matrix product and one look-up replace a hundred small ones.
    """

    means: Tensor
    variances: Tensor

    def __init__(self, widths: list[int], size: int, eps: float) -> None:
        super().__init__()
        self.widths, self.eps = widths, eps
        self.register_buffer("means", torch.zeros(_LAST + 1, sum(widths)))
        self.register_buffer("variances", torch.ones(_LAST + 1, sum(widths)))
        self.gain = nn.Linear(size, sum(widths[:-1]), bias=False)
        """Computes the gains minus 1."""
        self.bias = nn.Linear(size, sum(widths[:-1]), bias=False)
        self.last_gain = nn.Parameter(torch.ones(widths[-1]))
        self.last_bias = nn.Parameter(torch.zeros(widths[-1]))

    def forward(self, mixture: Mixture, vector: Tensor) -> list[Affine]:
        """Scale and shift of every norm, in order."""
        rows = vector.shape[0]
        gain = torch.cat([1.0 + self.gain(vector), self.last_gain.expand(rows, -1)], 1)
        bias = torch.cat([self.bias(vector), self.last_bias.expand(rows, -1)], 1)
        scale = gain * torch.rsqrt(mixture.apply(self.variances) + self.eps)
        shift = bias - mixture.apply(self.means) * scale
        scales, shifts = (torch.split(value[:, :, None, None], self.widths, 1) for value in (scale, shift))
        return list(zip(scales, shifts, strict=True))


def _apply_affine_relu(x: Tensor, norm: Affine) -> Tensor:
    scale, shift = norm
    return functional.relu(x * scale + shift)


class Block(nn.Module):
    """Bottleneck: (N, before, H, W) -> (N, width, H, W), or twice the height and width. The shortcut drops channels."""

    def __init__(self, before: int, width: int, upsample: bool, attention: bool) -> None:
        super().__init__()
        inner = before // 4
        self.attention = Attention(before) if attention else nn.Identity()
        self.factor = 2.0 if upsample else 1.0
        self.width = width
        self.conv0 = nn.Conv2d(before, inner, 1)
        self.conv1 = nn.Conv2d(inner, inner, 3, padding=1)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1)
        self.conv3 = nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor, norms: list[Affine]) -> Tensor:
        """Apply the block with its four norms."""
        x = self.attention(x)
        hidden = self.conv0(_apply_affine_relu(x, norms[0]))
        hidden = self.conv1(self._upsample(_apply_affine_relu(hidden, norms[1])))
        hidden = self.conv2(_apply_affine_relu(hidden, norms[2]))
        hidden = self.conv3(_apply_affine_relu(hidden, norms[3]))
        return hidden + self._upsample(x[:, : self.width])  # type: ignore[no-any-return]

    def _upsample(self, x: Tensor) -> Tensor:
        return x if self.factor == 1 else functional.interpolate(x, scale_factor=self.factor, mode="nearest")


class Generator(nn.Module):
    """Latents (N, latent), int64 labels (N,), and truncations (N,) unless fixed -> (N, 3, size, size) in [-1, 1]."""

    rows: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths, self.truncation = config.widths, config.truncation
        self.embedding = nn.Embedding(config.classes, config.latent)
        self.linear = nn.Linear(2 * config.latent, 16 * widths[0])
        self.blocks = nn.ModuleList(
            Block(before, width, k in config.upsample, k == config.attention)
            for k, (before, width) in enumerate(itertools.pairwise(widths))
        )
        within = [width for before in widths[:-1] for width in (before, *[before // 4] * 3)]
        self.norms = Norms([*within, widths[-1]], 2 * config.latent, config.eps)
        self.to_rgb = nn.Conv2d(widths[-1], 3, 3, padding=1)
        self.register_buffer("rows", torch.tensor([_effective_row(k) for k in range(_LAST + 1)]), persistent=False)

    def forward(self, z: Tensor, label: Tensor, truncation: Tensor | None = None) -> Tensor:
        """Generate images from latents, labels and truncations."""
        mixture = self._mix_fixed(z) if truncation is None else self._mix_requested(truncation)
        vector = torch.cat([z, self.embedding(label)], 1)
        norms = self.norms(mixture, vector)
        x = self.linear(vector).unflatten(1, (-1, 4, 4))
        for k, block in enumerate(self.blocks):
            x = block(x, norms[4 * k : 4 * k + 4])
        return self.to_rgb(_apply_affine_relu(x, norms[-1])).tanh()  # type: ignore[no-any-return]

    def _mix_fixed(self, like: Tensor) -> Mixture:
        low, high, share = _find_mixture(self.truncation)
        rows = torch.tensor([[low], [high]], device=like.device)
        return Mixture(rows[0], rows[1], torch.full((1, 1), share, device=like.device))

    def _mix_requested(self, truncation: Tensor) -> Mixture:
        place = truncation * _LAST
        nearest, below = place.round(), place.floor()
        exact = (place - nearest).abs() < _NEAR
        row = self.rows[nearest.long()]
        low = torch.where(exact, row, below.long())
        high = torch.where(exact, row, (below.long() + 1).clamp(max=_LAST))
        return Mixture(low, high, (place - below)[:, None])


def build_spec(config: Config) -> Spec:
    """A scaled latent, a label and, unless it is fixed, the truncation in; an image in [-1, 1] out.

    Raises RequestError when it is not known which blocks upsample.
    """
    if not config.upsample:
        raise RequestError(
            f"this BigGAN-deep does not have the published form, and its weights do not tell which of its "
            f"{len(config.widths) - 1} blocks upsample: name them from 0 with --config upsample=1,3,5"
        )
    default = config.truncation or 1.0
    inputs: list[Input] = [Latent("z", (config.latent,), truncation="scaled", default=default)]
    inputs.append(Label("label", config.classes))
    if not config.truncation:
        inputs.append(Scalar("truncation", (_SMALLEST_TRUNCATION, 1.0), default))
    return Spec("biggan_deep", tuple(inputs), Output(3, (-1.0, 1.0), (config.size, config.size)))


def guess_config(shapes: Shapes) -> Config | None:
    """Infer everything from the shapes. Which blocks upsample is known for the published form only."""
    blocks = sum(re.fullmatch(r"blocks\.\d+\.conv0\.weight", key) is not None for key in shapes)
    table = shapes.get("embedding.weight", ())
    ends = [shapes.get(f"blocks.{k}.conv{j}.weight", ()) for k in range(blocks) for j in (0, 3)]
    if not blocks or len(table) != 2 or any(len(shape) != 4 for shape in ends):
        return None
    widths = (ends[0][1], *(shape[0] for shape in ends[1::2]))
    published = blocks % 2 == 0 and all(widths[k] == widths[k + 1] for k in range(0, blocks, 2))
    upsample = tuple(range(1, blocks, 2)) if published else ()
    attentive = [k for k in range(blocks) if f"blocks.{k}.attention.gamma" in shapes]
    try:
        return Config(widths, upsample, attentive[0] if attentive else -1, table[1], table[0])
    except RequestError:
        return None


_FACTOR = re.compile(r"\.weight_(orig|u|v)$")
"""Suffixes under which spectral norm stores a weight (torch.nn.utils.spectral_norm)."""
_NAMES = [
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^generator\.", ""),
        (r"^embeddings\.", "embedding."),
        (r"^gen_z\.", "linear."),
        (r"^conv_to_rgb\.", "to_rgb."),
        (r"\.running_means$", ".means"),
        (r"\.running_vars$", ".variances"),
        (r"\.conv_(\d)\.", r".conv\1."),
        (r"\.snconv1x1_o_conv\.", ".o."),
        (r"\.snconv1x1_", "."),
    )
]
"""Key of the original -> key here, one after the other."""
_LAYER = re.compile(r"^layers\.(\d{1,3})\.")


def _map_keys(keys: Iterable[str]) -> dict[str, str]:
    """Key of the original, with `weight` for the factors of spectral norm, -> key here. Attention, a layer of its own
    in the original, belongs to the next block here."""
    plain = dict.fromkeys(_FACTOR.sub(".weight", key) for key in keys)
    attentive = [int(key.split(".")[2]) for key in plain if re.fullmatch(r"generator\.layers\.\d{1,3}\.gamma", key)]
    position = min(attentive, default=len(plain))

    def rename_layer(found: re.Match[str]) -> str:
        number = int(found[1])
        if number == position:
            return f"blocks.{number}.attention."
        return f"blocks.{number - (number > position)}."

    names = {}
    for old in plain:
        new = old
        for pattern, name in _NAMES:
            new = pattern.sub(name, new)
        names[old] = _LAYER.sub(rename_layer, new)
    return names


def _guess_huggingface(shapes: Shapes) -> Config | None:
    if "generator.gen_z.bias" not in shapes or len(shapes.get("embeddings.weight", ())) != 2:
        return None
    found = {new: shapes.get(old, shapes.get(f"{old}_orig", ())) for old, new in _map_keys(shapes).items()}
    found["embedding.weight"] = found["embedding.weight"][::-1]
    return guess_config(found)


def _convert_huggingface(state: State, config: Config) -> State:
    converted = {new: _divide_spectral_norm(state, old) for old, new in _map_keys(state).items()}
    converted["embedding.weight"] = converted["embedding.weight"].T.contiguous()
    names = [f"blocks.{k}.bn_{j}" for k in range(len(config.widths) - 1) for j in range(4)]
    for leaf in ("means", "variances"):
        converted[f"norms.{leaf}"] = torch.cat([converted.pop(f"{name}.{leaf}") for name in (*names, "bn")], 1)
    for theirs, ours in (("scale", "gain"), ("offset", "bias")):
        converted[f"norms.{ours}.weight"] = torch.cat([converted.pop(f"{name}.{theirs}.weight") for name in names])
    converted["norms.last_gain"], converted["norms.last_bias"] = converted.pop("bn.weight"), converted.pop("bn.bias")
    for key in ("linear.weight", "linear.bias"):  # channels last there, and first here
        rows = converted[key].reshape(4, 4, -1, *converted[key].shape[1:])
        converted[key] = rows.movedim(2, 0).flatten(0, 2).contiguous()
    for key in ("to_rgb.weight", "to_rgb.bias"):  # the original computes all its channels and drops the others
        converted[key] = converted[key][:3].clone()
    for key in [key for key in converted if key.endswith(".attention.gamma")]:
        converted[key] = converted[key].reshape(())
    return converted


def _divide_spectral_norm(state: State, key: str) -> Tensor:
    """A tensor divided by its spectral norm: weight_orig / (u . weight_orig v) with the stored u and v."""
    if key in state:
        return state[key]
    weight = state[f"{key}_orig"].double()
    sigma = state[f"{key}_u"].double() @ weight.flatten(1) @ state[f"{key}_v"].double()
    return (weight / sigma).float()


FAMILY = Family(
    "biggan_deep",
    Config,
    Generator,
    build_spec,
    (Layout("ganrt", guess_config), Layout("huggingface", _guess_huggingface, _convert_huggingface)),
)
