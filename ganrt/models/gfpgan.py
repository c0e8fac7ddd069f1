"""GFP-GAN without custom operators (Wang et al., "Towards Real-World Blind Face Restoration with Generative Facial
Prior", CVPR 2021; TencentARC/GFPGAN, gfpganv1_clean): a U-Net reads a face, and a StyleGAN2 decoder draws it again, its
features scaled and shifted by those of the U-Net. Keys are those of GFPGAN. For inference.

Faces are aligned, as in FFHQ, and of the one size that the network was trained for. The noise of the decoder comes from
the checkpoint (`randomize_noise=False` in the original), so that a face has one restoration.

Modulation scales the features in the place of the weights: it is the same in real arithmetic, and a batch of different
styles is one convolution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from ganrt.errors import RequestError
from ganrt.models import upscaling
from ganrt.models.family import Family, Layout, Shapes, State, check_bounds
from ganrt.spec import Image, Output, Spec

_RANGE = (-1.0, 1.0)
_SLOPE = 0.2
"""Of the leaky ReLU."""
_EPS = 1e-8


@dataclass(frozen=True)
class Config:
    """Settings of `gfpgan`. The defaults are those of the published versions 1.2 to 1.4, for 512 pixels."""

    widths: tuple[int, ...] = (512, 512, 512, 512, 512, 256, 128, 64)
    """Channels of the decoder at 4, 8, 16, ... pixels, even numbers from 2 to 1024; the U-Net has half of them."""
    style: int = 512
    """Length of a style vector, 1 to 4096."""
    layers: int = 8
    """Layers of the network that maps styles, 0 to 32; there in every checkpoint, used or not."""
    half: bool = True
    """Whether the U-Net scales and shifts the second half of the features, not all of them."""
    different_w: bool = True
    """Whether every layer of the decoder has a style of its own."""
    input_is_latent: bool = True
    """Whether the U-Net makes styles, and not what is mapped to styles first. Checkpoints do not tell; it does in all
    published ones."""

    def __post_init__(self) -> None:
        check_bounds(style=(self.style, 1, 4096), layers=(self.layers, 0, 32))
        if not 2 <= len(self.widths) <= 9 or any(width % 2 or not 2 <= width <= 1024 for width in self.widths):
            raise RequestError(
                f"widths is {','.join(map(str, self.widths))}; it must be 2 to 9 even numbers from 2 to 1024"
            )

    @property
    def size(self) -> int:
        """Side of input and output in pixels."""
        return int(4 * 2 ** (len(self.widths) - 1))

    @property
    def styles(self) -> int:
        """Number of style vectors: two for each size, one of which serves two layers."""
        return 2 * len(self.widths)


class Residual(nn.Module):
    """Residual block that halves or doubles height and width."""

    def __init__(self, before: int, after: int, enlarge: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, before, 3, padding=1)
        self.conv2 = nn.Conv2d(before, after, 3, padding=1)
        self.skip = nn.Conv2d(before, after, 1, bias=False)
        self.enlarge = enlarge

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, H, W) -> (N, after, 2 H, 2 W), or H / 2 and W / 2."""
        resized = self._resize(_activate(self.conv1(x)))
        return _activate(self.conv2(resized)) + self.skip(self._resize(x))  # type: ignore[no-any-return]

    def _resize(self, x: Tensor) -> Tensor:
        """Bilinear; by a half, that is the mean of two by two pixels."""
        return _double(x) if self.enlarge else functional.avg_pool2d(x, 2)


class ModulatedConv(nn.Module):
    """Convolution whose input channels are scaled by a style, and whose output channels, with `demodulate`, by what
    brings them back to the variance of the input."""

    def __init__(self, before: int, after: int, side: int, style: int, demodulate: bool) -> None:
        super().__init__()
        self.modulation = nn.Linear(style, before)
        self.weight = nn.Parameter(torch.empty(1, after, before, side, side))
        nn.init.normal_(self.weight, std=1 / math.sqrt(before * side**2))
        nn.init.ones_(self.modulation.bias)
        self.demodulate = demodulate

    def forward(self, x: Tensor, style: Tensor, enlarge: bool = False) -> Tensor:
        """(N, before, H, W) and (N, style) -> (N, after, H, W), or twice as large."""
        scales = self.modulation(style)
        x = x * scales[:, :, None, None]
        x = functional.conv2d(_double(x) if enlarge else x, self.weight[0], padding=self.weight.shape[3] // 2)
        if not self.demodulate:
            return x
        energy = self.weight[0].square().sum((2, 3))
        return x * (functional.linear(scales.square(), energy) + _EPS).rsqrt()[:, :, None, None]


class StyleConv(nn.Module):
    """Modulated convolution, noise, bias and activation."""

    def __init__(self, before: int, after: int, style: int, enlarge: bool = False) -> None:
        super().__init__()
        self.modulated_conv = ModulatedConv(before, after, 3, style, demodulate=True)
        self.weight = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(1, after, 1, 1))
        self.enlarge = enlarge

    def forward(self, x: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        """Apply the layer; the noise is (1, 1, H, W) of the output's size."""
        x = self.modulated_conv(x, style, self.enlarge) * math.sqrt(2.0)
        return _activate(x + (self.weight * noise + self.bias))


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to an image."""

    def __init__(self, before: int, style: int) -> None:
        super().__init__()
        self.modulated_conv = ModulatedConv(before, 3, 1, style, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """(N, before, H, W) and (N, style) -> (N, 3, H, W)."""
        return self.modulated_conv(x, style) + self.bias  # type: ignore[no-any-return]


class NormalizeStyle(nn.Module):
    """Divide styles by their root mean square along axis 1: the channels of (N, style), and, as the original does, the
    layers of (N, layers, style)."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize styles."""
        return x * (x.square().mean(1, keepdim=True) + _EPS).rsqrt()


class Constant(nn.Module):
    """What the decoder starts from, 4 x 4 pixels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, width, 4, 4))
        nn.init.normal_(self.weight)

    def forward(self, count: int) -> Tensor:
        """(count, width, 4, 4)."""
        return self.weight.expand(count, -1, -1, -1)


class Decoder(nn.Module):
    """StyleGAN2's generator, its features scaled and shifted at every size but the first."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        style, first = config.style, config.widths[0]
        self.changes_half = config.half
        mapping = [part for _ in range(config.layers) for part in (nn.Linear(style, style), nn.LeakyReLU(_SLOPE))]
        self.style_mlp = nn.Sequential(NormalizeStyle(), *mapping)
        self.constant_input = Constant(first)
        self.style_conv1 = StyleConv(first, first, style)
        self.to_rgb1 = ToRGB(first, style)
        self.style_convs, self.to_rgbs = nn.ModuleList(), nn.ModuleList()
        for before, after in pairwise(config.widths):
            self.style_convs += [StyleConv(before, after, style, enlarge=True), StyleConv(after, after, style)]
            self.to_rgbs.append(ToRGB(after, style))
        self.noises = nn.Module()
        for k in range(len(self.style_convs) + 1):
            side = 4 * 2 ** ((k + 1) // 2)
            self.noises.register_buffer(f"noise{k}", nn.init.normal_(torch.empty(1, 1, side, side)))

    def forward(self, styles: Tensor, changes: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Styles (N, layers, style), and a scale and a shift for each size from 8 pixels -> image (N, 3, H, W)."""
        noises = [self.noises.get_buffer(f"noise{k}") for k in range(len(self.style_convs) + 1)]
        x = self.constant_input(styles.shape[0])
        x = self.style_conv1(x, styles[:, 0], noises[0])
        image: Tensor = self.to_rgb1(x, styles[:, 1])
        for k, (scale, shift) in enumerate(changes):
            at = 2 * k + 1
            x = self.style_convs[2 * k](x, styles[:, at], noises[at])
            x = self._change(x, scale, shift)
            x = self.style_convs[2 * k + 1](x, styles[:, at + 1], noises[at + 1])
            image = self.to_rgbs[k](x, styles[:, at + 2]) + _double(image)
        return image

    def _change(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        if not self.changes_half:
            return x * scale + shift
        same, changed = x.chunk(2, 1)
        return torch.cat([same, changed * scale + shift], 1)


class Generator(nn.Module):
    """Face (N, 3, size, size) in [-1, 1] -> the restored face, of the same shape, in about [-1, 1]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        widths = [width // 2 for width in config.widths]
        downwards = list(pairwise(reversed(widths)))
        self.conv_body_first = nn.Conv2d(3, widths[-1], 1)
        self.conv_body_down = nn.ModuleList(Residual(before, after, enlarge=False) for before, after in downwards)
        self.final_conv = nn.Conv2d(widths[0], widths[0], 3, padding=1)
        self.conv_body_up = nn.ModuleList(Residual(before, after, enlarge=True) for before, after in pairwise(widths))
        self.final_linear = nn.Linear(16 * widths[0], config.style * (config.styles if config.different_w else 1))
        self.stylegan_decoder = Decoder(config)
        self.condition_scale = nn.ModuleList(_build_condition(width, config.half) for width in widths[1:])
        self.condition_shift = nn.ModuleList(_build_condition(width, config.half) for width in widths[1:])

    def forward(self, picture: Tensor) -> Tensor:
        """Restore faces (N, 3, size, size)."""
        x = _activate(self.conv_body_first(picture))
        skips = []
        for block in self.conv_body_down:
            x = block(x)
            skips.append(x)
        x = _activate(self.final_conv(x))
        styles = self._make_styles(self.final_linear(x.flatten(1)))
        changes = []
        for k, block in enumerate(self.conv_body_up):
            x = block(x + skips.pop())
            changes.append((self.condition_scale[k](x), self.condition_shift[k](x)))
        return self.stylegan_decoder(styles, changes)  # type: ignore[no-any-return]

    def _make_styles(self, found: Tensor) -> Tensor:
        """(N, styles) -> (N, layers, style)."""
        config = self.config
        styles = found.reshape(-1, config.styles, config.style) if config.different_w else found
        if not config.input_is_latent:
            styles = self.stylegan_decoder.style_mlp(styles)
        return styles if config.different_w else styles[:, None].expand(-1, config.styles, -1)


def _build_condition(width: int, half: bool) -> nn.Sequential:
    after = width if half else 2 * width
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(_SLOPE), nn.Conv2d(width, after, 3, padding=1)
    )


def _activate(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, _SLOPE)


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def build_spec(config: Config) -> Spec:
    """An aligned face in, the restored face out, both in [-1, 1]."""
    size = config.size, config.size
    return Spec("gfpgan", (Image("picture", "content", 3, _RANGE, size),), Output(3, _RANGE, size))


def guess_config(shapes: Shapes) -> Config | None:
    """Infer all but `input_is_latent`: widths from the decoder's biases, whether they are scaled by half and have
    styles of their own from the number of rows of the layers that make these."""
    decoder = "stylegan_decoder."
    pairs = upscaling.count_layers(shapes, rf"{decoder}style_convs\.([0-9]{{1,2}})\.bias") // 2
    sides = [shapes.get(f"{decoder}constant_input.weight", ())]
    sides += [shapes.get(f"{decoder}style_convs.{2 * k}.bias", ()) for k in range(pairs)]
    condition = upscaling.conv_shape(shapes, "condition_scale.0.2.weight")
    modulation = shapes.get(f"{decoder}style_conv1.modulated_conv.modulation.weight", ())
    rows = shapes.get("final_linear.weight", ())
    if condition is None or not pairs or len(modulation) != 2 or len(rows) != 2 or any(len(s) != 4 for s in sides):
        return None
    widths, layers = tuple(side[1] for side in sides), upscaling.count_layers(shapes, _MAPPING) // 2
    try:
        return Config(widths, modulation[1], layers, 2 * condition[0] == widths[1], rows[0] != modulation[1])
    except RequestError:
        return None


_MAPPING = r"stylegan_decoder\.style_mlp\.([0-9]{1,2})\.weight"


def drop_previews(state: State, config: Config) -> State:
    """Drop the layers toRGB, which show what the U-Net knows while it is trained."""
    return {key: value for key, value in state.items() if not key.startswith("toRGB.")}


FAMILY = Family("gfpgan", Config, Generator, build_spec, (Layout("GFPGAN clean", guess_config, drop_previews),))
