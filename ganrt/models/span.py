"""SPAN, the Swift Parameter-free Attention Network (Wan et al., NTIRE workshop 2024; hongyuanyu/SPAN).

It is trained with three convolutions and a skip connection for each 3x3 convolution. Checkpoints hold these branches,
and beside them `eval_conv`, what they were merged to at some time; the original merges them again before each use, so
`eval_conv` may be out of date, and is not read. Here only the merged convolutions are kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ganrt.errors import RequestError
from ganrt.models import upscaling
from ganrt.models.family import Family, Layout, Shapes, State, check_bounds
from ganrt.spec import Spec

_BLOCKS = 6
_MERGED = ("conv_1", *(f"block_{k}.c{c}_r" for k in range(1, _BLOCKS + 1) for c in (1, 2, 3)), "conv_2")
"""The convolutions that are trained as branches."""


@dataclass(frozen=True)
class Config:
    """Settings of `span`. The defaults are those of the published 4x network."""

    scale: int = 4
    """Factor of height and width, 1 to 8."""
    width: int = 48
    """Channels, 1 to 1024; the published networks have 48 and 52."""
    img_range: float = 255.0
    """What pictures in [0, 1] are multiplied by, after `mean` is subtracted. Checkpoints do not tell."""
    mean: tuple[float, ...] = (0.4488, 0.4371, 0.4040)
    """Mean of red, green and blue in [0, 1]. Checkpoints do not tell; those with a key `no_norm` use 0 and an img_range
    of 1."""

    def __post_init__(self) -> None:
        check_bounds(scale=(self.scale, 1, 8), width=(self.width, 1, 1024))
        if len(self.mean) != 3:
            raise RequestError(f"mean has {len(self.mean)} values; it must have 3, for red, green and blue")
        if not all(map(math.isfinite, (self.img_range, *self.mean))):
            raise RequestError(f"img_range is {self.img_range} and mean {self.mean}; they must be finite")


class Block(nn.Module):
    """Three convolutions, and attention without parameters: features are scaled by an odd function of themselves."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c1_r = nn.Conv2d(width, width, 3, padding=1)
        self.c2_r = nn.Conv2d(width, width, 3, padding=1)
        self.c3_r = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, width, H, W) -> the block's output and that of its first activation (the original's activation works in
        place, on what it returns as the first convolution's), both of the same shape."""
        first = functional.silu(self.c1_r(x))
        last = self.c3_r(functional.silu(self.c2_r(first)))
        return (last + x) * (last.sigmoid() - 0.5), first


class Generator(nn.Module):
    """(N, 3, H, W) in [0, 1] -> (N, 3, scale H, scale W) in about [0, 1]."""

    mean: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.width
        self.img_range = config.img_range
        self.register_buffer("mean", torch.tensor(config.mean).view(1, 3, 1, 1), persistent=False)
        self.conv_1 = nn.Conv2d(3, width, 3, padding=1)
        for k in range(1, _BLOCKS + 1):
            self.add_module(f"block_{k}", Block(width))
        self.conv_cat = nn.Conv2d(4 * width, width, 1)
        self.conv_2 = nn.Conv2d(width, width, 3, padding=1)
        last = nn.Conv2d(width, 3 * config.scale**2, 3, padding=1)
        self.upsampler = nn.Sequential(last, nn.PixelShuffle(config.scale))
        upscaling.init_kaiming(self)

    def forward(self, low_res: Tensor) -> Tensor:
        """Upsample images (N, 3, H, W)."""
        start = x = self.conv_1((low_res - self.mean) * self.img_range)
        outputs = []
        for k in range(1, _BLOCKS + 1):
            x, inner = self.get_submodule(f"block_{k}")(x)
            outputs.append(x)
        features = torch.cat([start, self.conv_2(x), outputs[0], inner], 1)
        return self.upsampler(self.conv_cat(features))  # type: ignore[no-any-return]


def build_spec(config: Config) -> Spec:
    """A low-resolution image in, an upsampled one out, both in [0, 1]."""
    radius = upscaling.receptive_field_radius([(0, config.scale), (len(_MERGED) + 1, 1)])
    return upscaling.build_spec("span", 3, config.scale, radius)


def guess_config(shapes: Shapes) -> Config | None:
    """Infer scale and width: conv_1 is (width, 3, 3, 3), and the last convolution has 3 scale^2 rows."""
    return _infer_config(shapes, "conv_1.weight")


def guess_branches(shapes: Shapes) -> Config | None:
    """The same for a checkpoint of the branches. A key `no_norm`, of other trainers, says that pictures are taken as
    they are."""
    return _infer_config(shapes, "conv_1.sk.weight")


def _infer_config(shapes: Shapes, first: str) -> Config | None:
    head = upscaling.conv_shape(shapes, first)
    rows = upscaling.conv_shape(shapes, "upsampler.0.weight")
    if head is None or rows is None or head[1] != 3:
        return None
    scale = math.isqrt(rows[0] // 3)
    try:
        return Config(scale, head[0], 1.0, (0.0, 0.0, 0.0)) if "no_norm" in shapes else Config(scale, head[0])
    except RequestError:
        return None


def merge_branches(state: State, config: Config) -> State:
    """Merge the branches of each convolution, in float64: a 1x1, a 3x3 and a 1x1 convolution one after the other, and a
    1x1 convolution beside them."""
    merged = {key: value for key, value in state.items() if key.startswith(("conv_cat.", "upsampler."))}
    for stem in _MERGED:
        layers = ("conv.0", "conv.1", "conv.2", "sk")
        (w1, w2, w3, beside), (b1, b2, b3, more) = (
            [state[f"{stem}.{layer}.{leaf}"].double() for layer in layers] for leaf in ("weight", "bias")
        )
        weight = torch.einsum("on,nmhw,mi->oihw", w3[..., 0, 0], w2, w1[..., 0, 0])
        weight[..., 1, 1] += beside[..., 0, 0]
        merged[f"{stem}.weight"] = weight.float()
        merged[f"{stem}.bias"] = (w3[..., 0, 0] @ (w2.sum((2, 3)) @ b1 + b2) + b3 + more).float()
    return merged


FAMILY = Family(
    "span",
    Config,
    Generator,
    build_spec,
    (Layout("ganrt", guess_config), Layout("SPAN", guess_branches, merge_branches)),
)
