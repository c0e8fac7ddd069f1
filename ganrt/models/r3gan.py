"""R3GAN (Huang, Gokaslan, Kuleshov, Tompkin, "The GAN is dead; long live the GAN! A modern GAN baseline", NeurIPS
2024), as published. For inference; there is no training.

Residual blocks of a 1 x 1, a grouped 3 x 3 and a 1 x 1 convolution, without norms; between the stages, bilinear
upsampling with zeros around the picture. The activations have their own biases in the original, which are those of the
convolutions before them here. The original computes its last stages in bfloat16; here all are in float32.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ganrt.errors import RequestError
from ganrt.models.family import Family, Layout, Shapes, State, check_bounds, check_channels
from ganrt.spec import Input, Label, Latent, Output, Spec

_SLOPE = 0.2
_FILTER = (0.25, 0.75, 0.75, 0.25)
"""Of bilinear upsampling by 2, along one axis."""


@dataclass(frozen=True)
class Config:
    """Settings of `r3gan`. The defaults are the published network for FFHQ at 64 pixels."""

    widths: tuple[int, ...] = (768, 768, 768, 768, 384)
    """Channels at 4, 8, 16, ... pixels, 1 to 9 numbers; the size is 2^(1 + count)."""
    groups: tuple[int, ...] = (96, 96, 96, 96, 48)
    """Groups of the 3 x 3 convolutions of each stage: its cardinality."""
    blocks: tuple[int, ...] = (2, 2, 2, 2, 2)
    """Residual blocks of each stage, 1 to 64."""
    expansion: int = 2
    """Channels within a block per channel outside, 1 to 16."""
    latent: int = 64
    """Length of the latent, 1 to 4096."""
    classes: int = 0
    """Number of classes; 0 for a network without."""
    embedding: int = 0
    """Length of the vector that a class is embedded in; 0 without classes."""
    channels: int = 3
    """1 (grey) or 3 (RGB)."""

    def __post_init__(self) -> None:
        check_channels(self.channels)
        check_bounds(
            latent=(self.latent, 1, 4096),
            expansion=(self.expansion, 1, 16),
            classes=(self.classes, 0, 100_000),
            embedding=(self.embedding, 1 if self.classes else 0, 4096 if self.classes else 0),
        )
        if not 1 <= len(self.widths) <= 9 or not all(1 <= width <= 8192 for width in self.widths):
            raise RequestError(f"widths is {self.widths}; it takes 1 to 9 numbers from 1 to 8192")
        stages = len(self.widths)
        if len(self.blocks) != stages or not all(1 <= count <= 64 for count in self.blocks):
            raise RequestError(f"blocks is {self.blocks}; it takes a number from 1 to 64 for each of {stages} stages")
        if len(self.groups) != stages or any(
            group < 1 or self.expansion * width % group for group, width in zip(self.groups, self.widths, strict=True)
        ):
            raise RequestError(
                f"groups is {self.groups}; it takes a divisor of {self.expansion} times the width for each of the "
                f"widths {self.widths}"
            )

    @property
    def size(self) -> int:
        """Height and width of the images in pixels."""
        return 2 << len(self.widths)


class Block(nn.Module):
    """Residual block, (N, width, H, W)."""

    def __init__(self, width: int, groups: int, expansion: int) -> None:
        super().__init__()
        inner = expansion * width
        self.conv1 = nn.Conv2d(width, inner, 1)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, groups=groups)
        self.conv3 = nn.Conv2d(inner, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        hidden = functional.leaky_relu(self.conv1(x), _SLOPE)
        return x + self.conv3(functional.leaky_relu(self.conv2(hidden), _SLOPE))  # type: ignore[no-any-return]


class Upsampling(nn.Module):
    """(N, before, H, W) -> (N, width, 2H, 2W). The width is changed first, if it changes."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, width, 1, bias=False) if before != width else nn.Identity()
        self.up = nn.ConvTranspose2d(width, width, 4, 2, 1, groups=width, bias=False)
        row = torch.tensor(_FILTER)
        with torch.no_grad():
            self.up.weight.copy_(row[:, None] * row)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        return self.up(self.conv(x))  # type: ignore[no-any-return]


class Basis(nn.Module):
    """(N, inputs) -> (N, width, 4, 4): a picture for each channel, times a number that depends on the input."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.basis = nn.Parameter(torch.empty(width, 4, 4))
        self.linear = nn.Linear(inputs, width, bias=False)
        nn.init.normal_(self.basis)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        amounts: Tensor = self.linear(x)
        return self.basis * amounts[:, :, None, None]


class Generator(nn.Module):
    """Latents (N, latent), and one-hot classes (N, classes) if there are any -> images (N, channels, size, size), about
    in [-1, 1]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths = config.widths
        self.embedding = nn.Linear(config.classes, config.embedding, bias=False) if config.classes else None
        ends: list[nn.Module] = [Basis(config.latent + config.embedding, widths[0])]
        ends += itertools.starmap(Upsampling, itertools.pairwise(widths))
        self.stages = nn.ModuleList(
            nn.Sequential(end, *(Block(width, groups, config.expansion) for _ in range(count)))
            for end, width, groups, count in zip(ends, widths, config.groups, config.blocks, strict=True)
        )
        self.to_rgb = nn.Conv2d(widths[-1], config.channels, 1, bias=False)

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Generate images from latents, and classes if there are any."""
        x = z if self.embedding is None else torch.cat([z, self.embedding(c)], 1)
        for stage in self.stages:
            x = stage(x)
        return self.to_rgb(x)  # type: ignore[no-any-return]


def build_spec(config: Config) -> Spec:
    """A normal latent, and a class if there are any, in; an image in about [-1, 1] out."""
    inputs: list[Input] = [Latent("z", (config.latent,))]
    if config.classes:
        inputs.append(Label("c", config.classes, "one_hot"))
    return Spec("r3gan", tuple(inputs), Output(config.channels, (-1.0, 1.0), (config.size, config.size)))


def guess_config(shapes: Shapes) -> Config | None:
    """Infer everything from the shapes."""
    basis, first, last, embedding = (
        shapes.get(key, ())
        for key in ("stages.0.0.basis", "stages.0.0.linear.weight", "to_rgb.weight", "embedding.weight")
    )
    found = sorted(
        (int(name[1]), int(name[2]))
        for name in (re.fullmatch(r"stages\.([0-9])\.([0-9]{1,2})\.conv2\.weight", key) for key in shapes)
        if name
    )
    blocks = [sum(number == stage for number, _ in found) for stage in range(found[-1][0] + 1)] if found else []
    inner = [shapes.get(f"stages.{k}.1.conv2.weight", ()) for k in range(len(blocks))]
    outer = [shapes.get(f"stages.{k}.1.conv3.weight", ()) for k in range(len(blocks))]
    if not found or any(len(shape) != 4 or 0 in shape for shape in (*inner, *outer, last)):
        return None
    if len(basis) != 3 or len(first) != 2:
        return None
    embedded, classes = embedding if len(embedding) == 2 else (0, 0)
    try:
        return Config(
            widths=tuple(shape[0] for shape in outer),
            groups=tuple(shape[0] // shape[1] for shape in inner),
            blocks=tuple(blocks),
            expansion=inner[0][0] // outer[0][0],
            latent=first[1] - embedded,
            classes=classes,
            embedding=embedded,
            channels=last[0],
        )
    except RequestError:
        return None


_NAMES = [
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^Model\.", ""),
        (r"^EmbeddingLayer\.", "embedding."),
        (r"^AggregationLayer\.Layer\.", "to_rgb."),
        (r"^MainLayers\.([0-9]+)\.Layers\.", r"stages.\1."),
        (r"\.Basis$", ".basis"),
        (r"\.Resampler\.Kernel$", ".up.weight"),
        (r"\.LinearLayer\.Layer\.", ".conv."),
        (r"\.LinearLayer([123])\.Layer\.", r".conv\1."),
        (r"\.NonLinearity([12])\.Bias$", r".conv\1.bias"),
        (r"\.LinearLayer\.", ".linear."),
    )
]
"""Key of the original -> key here, one after the other."""


def _map_keys(keys: Iterable[str]) -> dict[str, str]:
    names = {}
    for old in keys:
        new = old
        for pattern, name in _NAMES:
            new = pattern.sub(name, new)
        names[new] = old
    return names


def _guess_original(shapes: Shapes) -> Config | None:
    if not any(key.endswith("MainLayers.0.Layers.0.Basis") for key in shapes):
        return None
    return guess_config({new: shapes[old] for new, old in _map_keys(shapes).items()})


def _convert_original(state: State, config: Config) -> State:
    """Rename all; kernels of the upsampling, which have a sum of 1, are repeated for each channel with a sum of 4."""
    converted = {new: state[old] for new, old in _map_keys(state).items()}
    for number, width in enumerate(config.widths[1:], 1):
        key = f"stages.{number}.0.up.weight"
        converted[key] = (4 * converted[key]).expand(width, 1, *converted[key].shape).contiguous()
    return converted


FAMILY = Family(
    "r3gan",
    Config,
    Generator,
    build_spec,
    (Layout("ganrt", guess_config), Layout("R3GAN", _guess_original, _convert_original)),
)
