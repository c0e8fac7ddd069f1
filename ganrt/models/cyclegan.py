"""CycleGAN's generator (Zhu et al., "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks",
ICCV 2017, after Johnson et al. 2016), also pix2pix's with `resnet_9blocks`, and CUT's, which resizes with a blur (Park
et al., "Contrastive Learning for Unpaired Image-to-Image Translation", ECCV 2020; Zhang, "Making Convolutional Networks
Shift-Invariant Again", ICML 2019).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ganrt.errors import RequestError
from ganrt.models import translation, upscaling
from ganrt.models.family import Family, Layout, Shapes, State, check_bounds, check_channels
from ganrt.spec import Spec

_HALVINGS = 2
_Padding: TypeAlias = Literal["reflect", "replicate", "zeros"]
_PADDINGS: tuple[_Padding, ...] = ("reflect", "replicate", "zeros")


@dataclass(frozen=True)
class Config:
    """Settings of `cyclegan`. The defaults are those of the paper for 256 pixels."""

    channels: int = 3
    """Of the input, 1 to 64; pictures have 1 or 3."""
    made: int = 3
    """Channels of the output, 1 (grey) or 3 (RGB)."""
    width: int = 64
    """Channels at full size, 1 to 512 (`ngf`); they double with each halving."""
    blocks: int = 9
    """Residual blocks at quarter size, 0 to 64."""
    norm: str = "instance"
    """`batch`, `instance`, `affine` (instance norm with weights) or `none`."""
    bias: bool = True
    """Whether convolutions in front of a norm have a bias; behind an instance norm it has no effect."""
    padding: str = "reflect"
    """Of the residual blocks: `reflect`, `replicate` or `zeros`. A checkpoint tells only `zeros` from the others."""
    blur_down: bool = False
    """Whether a stride of 1 and a blur halve the image, as in CUT, or a stride of 2."""
    blur_up: bool = False
    """Whether a blur and a convolution double the image, as in CUT, or a transposed convolution."""

    def __post_init__(self) -> None:
        check_channels(self.made)
        check_bounds(channels=(self.channels, 1, 64), width=(self.width, 1, 512), blocks=(self.blocks, 0, 64))
        translation.check_norm(self.norm)
        if self.padding not in _PADDINGS:
            raise RequestError(f"padding is {self.padding!r}; it must be one of {', '.join(_PADDINGS)}")


class NormedConv(nn.Module):
    """A convolution and its norm."""

    def __init__(self, conv: nn.Module, norm: str, width: int) -> None:
        super().__init__()
        self.conv = conv
        self.norm = translation.build_norm(norm, width)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module to (N, C, H, W)."""
        return self.norm(self.conv(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Residual block without an activation after the sum."""

    def __init__(self, width: int, config: Config) -> None:
        super().__init__()
        bias, padding = config.bias, cast(_Padding, config.padding)
        self.first, self.second = (
            NormedConv(nn.Conv2d(width, width, 3, padding=1, bias=bias, padding_mode=padding), config.norm, width)
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module to (N, C, H, W)."""
        return x + self.second(functional.relu(self.first(x)))  # type: ignore[no-any-return]


class BlurDown(nn.Module):
    """Halve an image: a binomial filter of 3 x 3 with stride 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("filt", _make_filter((1.0, 2.0, 1.0)).repeat(width, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H / 2, W / 2), rounded up."""
        padded = functional.pad(x, (1, 1, 1, 1), "reflect")
        return functional.conv2d(padded, self.get_buffer("filt"), stride=2, groups=x.shape[1])


class BlurUp(nn.Module):
    """Double an image: a binomial filter of 4 x 4 between zeros."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("filt", 4 * _make_filter((1.0, 3.0, 3.0, 1.0)).repeat(width, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, 2 H, 2 W)."""
        padded = functional.pad(x, (1, 1, 1, 1), "replicate")
        return functional.conv_transpose2d(padded, self.get_buffer("filt"), stride=2, padding=3, groups=x.shape[1])


def _make_filter(row: tuple[float, ...]) -> Tensor:
    """A separable filter that sums to 1: (1, 1, side, side)."""
    line = torch.tensor(row) / sum(row)
    return torch.outer(line, line)[None, None]


class Generator(nn.Module):
    """(N, channels, H, W) in [-1, 1] -> (N, made, H, W) in [-1, 1]; H and W multiples of 4."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        norm, bias = config.norm, config.bias
        widths = [config.width * 2**k for k in range(_HALVINGS + 1)]
        stem = nn.Conv2d(config.channels, config.width, 7, padding=3, bias=bias, padding_mode="reflect")
        self.stem = NormedConv(stem, norm, config.width)
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        self.blurs_down, self.blurs_up = nn.ModuleList(), nn.ModuleList()
        for fine, coarse in itertools.pairwise(widths):
            stride = 1 if config.blur_down else 2
            self.downs.append(NormedConv(nn.Conv2d(fine, coarse, 3, stride, 1, bias=bias), norm, coarse))
            self.blurs_down.append(BlurDown(coarse) if config.blur_down else nn.Identity())
            up: nn.Module = nn.ConvTranspose2d(coarse, fine, 3, 2, 1, output_padding=1, bias=bias)
            if config.blur_up:
                up = nn.Conv2d(coarse, fine, 3, padding=1, bias=bias)
            self.ups.insert(0, NormedConv(up, norm, fine))
            self.blurs_up.insert(0, BlurUp(coarse) if config.blur_up else nn.Identity())
        self.blocks = nn.Sequential(*(Block(widths[-1], config) for _ in range(config.blocks)))
        self.head = nn.Conv2d(config.width, config.made, 7, padding=3, padding_mode="reflect")

    def forward(self, image: Tensor) -> Tensor:
        """Translate images."""
        x = functional.relu(self.stem(image))
        for down, blur in zip(self.downs, self.blurs_down, strict=True):
            x = blur(functional.relu(down(x)))
        x = self.blocks(x)
        for blur, up in zip(self.blurs_up, self.ups, strict=True):
            x = functional.relu(up(blur(x)))
        return torch.tanh(self.head(x))


def build_spec(config: Config) -> Spec:
    """An image in, its translation out, both in [-1, 1]."""
    return translation.build_spec("cyclegan", config.channels, config.made, 2**_HALVINGS)


_LAYER = re.compile(r"model\.([0-9]{1,4})\.(.+)")
_BLOCK = re.compile(r"(?:conv_)?block\.([0-9])\.(.+)")
"""A part of a residual block; reimplementations leave `conv_` out."""


def guess_config(shapes: Shapes) -> Config | None:
    """Infer everything but the padding of the blocks."""
    first, last = shapes.get("stem.conv.weight", ()), shapes.get("head.weight", ())
    if len(first) != 4 or len(last) != 4:
        return None
    blocks = upscaling.count_layers(shapes, r"blocks\.([0-9]{1,3})\.first\.conv\.weight")
    norm, bias = translation.guess_norm(shapes, "stem.conv", "stem.norm")
    blurs = {side: f"blurs_{side}.0.filt" in shapes for side in ("down", "up")}
    try:
        return Config(first[1], last[0], first[0], blocks, norm, bias, blur_down=blurs["down"], blur_up=blurs["up"])
    except RequestError:
        return None


def guess_numbered(shapes: Shapes) -> Config | None:
    """Infer everything but reflection from replication: the layers are numbered, and between the halvings and the
    doublings are the blocks, whose second number is that of their first convolution: 0 with zeros around it."""
    layers, blocks = _list_layers(shapes), _list_blocks(shapes)
    filters = [shape[-1] for key, shape in shapes.items() if key.endswith(".filt") and shape]
    if len(layers) != 2 * _HALVINGS + 2:
        return None
    first, last = (shapes[f"model.{layers[k]}.weight"] for k in (0, -1))
    padding = "zeros" if any(0 in convs for convs in blocks.values()) else "reflect"
    norm, bias = translation.guess_norm(shapes, f"model.{layers[0]}", f"model.{layers[0] + 1}")
    try:
        return Config(first[1], last[0], first[0], len(blocks), norm, bias, padding, 3 in filters, 4 in filters)
    except RequestError:
        return None


def _list_layers(shapes: Shapes) -> list[int]:
    """The numbers of the convolutions outside the blocks."""
    found = ((_LAYER.fullmatch(key), shape) for key, shape in shapes.items())
    return sorted(int(match[1]) for match, shape in found if match and match[2] == "weight" and len(shape) == 4)


def _list_blocks(shapes: Shapes) -> dict[int, list[int]]:
    """The number of each block, in order -> the places of its convolutions."""
    blocks: dict[int, list[int]] = {}
    for key, shape in shapes.items():
        layer = _LAYER.fullmatch(key)
        part = _BLOCK.fullmatch(layer[2]) if layer else None
        if layer and part and part[2] == "weight" and len(shape) == 4:
            blocks.setdefault(int(layer[1]), []).append(int(part[1]))
    return {number: sorted(blocks[number]) for number in sorted(blocks)}


def convert_numbered(state: State, config: Config) -> State:
    """Name the layers, whose numbers depend on dropout, padding and blurs, by their order."""
    state = translation.drop_unused_statistics(state)
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    layers = dict(zip(_list_layers(shapes), _name_layers(), strict=True))
    numbers = sorted(int(key.split(".")[1]) for key in state if key.endswith(".filt"))
    filters = dict(zip(numbers, _name_filters(config), strict=True))
    blocks = _list_blocks(shapes)
    places = {number: place for place, number in enumerate(blocks)}
    renamed: State = {}
    for key, value in state.items():
        found = _LAYER.fullmatch(key)
        if found is None:
            raise KeyError(key)
        number, rest = int(found[1]), found[2]
        if number in filters:
            name = filters[number]
        elif number in blocks:
            name, rest = f"blocks.{places[number]}", _name_part(rest, blocks[number])
        elif number in layers:
            name = layers[number] if layers[number] == "head" else f"{layers[number]}.conv"
        else:
            name = f"{layers[number - 1]}.norm"
        renamed[f"{name}.{rest}"] = value
    return renamed


def _name_layers() -> Iterator[str]:
    """The convolutions outside the blocks, in order."""
    yield "stem"
    for side in ("downs", "ups"):
        yield from (f"{side}.{k}" for k in range(_HALVINGS))
    yield "head"


def _name_filters(config: Config) -> Iterator[str]:
    """The blurs, in order."""
    for side, used in (("blurs_down", config.blur_down), ("blurs_up", config.blur_up)):
        yield from (f"{side}.{k}" for k in range(_HALVINGS) if used)


def _name_part(rest: str, convs: list[int]) -> str:
    """What a part of a block is called here, such as `second.norm.weight`. Raises KeyError for no part of one.

    Args:
        convs: places of the convolutions.
    """
    found = _BLOCK.fullmatch(rest)
    if found is None or len(convs) != 2:
        raise KeyError(rest)
    first, second = convs
    names = {first: "first.conv", first + 1: "first.norm", second: "second.conv", second + 1: "second.norm"}
    return f"{names[int(found[1])]}.{found[2]}"


FAMILY = Family(
    "cyclegan",
    Config,
    Generator,
    build_spec,
    (Layout("ganrt", guess_config), Layout("pytorch-CycleGAN-and-pix2pix, CUT", guess_numbered, convert_numbered)),
)
