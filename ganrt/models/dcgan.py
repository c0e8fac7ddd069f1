"""DCGAN (Radford, Metz, Chintala, "Unsupervised Representation Learning with Deep Convolutional GANs", ICLR 2016).

Widths, kernels and state-dict keys are those of pytorch/examples, which halve the paper's widths: its checkpoints load
unchanged. WassersteinGAN's `DCGAN_G` and the DCGAN of pytorch_GAN_zoo are the same layers under other names.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from torch import Tensor, nn

from ganrt.errors import RequestError
from ganrt.models.family import Family, Layout, Shapes, State, check_bounds, check_channels, flatten_logits, init_normal
from ganrt.spec import Latent, Output, Spec


@dataclass(frozen=True)
class Config:
    """Settings of `dcgan`. The defaults are those of pytorch/examples."""

    size: int = 64
    """Height and width in pixels: 16, 32, 64 or 128."""
    channels: int = 3
    """1 (grey) or 3 (RGB)."""
    latent: int = 100
    """Length of the latent, 1 to 4096."""
    width: int = 64
    """Channels before the last layer, 1 to 1024; they double towards the latent."""

    def __post_init__(self) -> None:
        check_channels(self.channels)
        check_bounds(latent=(self.latent, 1, 4096), width=(self.width, 1, 1024))
        if self.size not in (16, 32, 64, 128):
            raise RequestError(f"size is {self.size}; dcgan makes images of 16, 32, 64 or 128 pixels")

    @property
    def widths(self) -> list[int]:
        """Channels at 4, 8, ... size / 2 pixels: the discriminator's in reverse."""
        doublings = self.size.bit_length() - 4
        return [self.width << k for k in range(doublings, -1, -1)]


class Generator(nn.Module):
    """(N, latent) -> (N, channels, size, size) in [-1, 1]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = config.latent
        for k, width in enumerate(config.widths):
            stride, padding = (1, 0) if k == 0 else (2, 1)
            layers += [
                nn.ConvTranspose2d(before, width, 4, stride, padding, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            before = width
        layers += [nn.ConvTranspose2d(before, config.channels, 4, 2, 1, bias=False), nn.Tanh()]
        self.main = nn.Sequential(*layers)
        init_normal(self)

    def forward(self, z: Tensor) -> Tensor:
        """Generate images from latents (N, latent)."""
        return self.main(z[:, :, None, None])  # type: ignore[no-any-return]


class Discriminator(nn.Module):
    """(N, channels, size, size) -> logits (N,). The original's sigmoid belongs to the loss here."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths = config.widths[::-1]
        layers: list[nn.Module] = [
            nn.Conv2d(config.channels, widths[0], 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        for before, width in itertools.pairwise(widths):
            layers += [
                nn.Conv2d(before, width, 4, 2, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        layers.append(nn.Conv2d(widths[-1], 1, 4, 1, 0, bias=False))
        self.main = nn.Sequential(*layers)
        init_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        """Score images (N, channels, size, size): logits (N,)."""
        return flatten_logits(self.main(x))


def build_spec(config: Config) -> Spec:
    """A normal latent in, an image in [-1, 1] out."""
    return Spec(
        family="dcgan",
        inputs=(Latent("z", (config.latent,), truncation="resampled"),),
        output=Output(config.channels, (-1.0, 1.0), (config.size, config.size)),
    )


def guess_config(shapes: Shapes) -> Config | None:
    """Infer everything from the shapes of the transposed convolutions main.0, main.3, ..."""
    keys = (re.fullmatch(r"main\.(0|[1-9][0-9]?)\.weight", key) for key in shapes if len(shapes[key]) == 4)
    numbers = sorted(int(key[1]) for key in keys if key)
    if len(numbers) < 3 or numbers != list(range(0, 3 * len(numbers), 3)):
        return None
    return _infer_config([shapes[f"main.{number}.weight"] for number in numbers])


def _infer_config(layers: list[tuple[int, ...]]) -> Config | None:
    """From the shapes (in, out, 4, 4) of all transposed convolutions, the latent's first."""
    width, channels = layers[-1][:2]
    try:
        return Config(2 ** (len(layers) + 1), channels, layers[0][0], width)
    except RequestError:
        return None


_COLONS = re.compile(r"main\.(initial|pyramid|final):(\d+)-(\d+):convt\.weight", re.ASCII)


def _guess_colons(shapes: Shapes) -> Config | None:
    """WassersteinGAN puts the widths into its keys: main.pyramid:128-64:convt.weight. They shrink towards the image."""
    keys = (_COLONS.fullmatch(key) for key in shapes if len(shapes[key]) == 4)
    found = {key[1]: shapes[key[0]] for key in keys if key}
    count = sum(_COLONS.fullmatch(key) is not None for key in shapes)
    if count < 3 or not {"initial", "final"} <= found.keys():
        return None
    return _infer_config([found["initial"], *[found["final"]] * (count - 1)])


def _convert_colons(state: State, config: Config) -> State:
    names = {f"final:{config.width}-{config.channels}:convt": f"main.{3 * len(config.widths)}"}
    before = config.latent
    for k, width in enumerate(config.widths):
        stage = "pyramid" if k else "initial"
        names[f"{stage}:{before}-{width}:convt"] = f"main.{3 * k}"
        names[f"{stage}:{width}:batchnorm"] = f"main.{3 * k + 1}"
        before = width
    return _rename_modules(state, {f"main.{old}": new for old, new in names.items()})


_NUMBERED = re.compile(r"main\.convTranspose([1-9])\.weight", re.ASCII)


def _guess_numbered(shapes: Shapes) -> Config | None:
    """pytorch_GAN_zoo: formatLayer, main.convTranspose1, ..., main.outlayer."""
    layers = sorted(key for key in shapes if _NUMBERED.fullmatch(key))
    chain = [shapes.get(key, ()) for key in ("formatLayer.weight", *layers, "main.outlayer.weight")]
    return _infer_config(chain) if len(chain) >= 3 and all(len(shape) == 4 for shape in chain) else None


def _convert_numbered(state: State, config: Config) -> State:
    last = len(config.widths)
    names = {"formatLayer": "main.0", "main.outlayer": f"main.{3 * last}"}
    names |= {f"main.convTranspose{k}": f"main.{3 * k}" for k in range(1, last)}
    names |= {f"main.batchNorm{k}": f"main.{3 * k + 1}" for k in range(last)}
    return _rename_modules(state, names)


def _rename_modules(state: State, names: dict[str, str]) -> State:
    """Rename modules in the keys of a state. Other keys are kept, so that they are reported as unexpected."""
    parts = {key: key.rpartition(".") for key in state}
    return {f"{names.get(module, module)}.{leaf}": state[key] for key, (module, _, leaf) in parts.items()}


FAMILY = Family(
    "dcgan",
    Config,
    Generator,
    build_spec,
    (
        Layout("pytorch/examples", guess_config),
        Layout("WassersteinGAN", _guess_colons, _convert_colons),
        Layout("pytorch_GAN_zoo", _guess_numbered, _convert_numbered),
    ),
    Discriminator,
)
