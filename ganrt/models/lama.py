"""LaMa (Suvorov et al., "Resolution-robust Large Mask Inpainting with Fourier Convolutions", WACV 2022; advimman/lama):
residual blocks in which one part of the channels is convolved, and the other in the frequencies of the whole picture.
Keys are those of LaMa's generator. For inference.

Fourier transforms are products with matrices of cosines and sines, which are computed from the height and width of the
features. In ONNX, that is plain operators on sizes that stay free; DFT has no counterpart of `irfftn`, and not every
backend has DFT. At an eighth of a picture's size, the products cost less than the convolutions beside them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from ganrt.errors import RequestError
from ganrt.models import upscaling
from ganrt.models.family import Family, Layout, Shapes, State, check_bounds
from ganrt.spec import Image, Output, Spec

ValueT = TypeVar("ValueT")
_RANGE = (0.0, 1.0)
_WIDEST = 1024
"""Most channels, however often the picture was halved."""
_TRAINED = "generator."
"""Prefix of the generator's keys in a checkpoint of the whole training."""
_WRAPPED = "model."
"""Prefix of the generator's keys in the files of chaiNNer and spandrel, whose module pastes."""

Parts: TypeAlias = list[Tensor]
"""Features: the part that is convolved, and, from the last halving on, the part that is transformed."""


@dataclass(frozen=True)
class Config:
    """Settings of `lama`. The defaults are those of Big-LaMa."""

    width: int = 64
    """Channels at full size, 1 to 512; they double with each halving."""
    halvings: int = 3
    """How often height and width are halved, 1 to 5."""
    blocks: int = 18
    """Residual blocks at the smallest size, 1 to 64."""
    transformed: int = 384
    """Channels of the blocks that are transformed, an even number; three quarters in the published networks."""
    activation: str = "sigmoid"
    """Of the output: `sigmoid`, as in Big-LaMa, or `tanh`. Checkpoints do not tell."""
    paste: bool = False
    """Whether pixels outside of the holes are those of the input, and not the network's, which are close to them."""

    def __post_init__(self) -> None:
        check_bounds(width=(self.width, 1, 512), halvings=(self.halvings, 1, 5), blocks=(self.blocks, 1, 64))
        widest = self.widths[-1] - 1
        if self.transformed % 2 or not 2 <= self.transformed <= widest:
            raise RequestError(f"transformed is {self.transformed}; it must be an even number from 2 to {widest}")
        if self.activation not in ("sigmoid", "tanh"):
            raise RequestError(f"activation is {self.activation!r}; it must be sigmoid or tanh")

    @property
    def widths(self) -> list[int]:
        """Channels at full size and after each halving."""
        return [min(_WIDEST, self.width * 2**k) for k in range(self.halvings + 1)]


class Waves(NamedTuple):
    """The matrices of the Fourier transform of H x W pixels, normalized like `norm="ortho"`. K is W // 2 + 1."""

    cosines: Tensor
    """(W, K): real part of the transform of rows."""
    sines: Tensor
    """(W, K): its imaginary part."""
    columns: Tensor
    """(2 H, 2 H): transform of columns, real parts above imaginary ones. Its transpose is its inverse."""
    inverse_cosines: Tensor
    """(K, W): back from the real part of the transform of rows."""
    inverse_sines: Tensor
    """(K, W): back from its imaginary part."""


def build_waves(height: int, width: int) -> Waves:
    """Compute the matrices for a size, float32, on the CPU. Angles are reduced to one turn in whole numbers, so that
    they are exact to the last digits of float32 for any size."""
    cosines, sines = _build_wave_pair(width, width // 2 + 1)
    down, across = _build_wave_pair(height, height)
    columns = torch.cat([torch.cat([down, across], 1), torch.cat([-across, down], 1)])
    # Of a real row, every frequency but 0 and, for even widths, the highest stands for its mirror image, too.
    numbers, waves = torch.arange(width), torch.arange(width // 2 + 1)
    alone = (waves == 0) | (2 * waves == numbers[-1:] + 1)
    weights = (2 - alone.to(torch.float32))[:, None]
    return Waves(cosines, -sines, columns, weights * cosines.T, -weights * sines.T)


def _build_wave_pair(length: int, count: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of `count` frequencies at `length` places, (length, count) each, divided by sqrt(length)."""
    numbers, waves = torch.arange(length), torch.arange(count)
    total = numbers[-1:] + 1  # the length as a tensor, which keeps it free in a traced graph
    angles = (numbers[:, None] * waves % total).to(torch.float32) * (2 * math.pi / total.to(torch.float32))
    scale = total.to(torch.float32).rsqrt()
    return angles.cos() * scale, angles.sin() * scale


class FourierUnit(nn.Module):
    """A 1x1 convolution of the spectrum. Real and imaginary parts are channels, by turns."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_layer = nn.Conv2d(2 * width, 2 * width, 1, bias=False)
        self.bn = nn.BatchNorm2d(2 * width)

    def forward(self, x: Tensor, waves: Waves) -> Tensor:
        """(N, width, H, W) -> the same shape."""
        count, channels, height, _ = x.shape
        spectrum = waves.columns @ torch.cat([x @ waves.cosines, x @ waves.sines], 2)
        frequencies = spectrum.shape[3]
        spectrum = spectrum.reshape(count, 2 * channels, height, frequencies)
        spectrum = self.bn(self.conv_layer(spectrum)).relu()
        back = waves.columns.T @ spectrum.reshape(count, channels, 2 * height, frequencies)
        back = back.reshape(count, channels, 2, height, frequencies)
        made: Tensor = back[:, :, 0] @ waves.inverse_cosines + back[:, :, 1] @ waves.inverse_sines
        return made


class SpectralTransform(nn.Module):
    """A Fourier unit and an identity beside it, at half as many channels."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(before, after // 2, 1, bias=False), nn.BatchNorm2d(after // 2), nn.ReLU())
        self.fu = FourierUnit(after // 2)
        self.conv2 = nn.Conv2d(after // 2, after, 1, bias=False)

    def forward(self, x: Tensor, waves: Waves) -> Tensor:
        """(N, before, H, W) -> (N, after, H, W)."""
        x = self.conv1(x)
        return self.conv2(x + self.fu(x, waves))  # type: ignore[no-any-return]


class FourierConv(nn.Module):
    """Convolutions from each part of the features to each."""

    def __init__(self, before: tuple[int, int], after: tuple[int, int], side: int, stride: int, padding: int) -> None:
        super().__init__()

        def build_conv(inputs: int, outputs: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, side, stride, padding, bias=False, padding_mode="reflect")

        self.convl2l = build_conv(before[0], after[0])
        self.convl2g = build_conv(before[0], after[1]) if after[1] else None
        self.convg2l = build_conv(before[1], after[0]) if before[1] else None
        self.convg2g = SpectralTransform(before[1], after[1]) if before[1] else None

    def forward(self, parts: Parts, waves: Waves | None) -> Parts:
        """Parts of (N, before[k], H, W) -> parts of (N, after[k], H / stride, W / stride)."""
        made = [self.convl2l(parts[0])]
        if self.convl2g is not None:
            made.append(self.convl2g(parts[0]))
        if self.convg2l is not None and self.convg2g is not None:
            made = [made[0] + self.convg2l(parts[1]), made[1] + self.convg2g(parts[1], waves)]
        return made


class NormalizedConv(nn.Module):
    """Fourier convolution, batch norm and ReLU."""

    def __init__(
        self, before: tuple[int, int], after: tuple[int, int], side: int = 3, stride: int = 1, padding: int = 1
    ) -> None:
        super().__init__()
        self.ffc = FourierConv(before, after, side, stride, padding)
        self.bn_l = nn.BatchNorm2d(after[0])
        self.bn_g = nn.BatchNorm2d(after[1]) if after[1] else nn.Identity()

    def forward(self, parts: Parts, waves: Waves | None = None) -> Parts:
        """Apply the layer to the parts of features."""
        norms = (self.bn_l, self.bn_g)
        return [norm(part).relu() for norm, part in zip(norms, self.ffc(parts, waves), strict=False)]


class Residual(nn.Module):
    """Residual block of two Fourier convolutions."""

    def __init__(self, widths: tuple[int, int]) -> None:
        super().__init__()
        self.conv1 = NormalizedConv(widths, widths)
        self.conv2 = NormalizedConv(widths, widths)

    def forward(self, parts: Parts, waves: Waves) -> Parts:
        """Apply the block to the parts of features."""
        changes = self.conv2(self.conv1(parts, waves), waves)
        return [part + change for part, change in zip(parts, changes, strict=True)]


class Generator(nn.Module):
    """Picture (N, 3, H, W) in [0, 1] and mask (N, 1, H, W), 1 in the holes -> the picture (N, 3, H, W) with its holes
    filled, in [0, 1]. H and W are multiples of 2^halvings; what the picture has in the holes is not looked at."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        split = widths[-1] - config.transformed, config.transformed
        encoder: list[nn.Module] = [nn.ReflectionPad2d(3), NormalizedConv((4, 0), (widths[0], 0), side=7, padding=0)]
        for before, after in pairwise(widths[:-1]):
            encoder.append(NormalizedConv((before, 0), (after, 0), stride=2))
        encoder.append(NormalizedConv((widths[-2], 0), split, stride=2))
        decoder: list[nn.Module] = []
        for before, after in pairwise(reversed(widths)):
            upsampling = nn.ConvTranspose2d(before, after, 3, 2, 1, output_padding=1)
            decoder += [upsampling, nn.BatchNorm2d(after), nn.ReLU()]
        self.middle = len(encoder)
        blocks = [Residual(split) for _ in range(config.blocks)]
        # An Identity has the place of the layer that joins the parts.
        ends = [nn.ReflectionPad2d(3), nn.Conv2d(widths[0], 3, 7)]
        self.model = nn.ModuleList([*encoder, *blocks, nn.Identity(), *decoder, *ends])

    def forward(self, picture: Tensor, mask: Tensor) -> Tensor:
        """Fill the holes."""
        pad, *encoder = self.model[: self.middle]
        end = self.middle + self.config.blocks
        blocks, decoder = self.model[self.middle : end], self.model[end:]
        parts = [pad(torch.cat([picture * (1 - mask), mask], 1))]
        for layer in encoder:
            parts = layer(parts)
        height, width = parts[0].shape[2:]
        waves = Waves(*(matrix.to(picture) for matrix in build_waves(height, width)))
        for block in blocks:
            parts = block(parts, waves)
        made = torch.cat(parts, 1)
        for layer in decoder:
            made = layer(made)
        made = made.sigmoid() if self.config.activation == "sigmoid" else made.tanh()
        return picture * (1 - mask) + made * mask if self.config.paste else made


def build_spec(config: Config) -> Spec:
    """A picture and the mask of its holes in, the filled picture out, all in [0, 1]."""
    rule = 2**config.halvings
    picture = Image("picture", "content", 3, _RANGE, multiple_of=rule)
    mask = Image("mask", "mask", 1, _RANGE, multiple_of=rule, like="picture")
    return Spec("lama", (picture, mask), Output(3, _RANGE, None))


def guess_config(shapes: Shapes) -> Config | None:
    """Infer all but activation and paste: model.1 is (width, 4, 7, 7); halvings and blocks are counted."""
    first = upscaling.conv_shape(shapes, "model.1.ffc.convl2l.weight")
    halvings = upscaling.count_layers(shapes, r"model\.([0-9]{1,2})\.ffc\.convl2l\.weight") - 2
    last = upscaling.conv_shape(shapes, f"model.{halvings + 1}.ffc.convl2g.weight")
    blocks = upscaling.count_layers(shapes, r"model\.([0-9]{1,2})\.conv1\.ffc\.convl2l\.weight") - 2 - halvings
    if first is None or last is None or first[1] != 4:
        return None
    try:
        return Config(first[0], halvings, blocks, last[0])
    except RequestError:
        return None


def guess_training(shapes: Shapes) -> Config | None:
    """The same for a checkpoint of the whole training, which holds a discriminator and the networks of losses, too."""
    return guess_config(_keep_prefixed(shapes, _TRAINED))


def keep_trained(state: State, config: Config) -> State:
    """Keep the generator, without the prefix of its keys."""
    return _keep_prefixed(state, _TRAINED)


def guess_wrapped(shapes: Shapes) -> Config | None:
    """The same for a generator within a module that pastes the picture around the holes."""
    found = guess_config(_keep_prefixed(shapes, _WRAPPED))
    return None if found is None else replace(found, paste=True)


def keep_wrapped(state: State, config: Config) -> State:
    """Keep the generator, without the prefix of its keys."""
    return _keep_prefixed(state, _WRAPPED)


def _keep_prefixed(values: Mapping[str, ValueT], prefix: str) -> dict[str, ValueT]:
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}


FAMILY = Family(
    "lama",
    Config,
    Generator,
    build_spec,
    (
        Layout("LaMa's generator", guess_config),
        Layout("LaMa", guess_training, keep_trained),
        Layout("chaiNNer's LaMa", guess_wrapped, keep_wrapped),
    ),
)
