"""Image synthesis from feature maps (edges, texture, colour, a mask): y = f(x; W), one encoder-decoder for any list of
features. With a mask it does inpainting.

The topology is that of EdgeConnect (Nazeri et al., "EdgeConnect: Generative Image Inpainting with Adversarial Edge
Learning", 2019): two strided convolutions, residual blocks with dilation, two transposed convolutions, instance norm
without gains. The state-dict keys are EdgeConnect's, too, except for `order.*`, which names the features.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganrt.errors import RequestError
from ganrt.models import features as extraction
from ganrt.models.family import Family, Layout, Shapes, State, check_bounds, check_channels
from ganrt.models.parametrize import apply_spectral_norm
from ganrt.spec import Image, Output, Spec

RANGE = (0.0, 1.0)
FEATURES = ("edges", "colour", "texture", "grey", "mask")
_RADII = {"edges": extraction.Edges.radius, "texture": extraction.Texture.radius}
"""Features of a neighbourhood -> receptive-field radius in pixels."""
_STRIDE = 4
"""The encoder halves height and width twice."""


@dataclass(frozen=True)
class Config:
    """Settings of `synthesis`. Widths and blocks default to EdgeConnect's."""

    features: str = "edges,colour,texture"
    """Input features in order, with commas between: edges, colour, texture, grey, mask; each at most once."""
    channels: int = 3
    """Channels of the output: 3 (RGB), or 1 (grey, or an edge map)."""
    width: int = 64
    """Channels at full size, 1 to 512; they double at half size and again at quarter size."""
    blocks: int = 8
    """Residual blocks at quarter size, 0 to 64."""
    textures: int = 4
    """Directions of the texture feature, 1 to 32."""
    pool: int = 8
    """Side in pixels of the squares that the colour feature averages: 4, 8, 16 or 32. Not used with a mask."""
    spectral: bool = False
    """Whether to train with spectral norm, as EdgeConnect's edge model; the residual blocks then have no biases."""
    residual: bool = False
    """Whether the output is the colour feature, holes filled, plus a learned change. Such a network has no instance
    norm, which would remove the brightness and contrast that the change must match."""
    extract: bool = False
    """Whether the model extracts the features itself, from an image (and the mask)."""

    def __post_init__(self) -> None:
        check_channels(self.channels)
        check_bounds(width=(self.width, 1, 512), blocks=(self.blocks, 0, 64), textures=(self.textures, 1, 32))
        if self.pool not in (4, 8, 16, 32):
            raise RequestError(f"pool is {self.pool}; it must be 4, 8, 16 or 32")
        unknown = [name for name in self.names if name not in FEATURES]
        if unknown or len(set(self.names)) != len(self.names):
            raise RequestError(
                f"features is {self.features!r}; it must be a list such as edges,colour, each of {', '.join(FEATURES)} "
                "at most once"
            )
        if self.residual and (self.channels != 3 or "colour" not in self.names):
            raise RequestError(
                f"residual is true, but features is {self.features!r} and channels is {self.channels}; it needs "
                "colour, and 3 channels"
            )
        if self.extract and self.names == ["mask"]:
            raise RequestError(
                "extract is true, but features has only the mask, which cannot be extracted; add another feature"
            )

    @property
    def names(self) -> list[str]:
        """The features in order."""
        return self.features.split(",")

    @property
    def multiple_of(self) -> int:
        """What height and width must be multiples of."""
        pooled = self.extract and "colour" in self.names and "mask" not in self.names
        return math.lcm(_STRIDE, self.pool) if pooled else _STRIDE

    def count_channels(self, name: str) -> int:
        """Number of channels of a feature."""
        return {"colour": 3, "texture": self.textures}.get(name, 1)


class Residual(nn.Module):
    """Residual block with a dilated convolution, without an activation after the sum."""

    def __init__(self, width: int, bias: bool, norm: bool) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(2),
            nn.Conv2d(width, width, 3, dilation=2, bias=bias),
            *_build_activation(width, norm),
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3, bias=bias),
            _build_activation(width, norm)[0],
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to features (N, width, H, W)."""
        return x + self.conv_block(x)  # type: ignore[no-any-return]


class Generator(nn.Module):
    """Features (N, C, H, W) in [0, 1], in the order of the config -> image (N, channels, H, W) in [0, 1].

    A mask is 1 in the holes. There, edges and texture must be 0, and colour and grey 1.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, norm = config.width, not config.residual
        self.order = nn.Module()
        for k, name in enumerate(config.names):
            self.order.register_buffer(f"{k}_{name}", torch.empty(config.pool if name == "colour" else 1, 0))
        if config.residual:
            self.order.register_buffer("residual", torch.empty(1, 0))
        self.encoder = nn.Sequential(
            nn.ReflectionPad2d(3),
            nn.Conv2d(sum(map(config.count_channels, config.names)), width, 7),
            *_build_activation(width, norm),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            *_build_activation(2 * width, norm),
            nn.Conv2d(2 * width, 4 * width, 4, 2, 1),
            *_build_activation(4 * width, norm),
        )
        self.middle = nn.Sequential(*(Residual(4 * width, not config.spectral, norm) for _ in range(config.blocks)))
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1),
            *_build_activation(2 * width, norm),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1),
            *_build_activation(width, norm),
            nn.ReflectionPad2d(3),
            nn.Conv2d(width, config.channels, 7),
        )
        self.grey, self.residual, self.names = config.channels == 1, config.residual, config.names
        if norm:
            _init_weights(self)
        else:
            _init_without_norm(self)

    def forward(self, *features: Tensor) -> Tensor:
        """Generate images from features in the order of the config."""
        if not self.residual:
            made = self.decoder(self.middle(self.encoder(torch.cat(features, 1))))
            return torch.sigmoid(made) if self.grey else (torch.tanh(made) + 1) / 2
        seen = dict(zip(self.names, features, strict=True))
        if "mask" in seen:
            seen["colour"] = extraction.fill_holes(seen["colour"], seen["mask"])
        made = self.decoder(self.middle(self.encoder(torch.cat(list(seen.values()), 1))))
        return (seen["colour"] + torch.tanh(made)).clamp(0.0, 1.0)


class Extraction(nn.Module):
    """Image (N, 3, H, W) in [0, 1] -> its features in the order of the config.

    With a mask (N, 1, H, W), 1 in the holes, values under the mask are ignored.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.names = config.names
        self.parts = nn.ModuleDict({name: _build_extractor(name, config) for name in self.names if name != "mask"})

    def forward(self, picture: Tensor, *mask: Tensor) -> list[Tensor]:
        """Extract the features."""
        if not mask:
            return [self.parts[name](picture) for name in self.names]
        (hole,) = mask
        known = picture * (1 - hole) + hole
        return [hole if name == "mask" else self._extract_outside(name, known, hole) for name in self.names]

    def _extract_outside(self, name: str, known: Tensor, hole: Tensor) -> Tensor:
        """A feature of the known pixels; edges and texture are 0 where the border of a hole would cause a response."""
        found: Tensor = self.parts[name](known)
        return found * (1 - extraction.dilate(hole, _RADII[name])) if name in _RADII else found


def _build_extractor(name: str, config: Config) -> nn.Module:
    if name == "texture":
        return extraction.Texture(config.textures)
    if name == "colour":
        return nn.Identity() if "mask" in config.names else extraction.Colour(config.pool)
    return extraction.Edges() if name == "edges" else extraction.Grey()


class Pipeline(Generator):
    """Image (N, 3, H, W) in [0, 1] -> the image generated from its features.

    If the features include a mask, it is a second input (N, 1, H, W), 1 in the holes; an RGB model then leaves pixels
    outside the holes unchanged.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.extraction = Extraction(config)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Generate from an image, and a mask if the features include one."""
        picture, *mask = inputs
        made = super().forward(*self.extraction(picture, *mask))
        if self.grey or not mask:
            return made
        return picture * (1 - mask[0]) + made * mask[0]


class PatchDiscriminator(nn.Module):
    """(N, channels, H, W) -> the activations of its five layers, of which the last, (N, 1, H / 8 - 2, W / 8 - 2), are
    logits of 70-pixel patches (Isola et al. 2017). Every layer has spectral norm. Concatenate the channels of pairs."""

    def __init__(self, channels: int, width: int = 64) -> None:
        super().__init__()
        widths = [channels, width, 2 * width, 4 * width, 8 * width]
        strides = (2, 2, 2, 1)
        layers = [
            nn.Sequential(nn.Conv2d(before, after, 4, stride, 1, bias=False), nn.LeakyReLU(0.2))
            for (before, after), stride in zip(itertools.pairwise(widths), strides, strict=True)
        ]
        self.layers = nn.ModuleList([*layers, nn.Conv2d(widths[-1], 1, 4, 1, 1, bias=False)])
        _init_weights(self)
        apply_spectral_norm(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Activations of all five layers."""
        found = []
        for layer in self.layers:
            x = layer(x)
            found.append(x)
        return found


def _build_activation(width: int, norm: bool) -> tuple[nn.Module, nn.Module]:
    return nn.InstanceNorm2d(width) if norm else nn.Identity(), nn.ReLU()


def _init_weights(module: nn.Module) -> None:
    """Weights N(0, 0.02), biases 0."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(part.weight, 0.0, 0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def _init_without_norm(module: Generator) -> None:
    """Initialise weights as He et al. 2015, biases 0, and scale the last layer by 0.01, so that training starts close
    to the unchanged colours."""
    layers = [part for part in module.modules() if isinstance(part, nn.Conv2d | nn.ConvTranspose2d)]
    for part in layers:
        inputs = part.weight[0].numel() if isinstance(part, nn.Conv2d) else part.weight[:, 0].numel() / 4
        nn.init.normal_(part.weight, 0.0, math.sqrt(2 / inputs))
        if part.bias is not None:
            nn.init.zeros_(part.bias)
    with torch.no_grad():
        layers[-1].weight.mul_(0.01)


def build_network(config: Config) -> Generator:
    """The generator, with feature extraction if the config asks for it."""
    return Pipeline(config) if config.extract else Generator(config)


def build_trainable(config: Config) -> nn.Module:
    """The generator, with spectral norm on all but the last layer if the config asks for it."""
    module = build_network(config)
    if config.spectral:
        for part in (module.encoder, module.middle, module.decoder[:-1]):
            apply_spectral_norm(part)
    return module


def build_spec(config: Config) -> Spec:
    """The features, or an image (and a mask) with `extract`, in; an image out; all in [0, 1]."""
    names = config.names
    if config.extract:
        names = ["picture", *(["mask"] if "mask" in names else [])]
    inputs = tuple(
        Image(
            name,
            "content" if name == "picture" else name,
            3 if name == "picture" else config.count_channels(name),
            RANGE,
            multiple_of=config.multiple_of,
            like=names[0] if k else None,
        )
        for k, name in enumerate(names)
    )
    return Spec("synthesis", inputs, Output(config.channels, RANGE, None))


def guess_config(shapes: Shapes) -> Config | None:
    """Infer everything. The empty tensors `order.*` name the features; the length of the colour's is `pool`."""
    order = sorted(key for key in shapes if re.fullmatch(r"order\.[0-9]_[a-z]+", key))
    pools = [shapes[key][0] for key in order if key.endswith("_colour") and shapes[key]]
    residual = "order.residual" in shapes
    return _infer_config(shapes, [key.partition("_")[2] for key in order], pools[0] if pools else Config.pool, residual)


def guess_edgeconnect(shapes: Shapes) -> Config | None:
    """Infer everything for EdgeConnect: its inpainting model takes colour and edges, its edge model grey, edges,
    mask."""
    last = shapes.get("decoder.7.weight", ())
    known = {3: ["colour", "edges"], 1: ["grey", "edges", "mask"]}
    return _infer_config(shapes, known.get(last[0] if len(last) == 4 else 0, []), Config.pool)


def _infer_config(shapes: Shapes, names: list[str], pool: int, residual: bool = False) -> Config | None:
    first, last = (
        shapes.get(f"{key}.weight", shapes.get(f"{key}.weight_orig", ())) for key in ("encoder.1", "decoder.7")
    )
    if len(first) != 4 or len(last) != 4 or not names:
        return None
    blocks = {key.split(".")[1] for key in shapes if re.fullmatch(r"middle\.[0-9]{1,2}\.conv_block\..+", key)}
    plain = not blocks or "middle.0.conv_block.1.bias" in shapes
    others = sum(3 if name == "colour" else 1 for name in names if name != "texture")
    textures = first[1] - others if "texture" in names else Config.textures
    try:
        return Config(",".join(names), last[0], first[0], len(blocks), textures, pool, not plain, residual)
    except RequestError:
        return None


def convert_edgeconnect(state: State, config: Config) -> State:
    """Fold spectral norm, from the vectors that PyTorch's hook stored, and add the order of the features."""
    plain = {key: value for key, value in state.items() if not re.search(r"\.weight_(orig|u|v)$", key)}
    for key in state:
        if key.endswith(".weight_orig"):
            stem = key.removesuffix("_orig")
            plain[stem] = _divide_spectral_norm(
                state[key], state[f"{stem}_u"], state[f"{stem}_v"], key.startswith("decoder")
            )
    with torch.device("meta"):
        order = Generator(config).order.state_dict(prefix="order.")
    return plain | {key: torch.empty(value.shape) for key, value in order.items()}


def _divide_spectral_norm(weight: Tensor, u: Tensor, v: Tensor, transposed: bool) -> Tensor:
    """Divide a weight by its spectral norm u W v, where W has a row per output channel."""
    rows = weight.transpose(0, 1) if transposed else weight
    return weight / torch.dot(u, rows.flatten(1) @ v)


FAMILY = Family(
    "synthesis",
    Config,
    build_network,
    build_spec,
    (Layout("ganrt", guess_config), Layout("EdgeConnect", guess_edgeconnect, convert_edgeconnect)),
    trainable=build_trainable,
    task="synthesis",
)
