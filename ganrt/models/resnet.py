"""Residual GANs of 32 to 256 pixels with one set of switches: WGAN-GP's ResNet (Gulrajani et al. 2017), SNGAN (Miyato
et al. 2018), projection cGAN (Miyato and Koyama 2018), SAGAN (Zhang et al. 2019) and BigGAN (Brock et al. 2019).

Widths and blocks are those of ajbrock/BigGAN-PyTorch; at 32 pixels they are the common ResNet-32 backbone. Upsampling
is nearest. With the defaults the networks are SNGAN's of 256 and 128 channels.

SNGAN: the defaults. WGAN-GP: width=32, spectral=none. cGAN-PD: classes=10. SAGAN: classes, attention, spectral=both.
BigGAN-128: size=128, classes=1000, width=96, discriminator_width=96, latent=120, shared=128, hierarchical=true,
attention=64, spectral=both.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from ganrt.errors import RequestError
from ganrt.models.family import Family, Layout, Shapes, State, check_bounds, check_channels, flatten_logits
from ganrt.models.parametrize import apply_spectral_norm
from ganrt.models.residual import Attention, ClassNorm, VectorNorm, init_orthogonal
from ganrt.spec import Input, Label, Latent, Output, Spec

_GENERATOR = {32: (4, 4, 4, 4), 64: (16, 16, 8, 4, 2), 128: (16, 16, 8, 4, 2, 1), 256: (16, 16, 8, 8, 4, 2, 1)}
"""Size -> channels at 4, 8, ... pixels, in multiples of the width."""
_DISCRIMINATOR = {
    32: (4, 4, 4, 4),
    64: (1, 2, 4, 8, 16),
    128: (1, 2, 4, 8, 16, 16),
    256: (1, 2, 4, 8, 8, 16, 16),
}
"""Size -> channels after each block, in multiples of the width."""


@dataclass(frozen=True)
class Config:
    """Settings of `resnet`. The defaults are those of SNGAN for 32 pixels; the module docstring has the others."""

    size: int = 32
    """Height and width in pixels: 32, 64, 128 or 256."""
    channels: int = 3
    """1 (grey) or 3 (RGB)."""
    classes: int = 0
    """Number of classes, up to 100,000; 0 for a model without labels."""
    width: int = 64
    """Base width of the generator, 1 to 1024. Channels at full size: 4 width at 32 pixels, 2 width at 64, else
    width."""
    discriminator_width: int = 32
    """Base width of the discriminator, 1 to 1024."""
    latent: int = 128
    """Length of the latent, 1 to 4096."""
    hierarchical: bool = False
    """Whether every block gets its own chunk of the latent (BigGAN)."""
    shared: int = 0
    """Length of the class embedding that all blocks share; 0 for a gain and a bias per class in every block."""
    attention: tuple[int, ...] = ()
    """Heights in pixels at which both networks have self-attention: powers of 2 from 8 to half the size."""
    spectral: str = "discriminator"
    """Which networks are trained with spectral norm: `none`, `discriminator` or `both`."""
    eps: float = 1e-5
    """Epsilon of the batch norms, PyTorch's default. BigGAN's weights from TF Hub need 1e-4."""

    def __post_init__(self) -> None:
        check_channels(self.channels)
        check_bounds(
            classes=(self.classes, 0, 100_000),
            width=(self.width, 1, 1024),
            discriminator_width=(self.discriminator_width, 1, 1024),
            latent=(self.latent, 1, 4096),
            shared=(self.shared, 0, 4096),
        )
        if self.size not in _GENERATOR:
            raise RequestError(f"size is {self.size}; resnet makes images of {', '.join(map(str, _GENERATOR))} pixels")
        if self.spectral not in ("none", "discriminator", "both"):
            raise RequestError(f"spectral is {self.spectral!r}; it must be none, discriminator or both")
        if not set(self.attention) <= {8 << k for k in range(self.blocks - 1)}:
            raise RequestError(f"attention is {self.attention}; it takes powers of 2 from 8 to half the size")
        if self.hierarchical and self.latent % (self.blocks + 1):
            raise RequestError(f"latent is {self.latent}; a hierarchical one is a multiple of {self.blocks + 1}")
        if (self.shared and not self.classes) or (self.hierarchical and self.classes and not self.shared):
            raise RequestError("shared goes with classes, and a hierarchical latent with classes needs it")
        if not 0 < self.eps < 1:
            raise RequestError(f"eps is {self.eps}; it must be between 0 and 1")

    @property
    def blocks(self) -> int:
        """Number of upsampling blocks."""
        return len(_GENERATOR[self.size]) - 1

    @property
    def widths(self) -> list[int]:
        """Channels of the generator at 4, 8, ... pixels."""
        return [self.width * factor for factor in _GENERATOR[self.size]]

    @property
    def chunk(self) -> int:
        """Length of the part of the latent that the first layer gets."""
        return self.latent // (self.blocks + 1) if self.hierarchical else self.latent

    @property
    def condition(self) -> int:
        """Length of the vector that the norms of a block depend on."""
        return self.shared + (self.chunk if self.hierarchical else 0)


def _build_norm(config: Config, width: int) -> nn.Module:
    if config.condition:
        return VectorNorm(width, config.condition, config.eps)
    return ClassNorm(width, config.classes, config.eps) if config.classes else nn.BatchNorm2d(width, config.eps)


class GeneratorBlock(nn.Module):
    """(N, before, H, W) -> (N, width, 2H, 2W). `condition` is a vector, labels, or None, as the norms need it."""

    def __init__(self, config: Config, before: int, width: int, attention: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = _build_norm(config, before), _build_norm(config, width)
        self.conv1 = nn.Conv2d(before, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Conv2d(before, width, 1)
        self.attention = Attention(width) if attention else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Upsample features by 2."""
        given = () if condition is None else (condition,)
        hidden = self.conv1(_upsample(functional.relu(self.norm1(x, *given))))
        hidden = self.conv2(functional.relu(self.norm2(hidden, *given)))
        return self.attention(hidden + self.shortcut(_upsample(x)))  # type: ignore[no-any-return]


def _upsample(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


class Generator(nn.Module):
    """(N, latent), and int64 labels (N,) where there are classes -> (N, channels, size, size) in [-1, 1]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        if config.shared:
            self.shared = nn.Embedding(config.classes, config.shared)
        self.linear = nn.Linear(config.chunk, 16 * widths[0])
        self.blocks = nn.ModuleList(
            GeneratorBlock(config, before, width, 8 << k in config.attention)
            for k, (before, width) in enumerate(itertools.pairwise(widths))
        )
        self.norm = nn.BatchNorm2d(widths[-1], config.eps)
        self.to_rgb = nn.Conv2d(widths[-1], config.channels, 3, padding=1)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Generate images from latents (N, latent) and labels (N,)."""
        pieces = torch.split(z, self.config.chunk, 1)
        x = self.linear(pieces[0]).unflatten(1, (-1, 4, 4))
        known = self.shared(label) if self.config.shared else label
        for k, block in enumerate(self.blocks):
            condition = known
            if self.config.hierarchical:
                condition = pieces[k + 1] if known is None else torch.cat([known, pieces[k + 1]], 1)
            x = block(x, condition)
        return self.to_rgb(functional.relu(self.norm(x))).tanh()  # type: ignore[no-any-return]


def build_trainable(config: Config) -> nn.Module:
    """The generator with orthogonal weights, and with spectral norm if the config asks for it."""
    generator = Generator(config)
    init_orthogonal(generator)
    return apply_spectral_norm(generator) if config.spectral == "both" else generator


class DiscriminatorBlock(nn.Module):
    """(N, before, H, W) -> (N, width, H / 2, W / 2), or the same size without `halve`."""

    def __init__(self, before: int, width: int, first: bool, halve: bool, attention: bool) -> None:
        super().__init__()
        self.first, self.halve = first, halve
        self.conv1 = nn.Conv2d(before, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Conv2d(before, width, 1) if halve or before != width else nn.Identity()
        self.attention = Attention(width) if attention else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        hidden = self.conv1(x if self.first else functional.relu(x))
        hidden = self.conv2(functional.relu(hidden))
        if self.halve:  # a 1 x 1 convolution and the mean commute: fewer pixels first
            hidden, x = functional.avg_pool2d(hidden, 2), functional.avg_pool2d(x, 2)
        return self.attention(hidden + self.shortcut(x))  # type: ignore[no-any-return]


class Discriminator(nn.Module):
    """(N, channels, size, size), and int64 labels (N,) where there are classes -> logits (N,).

    Features are summed over the pixels; a class adds their product with its embedding (projection, Miyato and Koyama
    2018).
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths = [config.discriminator_width * factor for factor in _DISCRIMINATOR[config.size]]
        halvings = 2 if config.size == 32 else len(widths) - 1
        before = config.channels
        self.blocks = nn.ModuleList()
        for k, width in enumerate(widths):
            halve = k < halvings
            attention = halve and config.size >> (k + 1) in config.attention
            self.blocks.append(DiscriminatorBlock(before, width, k == 0, halve, attention))
            before = width
        self.linear = nn.Linear(widths[-1], 1)
        init_orthogonal(self)
        if config.classes:
            self.embedding = nn.Embedding(config.classes, widths[-1])
            nn.init.orthogonal_(self.embedding.weight)
        if config.spectral != "none":
            apply_spectral_norm(self)
            if config.classes:
                parametrizations.spectral_norm(self.embedding, eps=1e-6)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Score images: logits (N,)."""
        for block in self.blocks:
            x = block(x)
        features = functional.relu(x).sum((2, 3))
        logits = flatten_logits(self.linear(features))
        return logits if labels is None else logits + (self.embedding(labels) * features).sum(1)


def build_spec(config: Config) -> Spec:
    """A normal latent and, with classes, a label in; an image in [-1, 1] out."""
    inputs: list[Input] = [Latent("z", (config.latent,), truncation="resampled")]
    if config.classes:
        inputs.append(Label("label", config.classes))
    return Spec("resnet", tuple(inputs), Output(config.channels, (-1.0, 1.0), (config.size, config.size)))


def guess_config(shapes: Shapes) -> Config | None:
    """Infer everything but the settings that only training uses. Each block doubles the first 4 pixels."""
    stems = {key.partition(".norm1.")[0] for key in shapes if re.fullmatch(r"blocks\.\d\.norm1\..*", key)}
    size = 4 << len(stems)
    first, rgb = shapes.get("linear.weight", ()), shapes.get("to_rgb.weight", ())
    if size not in _GENERATOR or len(first) != 2 or len(rgb) != 4:
        return None
    shared = shapes.get("shared.weight", (0, 0))
    table = shapes.get("blocks.0.norm1.gains.weight", (0, 0))
    vector = shapes.get("blocks.0.norm1.gain.weight", (0, 0))
    if any(len(shape) != 2 for shape in (shared, table, vector)):
        return None
    hierarchical = vector[1] > shared[1]
    try:
        return Config(
            size=size,
            channels=rgb[0],
            classes=shared[0] or table[0],
            width=first[0] // 16 // _GENERATOR[size][0],
            latent=first[1] * (len(stems) + 1) if hierarchical else first[1],
            hierarchical=hierarchical,
            shared=shared[1],
            attention=tuple(8 << k for k in range(len(stems)) if f"blocks.{k}.attention.gamma" in shapes),
        )
    except RequestError:
        return None


_BIGGAN_NAMES = [
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^blocks\.(\d)\.0\.", r"blocks.\1."),
        (r"^blocks\.(\d)\.1\.", r"blocks.\1.attention."),
        (r"\.conv_sc\.", r".shortcut."),
        (r"\.bn([12])\.(?:bn\.)?(?:stored|running)_(mean|var)$", r".norm\1.norm.running_\2"),
        (r"\.bn([12])\.bn\.num_batches_tracked$", r".norm\1.norm.num_batches_tracked"),
        (r"\.bn([12])\.", r".norm\1."),
        (r"^output_layer\.0\.gain$", "norm.weight"),
        (r"^output_layer\.0\.(?:bn\.)?(?:stored|running)_(mean|var)$", r"norm.running_\1"),
        (r"^output_layer\.0\.(?:bn\.)?", "norm."),
        (r"^output_layer\.2\.", "to_rgb."),
    )
]
"""Key of BigGAN-PyTorch -> key here, one after the other. With --mybn or --cross_replica the statistics of its norms
are one level deeper, under `bn`."""
_BIGGAN_TABLE = re.compile(r"(\.norm[12]\.)(gain|bias)\.weight$")
_BIGGAN_EXTRAS = re.compile(r"\.(u\d|sv\d|accumulation_counter)$")
"""Of spectral norm and of standing statistics; `sv0` is a log that nothing reads."""


def _map_biggan_keys(keys: Iterable[str]) -> dict[str, str]:
    """Key of BigGAN-PyTorch -> key here, without the extras. Without a shared embedding the gains are tables."""
    names = {key: key for key in keys if not _BIGGAN_EXTRAS.search(key)}
    shared = "shared.weight" in names
    for pattern, name in _BIGGAN_NAMES:
        names = {old: pattern.sub(name, new) for old, new in names.items()}
    if shared:
        return names
    return {old: _BIGGAN_TABLE.sub(_pluralize, new) for old, new in names.items()}


def _pluralize(found: re.Match[str]) -> str:
    return f"{found[1]}{'gains' if found[2] == 'gain' else 'biases'}.weight"


def _guess_biggan(shapes: Shapes) -> Config | None:
    if "blocks.0.0.conv1.weight" not in shapes:
        return None
    return guess_config({new: shapes[old] for old, new in _map_biggan_keys(shapes).items()})


def _convert_biggan(state: State, config: Config) -> State:
    return {new: _divide_spectral_norm(state, old) for old, new in _map_biggan_keys(state).items()}


def _divide_spectral_norm(state: State, key: str) -> Tensor:
    """A weight over its spectral norm by BigGAN-PyTorch's own rule (layers.py, `SN`): every forward pass takes one step
    of power iteration from the stored u0, and in eval mode forgets it."""
    u = state.get(f"{key.removesuffix('.weight')}.u0")
    if u is None or not key.endswith(".weight"):
        return state[key]
    weight = state[key].double()
    flat = weight.flatten(1)
    v = functional.normalize(u.double() @ flat, eps=1e-12)
    normalised: Tensor = weight / torch.linalg.vector_norm(v @ flat.T)
    return normalised.float()


FAMILY = Family(
    "resnet",
    Config,
    Generator,
    build_spec,
    (Layout("ganrt", guess_config), Layout("BigGAN-PyTorch", _guess_biggan, _convert_biggan)),
    Discriminator,
    build_trainable,
)
