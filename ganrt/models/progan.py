"""Progressive growing (Karras, Aila, Laine, Lehtinen, "Progressive Growing of GANs", ICLR 2018, table 2).

The official form: an equalised learning rate while training, pixel norm after every activation and on the latent,
nearest upsampling, linear RGB output. Both networks grow: `stage` and `alpha`, plain attributes that the training loop
sets alike on the generator, its average and the discriminator. Fresh networks are fully grown: `stage` is the last,
`alpha` 1. Whatever the stage, images have their full size outside.

The PGAN of pytorch_GAN_zoo loads too. Its constant multiplies the layer's output, hence the bias as well, and is
sqrt(2 / fan_in) everywhere; its first bias differs from pixel to pixel. It is taken for fully grown.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ganrt.errors import RequestError
from ganrt.models.family import Family, Layout, Shapes, State, check_bounds, check_channels, flatten_logits
from ganrt.models.parametrize import equalize
from ganrt.spec import Latent, Output, Spec

T = TypeVar("T")
_SLOPE = 0.2
_EPS = 1e-8
_GROUP = 4


@dataclass(frozen=True)
class Config:
    """Settings of `progan`. The defaults are the widths of the paper for 256 pixels."""

    widths: tuple[int, ...] = (512, 512, 512, 512, 256, 128, 64)
    """Channels at 4, 8, 16, ... pixels, 2 to 9 numbers; the size is 2^(1 + count). The paper has min(512, 8192 / 2^k)
    from k = 1."""
    channels: int = 3
    """1 (grey) or 3 (RGB)."""
    latent: int = 512
    """Length of the latent, 1 to 4096."""
    pixel_bias: bool = False
    """Whether the first layer has a bias per channel and pixel (pytorch_GAN_zoo) instead of one per channel."""

    def __post_init__(self) -> None:
        check_channels(self.channels)
        check_bounds(latent=(self.latent, 1, 4096))
        if not 2 <= len(self.widths) <= 9 or not all(1 <= width <= 4096 for width in self.widths):
            raise RequestError(f"widths is {self.widths}; it takes 2 to 9 numbers from 1 to 4096")

    @property
    def size(self) -> int:
        """Height and width of the images in pixels."""
        return 2 << len(self.widths)


def pixel_norm(x: Tensor) -> Tensor:
    """Normalise (N, C, ...) to a mean square of 1 over the channels. In fp16 the epsilon would be 0."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + _EPS)


def _activate(x: Tensor) -> Tensor:
    return pixel_norm(functional.leaky_relu(x, _SLOPE))


class Stem(nn.Module):
    """(N, latent) -> (N, width, 4, 4)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.widths[0]
        self.linear = nn.Linear(config.latent, 16 * width, bias=False)
        self.bias = nn.Parameter(torch.zeros(width, 4, 4) if config.pixel_bias else torch.zeros(width, 1, 1))
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Generate from latents (N, latent)."""
        x = self.linear(pixel_norm(z)).unflatten(1, (-1, 4, 4)) + self.bias
        return _activate(self.conv(_activate(x)))


class Block(nn.Module):
    """(N, before, H, W) -> (N, width, 2H, 2W)."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the network."""
        return _activate(self.conv2(_activate(self.conv1(_upsample(x, 2)))))


class Generator(nn.Module):
    """Fully grown: (N, latent) -> (N, channels, size, size), about in [-1, 1]: the output is linear."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.stem = Stem(config)
        self.blocks = nn.ModuleList(itertools.starmap(Block, itertools.pairwise(config.widths)))
        self.to_rgb = nn.Conv2d(config.widths[-1], config.channels, 1)

    def forward(self, z: Tensor) -> Tensor:
        """Generate from latents (N, latent)."""
        x = self.stem(z)
        for block in self.blocks:
            x = block(x)
        return self.to_rgb(x)  # type: ignore[no-any-return]


class GrowingGenerator(Generator):
    """The generator while it grows. At `stage` s it generates 4 * 2^s pixels and upsamples them to the full size.
    `alpha` in [0, 1] blends the newest block in. Folding keeps only what the last stage needs."""

    ONLY_TRAINED = ("lower_to_rgb",)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.stage, self.alpha = len(self.blocks), 1.0
        self.lower_to_rgb = nn.ModuleList(nn.Conv2d(width, config.channels, 1) for width in config.widths[:-1])
        images = (self.to_rgb, *self.lower_to_rgb)
        _equalize(self, {self.stem.linear: math.sqrt(2.0) / 4, **dict.fromkeys(images, 1.0)})

    def forward(self, z: Tensor) -> Tensor:
        """Generate from latents (N, latent)."""
        x, before = self.stem(z), None
        for block in itertools.islice(self.blocks, self.stage):
            x, before = block(x), x
        image = self._to_image(x, self.stage)
        if before is not None and self.alpha < 1:
            image = torch.lerp(_upsample(self._to_image(before, self.stage - 1), 2), image, self.alpha)
        return _upsample(image, 2 ** (len(self.blocks) - self.stage))

    def _to_image(self, x: Tensor, stage: int) -> Tensor:
        layer = self.to_rgb if stage == len(self.blocks) else self.lower_to_rgb[stage]
        return layer(x)  # type: ignore[no-any-return]


class Discriminator(nn.Module):
    """(N, channels, size, size) -> logits (N,). It grows with the generator: it sees 4 * 2^`stage` pixels, and `alpha`
    blends its newest block in. Real images must go through `fade` first."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths = config.widths
        self.stage, self.alpha = len(widths) - 1, 1.0
        self.from_rgb = nn.ModuleList(nn.Conv2d(config.channels, width, 1) for width in widths)
        self.blocks = nn.ModuleList(DiscriminatorBlock(width, after) for after, width in itertools.pairwise(widths))
        self.conv = nn.Conv2d(widths[0] + 1, widths[0], 3, padding=1)
        self.hidden = nn.Linear(16 * widths[0], widths[0])
        self.linear = nn.Linear(widths[0], 1)
        _equalize(self, {self.linear: 1.0})

    def forward(self, x: Tensor) -> Tensor:
        """Apply the network."""
        image = _downsample(x, 2 ** (len(self.blocks) - self.stage))
        x = self._from_image(image, self.stage)
        for level in range(self.stage, 0, -1):
            x = self.blocks[level - 1](x)
            if level == self.stage and self.alpha < 1:
                x = torch.lerp(self._from_image(_downsample(image, 2), level - 1), x, self.alpha)
        x = functional.leaky_relu(self.conv(append_deviation(x)), _SLOPE)
        x = functional.leaky_relu(self.hidden(x.flatten(1)), _SLOPE)
        return flatten_logits(self.linear(x))

    def _from_image(self, image: Tensor, stage: int) -> Tensor:
        return functional.leaky_relu(self.from_rgb[stage](image), _SLOPE)


class DiscriminatorBlock(nn.Module):
    """(N, width, H, W) -> (N, after, H / 2, W / 2)."""

    def __init__(self, width: int, after: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, after, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the network."""
        x = functional.leaky_relu(self.conv1(x), _SLOPE)
        return functional.leaky_relu(_downsample(self.conv2(x), 2), _SLOPE)


def append_deviation(x: Tensor) -> Tensor:
    """Append the minibatch standard deviation as a channel (section 3): (N, C, H, W) -> (N, C + 1, H, W).

    The standard deviation over a group of 4 images (the whole batch if N is no multiple of 4) is averaged over all
    positions and channels to one number per group.
    """
    group = _GROUP if len(x) % _GROUP == 0 else len(x)
    # Sample n belongs to the group n mod (N / group), as in the official code.
    spread = (x.reshape(group, -1, *x.shape[1:]).var(0, unbiased=False) + _EPS).sqrt().mean((1, 2, 3))
    rows = spread.repeat(group)[:, None, None, None]
    return torch.cat([x, rows.expand(-1, 1, *x.shape[2:])], 1)


def fade(images: Tensor, stage: int, alpha: float) -> Tensor:
    """Blend real images (N, C, size, size) with their next lower resolution, as the discriminator sees them while the
    newest block of a stage fades in."""
    if stage == 0 or alpha >= 1:
        return images
    lower = images.shape[-1] // (2 << stage)
    return torch.lerp(_upsample(_downsample(images, lower), lower), images, alpha)


def _equalize(module: nn.Module, gains: Mapping[nn.Module, float]) -> None:
    """Equalise all layers, with gain sqrt(2) unless another is given."""
    for part in list(module.modules()):
        if isinstance(part, nn.Linear | nn.Conv2d):
            equalize(part, gains.get(part, math.sqrt(2.0)))


def _upsample(x: Tensor, factor: int) -> Tensor:
    return x if factor == 1 else functional.interpolate(x, scale_factor=float(factor), mode="nearest")


def _downsample(x: Tensor, factor: int) -> Tensor:
    return x if factor == 1 else functional.avg_pool2d(x, factor)


def build_spec(config: Config) -> Spec:
    """A normal latent in, an image in about [-1, 1] out. There is no truncation, as the network normalises the
    latent."""
    output = Output(config.channels, (-1.0, 1.0), (config.size, config.size))
    return Spec("progan", (Latent("z", (config.latent,)),), output)


def guess_config(shapes: Shapes) -> Config | None:
    """Infer everything from the shapes of the stem, the blocks and `to_rgb`."""
    keys = sorted(key for key in shapes if re.fullmatch(r"blocks\.\d\.conv1\.weight", key))
    return _infer_config(shapes, "stem.linear.weight", keys, "to_rgb.weight", shapes.get("stem.bias", ())[1:] == (4, 4))


def _infer_config(shapes: Shapes, stem: str, convolutions: list[str], to_rgb: str, pixel_bias: bool) -> Config | None:
    """From the first weight (16 * width, latent), the first convolutions of the blocks, and the last layer."""
    first, last = shapes.get(stem, ()), shapes.get(to_rgb, ())
    if len(first) != 2 or len(last) != 4 or any(len(shapes[key]) != 4 for key in convolutions):
        return None
    try:
        return Config((first[0] // 16, *(shapes[key][0] for key in convolutions)), last[0], first[1], pixel_bias)
    except RequestError:
        return None


def _strip_module_prefix(items: Mapping[str, T]) -> dict[str, T]:
    """Remove the `module.` that newer files of pytorch_GAN_zoo have in every key."""
    return {key.replace(".module.", "."): item for key, item in items.items()}


def _guess_zoo(shapes: Shapes) -> Config | None:
    shapes = _strip_module_prefix(shapes)
    keys = sorted(key for key in shapes if re.fullmatch(r"scaleLayers\.\d\.0\.weight", key))
    return _infer_config(shapes, "formatLayer.weight", keys, f"toRGBLayers.{len(keys)}.weight", True)


def _convert_zoo(state: State, config: Config) -> State:
    """Every layer's weight and bias times sqrt(2 / fan_in); the RGB layers of smaller sizes go."""
    state = _strip_module_prefix(state)
    last = len(config.widths) - 1
    names = {"formatLayer": "stem.linear", "groupScale0.0": "stem.conv", f"toRGBLayers.{last}": "to_rgb"}
    names |= {f"scaleLayers.{k}.{j}": f"blocks.{k}.conv{j + 1}" for k in range(last) for j in (0, 1)}
    dropped = tuple(f"toRGBLayers.{k}." for k in range(last))
    converted = {}
    for key, value in state.items():
        module, _, leaf = key.rpartition(".")
        if key.startswith(dropped):
            continue
        scale = math.sqrt(2.0 / state[f"{module}.weight"][0].numel())
        converted[f"{names.get(module, module)}.{leaf}"] = (value.double() * scale).float()
    converted["stem.bias"] = converted.pop("stem.linear.bias").reshape(-1, 4, 4)
    return converted


FAMILY = Family(
    "progan",
    Config,
    Generator,
    build_spec,
    (Layout("ganrt", guess_config), Layout("pytorch_GAN_zoo", _guess_zoo, _convert_zoo)),
    Discriminator,
    GrowingGenerator,
    task="progressive",
)
