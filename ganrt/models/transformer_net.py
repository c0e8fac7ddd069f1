"""Fast style transfer, one style per network (Johnson, Alahi, Fei-Fei, "Perceptual Losses for Real-Time Style Transfer
and Super-Resolution", ECCV 2016) with instance normalisation (Ulyanov, Vedaldi, Lempitsky, "Instance Normalization: The
Missing Ingredient for Fast Stylization", 2016).

Layers and state-dict keys are those of pytorch/examples (fast_neural_style), which has nearest-neighbour upsampling
where the paper has fractionally strided convolutions.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ganrt.errors import RequestError
from ganrt.models.family import Family, Layout, Shapes, State, check_bounds
from ganrt.models.parametrize import scale_parameters
from ganrt.spec import Image, Output, Spec

RANGE = (0.0, 255.0)
_STEP = 32.0
"""The last layer is trained in units of this many grey levels."""


@dataclass(frozen=True)
class Config:
    """Settings of `transformer_net`. The defaults are those of the paper."""

    width: int = 32
    """Channels at full size, 1 to 512; they double at half size and again at quarter size."""
    blocks: int = 5
    """Residual blocks at quarter size, 1 to 64."""

    def __post_init__(self) -> None:
        check_bounds(width=(self.width, 1, 512), blocks=(self.blocks, 1, 64))


class Convolution(nn.Module):
    """Convolution with reflection padding, after nearest-neighbour upsampling by 2 if `upsample` is true."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, upsample: bool = False) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(before, after, kernel, stride, kernel // 2, padding_mode="reflect")
        self.upsample = upsample

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module to (N, C, H, W)."""
        if self.upsample:
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        return self.conv2d(x)  # type: ignore[no-any-return]


class Residual(nn.Module):
    """Residual block without an activation after the sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = Convolution(width, width, 3)
        self.in1 = _build_norm(width)
        self.conv2 = Convolution(width, width, 3)
        self.in2 = _build_norm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module to (N, C, H, W)."""
        return x + self.in2(self.conv2(functional.relu(self.in1(self.conv1(x)))))  # type: ignore[no-any-return]


class Generator(nn.Module):
    """RGB (N, 3, H, W) in [0, 255] -> the stylized image in about [0, 255], not clamped."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        full, half, quarter = config.width, 2 * config.width, 4 * config.width
        self.conv1, self.in1 = Convolution(3, full, 9), _build_norm(full)
        self.conv2, self.in2 = Convolution(full, half, 3, stride=2), _build_norm(half)
        self.conv3, self.in3 = Convolution(half, quarter, 3, stride=2), _build_norm(quarter)
        self.blocks = [f"res{k + 1}" for k in range(config.blocks)]
        for name in self.blocks:
            self.add_module(name, Residual(quarter))
        self.deconv1, self.in4 = Convolution(quarter, half, 3, upsample=True), _build_norm(half)
        self.deconv2, self.in5 = Convolution(half, full, 3, upsample=True), _build_norm(full)
        self.deconv3 = Convolution(full, 3, 9)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module to (N, C, H, W)."""
        x = functional.relu(self.in1(self.conv1(x)))
        x = functional.relu(self.in2(self.conv2(x)))
        x = functional.relu(self.in3(self.conv3(x)))
        for name in self.blocks:
            x = self.get_submodule(name)(x)
        x = functional.relu(self.in4(self.deconv1(x)))
        x = functional.relu(self.in5(self.deconv2(x)))
        return self.deconv3(x)  # type: ignore[no-any-return]


def build_trainable(config: Config) -> Generator:
    """The generator, initialised to mid-grey output and with its last layer in units of _STEP: steps of a thousandth,
    as Adam takes them, would need thousands of updates to cover the range of 256."""
    module = Generator(config)
    last = module.deconv3.conv2d
    with torch.no_grad():
        last.weight.mul_(_STEP)
        last.bias.fill_(sum(RANGE) / 2)  # type: ignore[union-attr]
    scale_parameters(last, _STEP)
    return module


def _build_norm(width: int) -> nn.InstanceNorm2d:
    """Instance norm without running statistics."""
    return nn.InstanceNorm2d(width, affine=True)


def build_spec(config: Config) -> Spec:
    """An RGB image in, a stylized one out, both in [0, 255]."""
    return Spec(
        family="transformer_net",
        inputs=(Image("image", "content", 3, RANGE, multiple_of=4),),
        output=Output(3, RANGE, None, name="styled"),
    )


def guess_config(shapes: Shapes) -> Config | None:
    """Infer everything: conv1 is (width, 3, 9, 9), and the blocks are numbered."""
    first = shapes.get("conv1.conv2d.weight", ())
    blocks = list(itertools.takewhile(lambda k: f"res{k}.conv1.conv2d.weight" in shapes, itertools.count(1)))
    if len(first) != 4:
        return None
    try:
        return Config(first[0], len(blocks))
    except RequestError:
        return None


def convert_state(state: State, config: Config) -> State:
    """Drop the running statistics that PyTorch before 0.4 wrote for instance norms and never used."""
    unused = re.compile(r"(.+\.)?in[0-9]+\.(running_mean|running_var|num_batches_tracked)")
    return {key: value for key, value in state.items() if not unused.fullmatch(key)}


FAMILY = Family(
    "transformer_net",
    Config,
    Generator,
    build_spec,
    (Layout("pytorch/examples", guess_config, convert_state),),
    trainable=build_trainable,
    task="style",
)
