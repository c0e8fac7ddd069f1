"""pix2pix's U-Net (Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017).

Layers and state-dict keys are those of junyanz/pytorch-CycleGAN-and-pix2pix (`unet_128`, `unet_256`): each level holds
the next smaller one. CycleGAN's checkpoints with a U-Net are the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganrt.errors import RequestError
from ganrt.models import translation
from ganrt.models.family import Family, Layout, Shapes, State, check_bounds, check_channels
from ganrt.spec import Spec

_SLOPE = 0.2
_DEEPEST = 8
"""Width factor of all levels from the fourth on."""


@dataclass(frozen=True)
class Config:
    """Settings of `pix2pix`. The defaults are those of `unet_256`."""

    channels: int = 3
    """Of the input, 1 to 64; pictures have 1 or 3."""
    made: int = 3
    """Channels of the output, 1 (grey) or 3 (RGB)."""
    width: int = 64
    """Channels at half size, 1 to 512 (`ngf`)."""
    levels: int = 8
    """How often the image is halved, 5 to 10: 7 for `unet_128`, 8 for `unet_256`."""
    norm: str = "batch"
    """`batch`, `instance`, `affine` (instance norm with weights) or `none`."""
    bias: bool = False
    """Whether convolutions in front of a norm have a bias."""

    def __post_init__(self) -> None:
        check_channels(self.made)
        check_bounds(channels=(self.channels, 1, 64), width=(self.width, 1, 512), levels=(self.levels, 5, 10))
        translation.check_norm(self.norm)


class Level(nn.Module):
    """One size of the U-Net and all smaller ones: (N, before, H, W) -> (N, after, H, W).

    Args:
        before: channels of the input.
        after: channels of the output.
        inner: channels at half the size.
        inside: the next smaller level; None for the smallest.
        outermost: whether the result is the image, instead of being joined with the input.
    """

    def __init__(
        self, before: int, after: int, inner: int, config: Config, inside: Level | None, outermost: bool = False
    ) -> None:
        super().__init__()
        self.outermost = outermost
        norm, bias = config.norm, config.bias
        down: list[nn.Module] = [nn.Conv2d(before, inner, 4, 2, 1, bias=bias)]
        if not outermost:
            down.insert(0, nn.LeakyReLU(_SLOPE))
        if inside is not None and not outermost:
            down.append(translation.build_norm(norm, inner))
        joined = inner if inside is None else 2 * inner
        up: list[nn.Module] = [nn.ReLU(), nn.ConvTranspose2d(joined, after, 4, 2, 1, bias=bias or outermost)]
        up.append(nn.Tanh() if outermost else translation.build_norm(norm, after))
        self.model = nn.Sequential(*down, *([] if inside is None else [inside]), *up)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module; the input comes first in the result, unless this is the outermost level."""
        made = self.model(x)
        return made if self.outermost else torch.cat([x, made], 1)


class Generator(nn.Module):
    """(N, channels, H, W) in [-1, 1] -> (N, made, H, W) in [-1, 1]; H and W multiples of 2^levels."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths = [config.width * min(2**k, _DEEPEST) for k in range(config.levels)]
        level: Level | None = None
        for k in reversed(range(1, config.levels)):
            level = Level(widths[k - 1], widths[k - 1], widths[k], config, level)
        self.model = Level(config.channels, config.made, widths[0], config, level, outermost=True)

    def forward(self, image: Tensor) -> Tensor:
        """Translate images."""
        return self.model(image)  # type: ignore[no-any-return]


def build_spec(config: Config) -> Spec:
    """An image in, its translation out, both in [-1, 1]."""
    return translation.build_spec("pix2pix", config.channels, config.made, 2**config.levels)


def guess_config(shapes: Shapes) -> Config | None:
    """Infer everything: the number of levels from the nesting, the norm from what is behind the second convolution."""
    first, last = shapes.get("model.model.0.weight", ()), shapes.get("model.model.3.weight", ())
    if len(first) != 4 or len(last) != 4:
        return None
    prefix, levels = "model.model.1.", 1
    while f"{prefix}model.1.weight" in shapes and levels < 64:
        prefix, levels = f"{prefix}model.3.", levels + 1
    norm, bias = translation.guess_norm(shapes, "model.model.1.model.1", "model.model.1.model.2")
    try:
        return Config(first[1], last[1], first[0], levels, norm, bias)
    except RequestError:
        return None


def convert_state(state: State, config: Config) -> State:
    """Drop the statistics of instance norms."""
    return translation.drop_unused_statistics(state)


FAMILY = Family(
    "pix2pix", Config, Generator, build_spec, (Layout("pytorch-CycleGAN-and-pix2pix", guess_config, convert_state),)
)
