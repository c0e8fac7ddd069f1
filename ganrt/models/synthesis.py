"""Pictures from features of pictures (edges, texture, colour, a mask): y = f(x; W), one encoder-decoder for any list of
them. With a mask and the colours around it, it fills holes.

The topology is that of EdgeConnect (Nazeri et al., "EdgeConnect: Generative Image Inpainting with Adversarial Edge
Learning", 2019): two strided convolutions, residual blocks with dilation, two transposed convolutions, instance norm
without gains. So are the state-dict keys; `order.*` is ganrt's own and says which features go in.
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
"""Features that look around themselves, and how far."""
_STRIDE = 4
"""The encoder halves height and width twice."""


@dataclass(frozen=True)
class Config:
    features: str = "edges,colour,texture"
    """What goes in, in this order, from edges, colour, texture, grey and mask."""
    channels: int = 3
    """Of the picture made: 3 (RGB), or 1 (grey, or an edge map)."""
    width: int = 64
    """Channels at full size; they double twice."""
    blocks: int = 8
    textures: int = 4
    """Directions of the texture feature."""
    pool: int = 8
    """Pixels that the colour feature averages in each direction; with a mask there is no averaging."""
    spectral: bool = False
    """Trained under spectral norm, as EdgeConnect's edge model is; its middle then has no biases."""
    residual: bool = False
    """The picture is made as a change to the colour feature, holes filled from around them, and without norms, which
    forget how bright, colourful and rich in contrast a picture is, all of which a change has to fit."""
    extract: bool = False
    """Whether the features are computed by the model, from a picture (and the mask)."""

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
            raise RequestError("extract is true, but features has the mask alone, which is no feature of a picture")

    @property
    def names(self) -> list[str]:
        return self.features.split(",")

    @property
    def multiple_of(self) -> int:
        """Of height and width."""
        pooled = self.extract and "colour" in self.names and "mask" not in self.names
        return math.lcm(_STRIDE, self.pool) if pooled else _STRIDE

    def count_channels(self, name: str) -> int:
        return {"colour": 3, "texture": self.textures}.get(name, 1)


class Residual(nn.Module):
    """No activation follows the sum."""

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
        return x + self.conv_block(x)  # type: ignore[no-any-return]


class Generator(nn.Module):
    """Features (N, C, H, W) in [0, 1], in the order of the config -> picture (N, channels, H, W) in [0, 1].

    Where there is a mask, it is 1 in the holes, where all other features are 0, and colour and grey are 1.
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
        if not self.residual:
            made = self.decoder(self.middle(self.encoder(torch.cat(features, 1))))
            return torch.sigmoid(made) if self.grey else (torch.tanh(made) + 1) / 2
        seen = dict(zip(self.names, features, strict=True))
        if "mask" in seen:
            seen["colour"] = extraction.fill_holes(seen["colour"], seen["mask"])
        made = self.decoder(self.middle(self.encoder(torch.cat(list(seen.values()), 1))))
        return (seen["colour"] + torch.tanh(made)).clamp(0.0, 1.0)


class Extraction(nn.Module):
    """Picture (N, 3, H, W) in [0, 1] -> its features in the order of the config.

    With a mask (N, 1, H, W), 1 in the holes: what is under the mask is never looked at.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.names = config.names
        self.parts = nn.ModuleDict({name: _build_extractor(name, config) for name in self.names if name != "mask"})

    def forward(self, picture: Tensor, *mask: Tensor) -> list[Tensor]:
        if not mask:
            return [self.parts[name](picture) for name in self.names]
        (hole,) = mask
        known = picture * (1 - hole) + hole
        return [hole if name == "mask" else self._extract_outside(name, known, hole) for name in self.names]

    def _extract_outside(self, name: str, known: Tensor, hole: Tensor) -> Tensor:
        """A feature of what is known; 0 where the hole itself would make edges and texture."""
        found: Tensor = self.parts[name](known)
        return found * (1 - extraction.dilate(hole, _RADII[name])) if name in _RADII else found


def _build_extractor(name: str, config: Config) -> nn.Module:
    if name == "texture":
        return extraction.Texture(config.textures)
    if name == "colour":
        return nn.Identity() if "mask" in config.names else extraction.Colour(config.pool)
    return extraction.Edges() if name == "edges" else extraction.Grey()


class Pipeline(Generator):
    """Picture (N, 3, H, W) in [0, 1] -> the picture that its features make.

    Where the features have a mask, a second input (N, 1, H, W), 1 in the holes; a model that makes RGB then changes
    nothing outside the holes.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.extraction = Extraction(config)

    def forward(self, *inputs: Tensor) -> Tensor:
        picture, *mask = inputs
        made = super().forward(*self.extraction(picture, *mask))
        if self.grey or not mask:
            return made
        return picture * (1 - mask[0]) + made * mask[0]


class PatchDiscriminator(nn.Module):
    """(N, channels, H, W) -> the activations of its five layers; the last, (N, 1, H / 8 - 2, W / 8 - 2), are logits of
    patches of 70 pixels. Spectral norm on every layer; for pairs of pictures, their channels are joined."""

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
    """Weights that keep the scale of activations (He et al. 2015), biases 0; the last layer next to nothing, so that
    training begins with the colours as they are."""
    layers = [part for part in module.modules() if isinstance(part, nn.Conv2d | nn.ConvTranspose2d)]
    for part in layers:
        inputs = part.weight[0].numel() if isinstance(part, nn.Conv2d) else part.weight[:, 0].numel() / 4
        nn.init.normal_(part.weight, 0.0, math.sqrt(2 / inputs))
        if part.bias is not None:
            nn.init.zeros_(part.bias)
    with torch.no_grad():
        layers[-1].weight.mul_(0.01)


def build_network(config: Config) -> Generator:
    return Pipeline(config) if config.extract else Generator(config)


def build_trainable(config: Config) -> nn.Module:
    """With spectral norm on all but the last layer, where the config has it."""
    module = build_network(config)
    if config.spectral:
        for part in (module.encoder, module.middle, module.decoder[:-1]):
            apply_spectral_norm(part)
    return module


def build_spec(config: Config) -> Spec:
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
    """The empty tensors `order.*` name the features; that of the colour is `pool` long."""
    order = sorted(key for key in shapes if re.fullmatch(r"order\.[0-9]_[a-z]+", key))
    pools = [shapes[key][0] for key in order if key.endswith("_colour") and shapes[key]]
    residual = "order.residual" in shapes
    return _infer_config(shapes, [key.partition("_")[2] for key in order], pools[0] if pools else Config.pool, residual)


def guess_edgeconnect(shapes: Shapes) -> Config | None:
    """The inpainting model takes the masked picture and edges, the edge model grey, edges and the mask."""
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
    """With spectral norm computed from the vectors that PyTorch's hook stored, and the order of the features."""
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
    """Divided by u W v, W with a row per output channel."""
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
