"""Images from semantic maps (Park, Liu, Wang, Zhu, "Semantic Image Synthesis with Spatially-Adaptive Normalization",
CVPR 2019), as published. For inference; there is no training.

Every norm is followed by a scale and a shift for each pixel, which two convolutions compute from the map. Keys are
those of NVlabs/SPADE without spectral norm, which is divided out. The map is one-hot: a channel for each label, and one
for the borders between instances in models that were trained with them. Images have one size, which the checkpoint does
not tell: `ganrt export latest_net_G.pth --config crop_size=512 --config aspect_ratio=2`.

A model that was trained as the decoder of a VAE starts from a latent, and so has a style beside the map.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ganrt.errors import RequestError
from ganrt.models.family import Family, Layout, Shapes, State, check_bounds
from ganrt.spec import Image, Input, Latent, Output, Spec

_HIDDEN = 128
"""Channels between the map and scale and shift."""
_SLOPE = 0.2
_DOUBLINGS = {"normal": 5, "more": 6, "most": 7}


@dataclass(frozen=True)
class Config:
    """Settings of `spade`, named as the options of the original. The defaults are the published networks for COCO."""

    ngf: int = 64
    """Channels at full size, 1 to 512: 16 times as many at the start. With `most`, half as many."""
    semantic_nc: int = 184
    """Channels of the map, 1 to 4096: labels, one for "don't care" and one for the borders of instances if there are
    any."""
    crop_size: int = 256
    """Width of the images in pixels, 32 to 4096: a multiple of 32 for `normal`, 64 for `more`, 128 for `most`. A
    checkpoint does not contain it."""
    aspect_ratio: float = 1.0
    """Width of the images divided by their height. A checkpoint does not contain it."""
    num_upsampling_layers: str = "normal"
    """`normal`, `more` or `most`: 5, 6 or 7 times upsampling by 2. A checkpoint shows `most` alone."""
    kernel: int = 3
    """Height and width of the kernels that work on the map: 1, 3, 5 or 7."""
    instance: bool = False
    """Whether the norms are instance norms. Else they are batch norms."""
    z_dim: int = 0
    """Length of the latent of a VAE's decoder, up to 4096; 0 for a network that starts from the map."""

    def __post_init__(self) -> None:
        check_bounds(
            ngf=(self.ngf, 1, 512),
            semantic_nc=(self.semantic_nc, 1, 4096),
            crop_size=(self.crop_size, 32, 4096),
            z_dim=(self.z_dim, 0, 4096),
        )
        if self.num_upsampling_layers not in _DOUBLINGS:
            raise RequestError(
                f"num_upsampling_layers is {self.num_upsampling_layers!r}; it must be normal, more or most"
            )
        if self.num_upsampling_layers == "most" and self.ngf < 2:
            raise RequestError("ngf is 1; with num_upsampling_layers=most it must be at least 2")
        if self.kernel not in (1, 3, 5, 7):
            raise RequestError(f"kernel is {self.kernel}; it must be 1, 3, 5 or 7")
        if self.crop_size % self.factor:
            raise RequestError(
                f"crop_size is {self.crop_size}; it must be a multiple of {self.factor} where num_upsampling_layers is "
                f"{self.num_upsampling_layers}"
            )
        if not 1 / 16 <= self.aspect_ratio <= 16 or not 1 <= self.start[0] <= 4096 // self.factor:
            raise RequestError(
                f"aspect_ratio is {self.aspect_ratio:g}; it must be from 1/16 to 16, for 32 to 4096 pixels in height"
            )

    @property
    def factor(self) -> int:
        """How many times larger the images are than what the network starts with."""
        return 1 << _DOUBLINGS[self.num_upsampling_layers]

    @property
    def start(self) -> tuple[int, int]:
        """Height and width of what the network starts with."""
        width = self.crop_size // self.factor
        return round(width / self.aspect_ratio), width

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images and maps in pixels."""
        height, width = self.start
        return self.factor * height, self.factor * width


class Norm(nn.Module):
    """Norm without gains, then a scale and a shift for each pixel: features (N, width, H, W) and the map (N,
    semantic_nc, H, W) -> (N, width, H, W)."""

    def __init__(self, width: int, config: Config) -> None:
        super().__init__()
        kernel, padding = config.kernel, config.kernel // 2
        norm = nn.InstanceNorm2d if config.instance else nn.BatchNorm2d
        self.param_free_norm = norm(width, affine=False)
        self.mlp_shared = nn.Sequential(nn.Conv2d(config.semantic_nc, _HIDDEN, kernel, padding=padding), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(_HIDDEN, width, kernel, padding=padding)
        self.mlp_beta = nn.Conv2d(_HIDDEN, width, kernel, padding=padding)

    def forward(self, x: Tensor, segmap: Tensor) -> Tensor:
        """Apply the norm."""
        hidden = self.mlp_shared(segmap)
        return self.param_free_norm(x) * (1 + self.mlp_gamma(hidden)) + self.mlp_beta(hidden)  # type: ignore[no-any-return]


class Block(nn.Module):
    """Residual block: features (N, before, H, W) and the map of the images' size -> (N, width, H, W)."""

    def __init__(self, before: int, width: int, config: Config) -> None:
        super().__init__()
        middle = min(before, width)
        self.conv_0 = nn.Conv2d(before, middle, 3, padding=1)
        self.conv_1 = nn.Conv2d(middle, width, 3, padding=1)
        self.norm_0 = Norm(before, config)
        self.norm_1 = Norm(middle, config)
        self.learned = before != width
        """Whether the shortcut has weights."""
        if self.learned:
            self.conv_s = nn.Conv2d(before, width, 1, bias=False)
            self.norm_s = Norm(before, config)

    def forward(self, x: Tensor, segmap: Tensor) -> Tensor:
        """Apply the block."""
        small = shrink(segmap, segmap.shape[2] // x.shape[2])
        short = self.conv_s(self.norm_s(x, small)) if self.learned else x
        hidden = self.conv_0(functional.leaky_relu(self.norm_0(x, small), _SLOPE))
        return short + self.conv_1(functional.leaky_relu(self.norm_1(hidden, small), _SLOPE))  # type: ignore[no-any-return]


class Generator(nn.Module):
    """Maps (N, semantic_nc, H, W) in [0, 1], and latents (N, z_dim) if there are any -> images (N, 3, H, W) in
    [-1, 1]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths = [16 * config.ngf // 2**k for k in range(6)]
        self.start, self.factor, self.layers = config.start, config.factor, config.num_upsampling_layers
        self.fc = (
            nn.Linear(config.z_dim, widths[0] * math.prod(config.start))
            if config.z_dim
            else nn.Conv2d(config.semantic_nc, widths[0], 3, padding=1)
        )
        self.head_0 = Block(widths[0], widths[0], config)
        self.G_middle_0 = Block(widths[0], widths[0], config)
        self.G_middle_1 = Block(widths[0], widths[0], config)
        count = 5 if self.layers == "most" else 4
        self.blocks = [f"up_{k}" for k in range(count)]
        for k, name in enumerate(self.blocks):
            self.add_module(name, Block(widths[k], widths[k + 1], config))
        self.conv_img = nn.Conv2d(widths[count], 3, 3, padding=1)

    def forward(self, segmap: Tensor, z: Tensor | None = None) -> Tensor:
        """Generate images from maps, and from latents if there are any."""
        x = self.fc(shrink(segmap, self.factor)) if z is None else self.fc(z).unflatten(1, (-1, *self.start))
        x = self.G_middle_0(upsample(self.head_0(x, segmap)), segmap)
        x = self.G_middle_1(x if self.layers == "normal" else upsample(x), segmap)
        for name in self.blocks:
            x = self.get_submodule(name)(upsample(x), segmap)
        return torch.tanh(self.conv_img(functional.leaky_relu(x, _SLOPE)))


def shrink(x: Tensor, factor: int) -> Tensor:
    """Nearest-neighbour downsampling."""
    return x[:, :, ::factor, ::factor] if factor > 1 else x


def upsample(x: Tensor) -> Tensor:
    """Nearest-neighbour upsampling by 2."""
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def build_spec(config: Config) -> Spec:
    """A semantic map in [0, 1], and a latent if there is one, in; an RGB image in [-1, 1] out."""
    inputs: list[Input] = [Image("segmap", "labels", config.semantic_nc, (0.0, 1.0), config.size)]
    if config.z_dim:
        inputs.append(Latent("z", (config.z_dim,)))
    return Spec("spade", tuple(inputs), Output(3, (-1.0, 1.0), config.size))


def guess_config(shapes: Shapes) -> Config | None:
    """Infer all but the size of the images, and `normal` or `more`. A VAE's decoder has a square start or one twice as
    wide as high, since its weights tell the number of its pixels."""
    first, shared, gamma = (
        shapes.get(f"{name}.weight", ()) for name in ("fc", "head_0.norm_0.mlp_shared.0", "head_0.norm_0.mlp_gamma")
    )
    if len(shared) != 4 or len(gamma) != 4 or len(first) not in (2, 4) or gamma[0] < 1:
        return None
    layers = "most" if "up_4.conv_0.bias" in shapes else "normal"
    size = Config.crop_size // 2 ** _DOUBLINGS[layers], 1.0
    width, aspect = size if len(first) == 4 else _guess_start(first[0] // gamma[0])
    try:
        return Config(
            ngf=gamma[0] // 16,
            semantic_nc=shared[1],
            crop_size=width * 2 ** _DOUBLINGS[layers],
            aspect_ratio=aspect,
            num_upsampling_layers=layers,
            kernel=shared[3],
            instance="head_0.norm_0.param_free_norm.running_mean" not in shapes,
            z_dim=first[1] if len(first) == 2 else 0,
        )
    except RequestError:
        return None


def _guess_start(pixels: int) -> tuple[int, float]:
    """Width and aspect ratio of the start of a VAE's decoder: a square, or two squares side by side."""
    side = math.isqrt(pixels)
    return (side, 1.0) if side * side == pixels else (math.isqrt(2 * pixels), 2.0)


_FACTORS = re.compile(r"\.weight_(orig|u|v)$")
"""Keys under which spectral norm stores a weight (torch.nn.utils.spectral_norm)."""


def convert_state(state: State, config: Config) -> State:
    """Divide weights by their spectral norms, from the vectors u and v in the checkpoint. Where there is no v, PyTorch
    before 1.1 wrote the file, which has the weight that was used as well."""
    plain = {key: value for key, value in state.items() if not _FACTORS.search(key)}
    for stem in {_FACTORS.sub(".weight", key) for key in state} - plain.keys():
        weight, u, v = (state[f"{stem}_{part}"].double() for part in ("orig", "u", "v"))
        if weight.ndim != 4 or (u.shape, v.shape) != (weight.shape[:1], (weight[0].numel(),)):
            raise KeyError(stem)
        plain[stem] = (weight / (u @ weight.flatten(1) @ v)).float()
    return plain


FAMILY = Family("spade", Config, Generator, build_spec, (Layout("NVlabs", guess_config, convert_state),))
