"""Fast style transfer, one style per network (Johnson, Alahi, Fei-Fei, "Perceptual Losses for Real-Time Style Transfer
and Super-Resolution", ECCV 2016) with instance normalisation (Ulyanov, Vedaldi, Lempitsky, "Instance Normalization: The
Missing Ingredient for Fast Stylization", 2016).

The form is that of pytorch/examples (fast_neural_style), which up-samples by nearest neighbours where the paper has
strided convolutions; its state-dict keys are the ones here.
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
    width: int = 32
    """Channels at full size; twice and four times as many at half and quarter size."""
    blocks: int = 5
    """Residual blocks at quarter size."""

    def __post_init__(self) -> None:
        check_bounds(width=(self.width, 1, 512), blocks=(self.blocks, 1, 64))


class Convolution(nn.Module):
    """Keeps height and width (divided by the stride): the border is reflected. With `upsample` they double first."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, upsample: bool = False) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(before, after, kernel, stride, kernel // 2, padding_mode="reflect")
        self.upsample = upsample

    def forward(self, x: Tensor) -> Tensor:
        if self.upsample:
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        return self.conv2d(x)  # type: ignore[no-any-return]


class Residual(nn.Module):
    """No activation follows the sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = Convolution(width, width, 3)
        self.in1 = _build_norm(width)
        self.conv2 = Convolution(width, width, 3)
        self.in2 = _build_norm(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.in2(self.conv2(functional.relu(self.in1(self.conv1(x)))))  # type: ignore[no-any-return]


class Generator(nn.Module):
    """RGB (N, 3, H, W) in [0, 255] -> the same picture in the style, not clamped."""

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
        x = functional.relu(self.in1(self.conv1(x)))
        x = functional.relu(self.in2(self.conv2(x)))
        x = functional.relu(self.in3(self.conv3(x)))
        for name in self.blocks:
            x = self.get_submodule(name)(x)
        x = functional.relu(self.in4(self.deconv1(x)))
        x = functional.relu(self.in5(self.deconv2(x)))
        return self.deconv3(x)  # type: ignore[no-any-return]


def build_trainable(config: Config) -> Generator:
    """Begins with mid-grey, and in steps that suit a range of 256: an optimizer whose step is a thousandth would need
    thousands of them to get there."""
    module = Generator(config)
    last = module.deconv3.conv2d
    with torch.no_grad():
        last.weight.mul_(_STEP)
        last.bias.fill_(sum(RANGE) / 2)  # type: ignore[union-attr]
    scale_parameters(last, _STEP)
    return module


def _build_norm(width: int) -> nn.InstanceNorm2d:
    """Statistics of the picture at hand, in training as in use."""
    return nn.InstanceNorm2d(width, affine=True)


def build_spec(config: Config) -> Spec:
    return Spec(
        family="transformer_net",
        inputs=(Image("image", "content", 3, RANGE, multiple_of=4),),
        output=Output(3, RANGE, None, name="styled"),
    )


def guess_config(shapes: Shapes) -> Config | None:
    first = shapes.get("conv1.conv2d.weight", ())
    blocks = list(itertools.takewhile(lambda k: f"res{k}.conv1.conv2d.weight" in shapes, itertools.count(1)))
    if len(first) != 4:
        return None
    try:
        return Config(first[0], len(blocks))
    except RequestError:
        return None


def convert_state(state: State, config: Config) -> State:
    """Without the running statistics that PyTorch before 0.4 wrote for instance norms and never used."""
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
