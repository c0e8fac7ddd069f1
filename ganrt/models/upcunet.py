"""Cascaded U-Nets: Real-CUGAN 2x, 3x and 4x (bilibili/ailab, upcunet_v3), and waifu2x's UpCUNet and CUNet
(nagadomi/nunif), which are the same network with another border. Keys are those of both projects, which do not differ
either: only the header of nunif's files, or `--config waifu2x=true`, tells them apart.

No convolution pads, so a picture needs a border of `Config.border` pixels, and the module makes it: Real-CUGAN's by
reflection, as its own forward does, waifu2x's by repeating the outermost pixels, as its callers do (nunif,
simple_render). With it, the output is `scale` times the input, which is what a Spec can say.

The squeeze-and-excitation blocks average over all that the network is given, border included. Hence a picture is
computed in one piece (`Output.reach` is None), and a network that is given a picture without a border makes other
pixels, not a crop of these. waifu2x's callers cut pictures into tiles of one size with such averages each;
`Config.tile` exports the network for them: a fixed input that has its border already, and as output the inside of it,
enlarged.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ganrt.errors import RequestError
from ganrt.models import upscaling
from ganrt.models.family import Family, Layout, Shapes, State, check_channels
from ganrt.models.unpickle import HEADER
from ganrt.spec import Image, Output, Spec

_BORDERS = {1: 28, 2: 18, 3: 14, 4: 19}
"""Scale -> pixels that a picture needs on each side."""
_MULTIPLES = {1: 4, 2: 2, 3: 4, 4: 2}
"""Scale -> what height and width are filled up to a multiple of, and cut back from."""
_RANGE = (0.0, 1.0)
_SLOPE = 0.1
"""Of the leaky ReLU."""


@dataclass(frozen=True)
class Config:
    """Settings of `upcunet`. The defaults are Real-CUGAN 2x."""

    scale: int = 2
    """Factor of height and width: 2, 3 or 4; for waifu2x 1 or 2."""
    channels: int = 3
    """1 (grey) or 3 (RGB)."""
    pro: bool = False
    """Whether the weights are Real-CUGAN's "pro" ones, which work on 0.7 times the picture plus 0.15."""
    waifu2x: bool = False
    """Whether the weights are waifu2x's: the border repeats the outermost pixels, and the output is clamped."""
    clip: bool = False
    """waifu2x: whether the first U-Net's output is clamped as well, as without nunif's argument `no_clip`."""
    excite: bool = True
    """Whether there are squeeze-and-excitation blocks. Real-CUGAN's "nose" weights have none."""
    tile: tuple[int, ...] = ()
    """Height and width of pictures that come with their border, all of one size; () for pictures of any size that have
    none."""

    def __post_init__(self) -> None:
        check_channels(self.channels)
        name = "waifu2x's upcunet" if self.waifu2x else "Real-CUGAN's upcunet"
        upscaling.check_scale(name, self.scale, (1, 2) if self.waifu2x else (2, 3, 4))
        if self.waifu2x and self.pro:
            raise RequestError("pro is true and so is waifu2x; only Real-CUGAN has pro weights")
        if self.clip and not self.waifu2x:
            raise RequestError("clip is true and waifu2x is not; only waifu2x clamps between its U-Nets")
        inner = [side - 2 * self.border for side in self.tile]
        if self.tile and (len(inner) != 2 or any(side < 1 or side % self.multiple_of for side in inner)):
            raise RequestError(
                f"tile is {','.join(map(str, self.tile))}; it must be a height and a width, each {2 * self.border} "
                f"plus a multiple of {self.multiple_of}"
            )

    @property
    def border(self) -> int:
        """Pixels that a picture needs on each side."""
        return _BORDERS[self.scale]

    @property
    def multiple_of(self) -> int:
        """What height and width without the border must be multiples of; the module fills them up."""
        return _MULTIPLES[self.scale]


class Excitation(nn.Module):
    """Squeeze and excitation: scale channels by what their averages over the whole picture say."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width // 8, 1)
        self.conv2 = nn.Conv2d(width // 8, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scale features (N, width, H, W)."""
        means = x.mean((2, 3), keepdim=True)
        return x * self.conv2(self.conv1(means).relu()).sigmoid()  # type: ignore[no-any-return]


class Convs(nn.Module):
    """Two 3x3 convolutions without padding, and squeeze and excitation if `excite`."""

    def __init__(self, before: int, middle: int, after: int, excite: bool) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(before, middle, 3), nn.LeakyReLU(_SLOPE), nn.Conv2d(middle, after, 3), nn.LeakyReLU(_SLOPE)
        )
        self.seblock = Excitation(after) if excite else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, H, W) -> (N, after, H - 4, W - 4)."""
        x = self.conv(x)
        return x if self.seblock is None else self.seblock(x)


class ShallowUNet(nn.Module):
    """U-Net of one level. (N, before, H, W) -> (N, after, scale (H - 14) - 2, ...), and 2 less for scale 2; H and W are
    even."""

    def __init__(self, before: int, after: int, scale: int, excite: bool) -> None:
        super().__init__()
        self.conv1 = Convs(before, 32, 64, excite=False)
        self.conv1_down = nn.Conv2d(64, 64, 2, 2)
        self.conv2 = Convs(64, 128, 64, excite)
        self.conv2_up = nn.ConvTranspose2d(64, 64, 2, 2)
        self.conv3 = nn.Conv2d(64, 64, 3)
        if scale == 1:
            self.conv_bottom: nn.Module = nn.Conv2d(64, after, 3)
        else:
            side, padding = {2: (4, 3), 3: (5, 2)}[scale]
            self.conv_bottom = nn.ConvTranspose2d(64, after, side, scale, padding)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the U-Net."""
        fine = self.conv1(x)
        coarse = self.conv2(_activate(self.conv1_down(fine)))
        fine = _crop(fine, 4) + _activate(self.conv2_up(coarse))
        return self.conv_bottom(_activate(self.conv3(fine)))  # type: ignore[no-any-return]


class DeepUNet(nn.Module):
    """U-Net of two levels. (N, before, H, W) -> (N, after, H - 40, W - 40); H and W are multiples of 4."""

    def __init__(self, before: int, after: int, excite: bool) -> None:
        super().__init__()
        self.conv1 = Convs(before, 32, 64, excite=False)
        self.conv1_down = nn.Conv2d(64, 64, 2, 2)
        self.conv2 = Convs(64, 64, 128, excite)
        self.conv2_down = nn.Conv2d(128, 128, 2, 2)
        self.conv3 = Convs(128, 256, 128, excite)
        self.conv3_up = nn.ConvTranspose2d(128, 128, 2, 2)
        self.conv4 = Convs(128, 64, 64, excite)
        self.conv4_up = nn.ConvTranspose2d(64, 64, 2, 2)
        self.conv5 = nn.Conv2d(64, 64, 3)
        self.conv_bottom = nn.Conv2d(64, after, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the U-Net."""
        fine = self.conv1(x)
        middle = self.conv2(_activate(self.conv1_down(fine)))
        coarse = self.conv3(_activate(self.conv2_down(middle)))
        middle = self.conv4(_crop(middle, 4) + _activate(self.conv3_up(coarse)))
        fine = _crop(fine, 16) + _activate(self.conv4_up(middle))
        return self.conv_bottom(_activate(self.conv5(fine)))  # type: ignore[no-any-return]


class Generator(nn.Module):
    """(N, channels, H, W) in [0, 1] -> (N, channels, scale H, scale W) in about [0, 1]; with a tile, (N, channels,
    *tile) -> scale times what is inside of the border."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        fourfold = config.scale == 4
        between = 64 if fourfold else config.channels
        self.unet1 = ShallowUNet(config.channels, between, 2 if fourfold else config.scale, config.excite)
        self.unet2 = DeepUNet(between, between, config.excite)
        if fourfold:
            self.conv_final = nn.Conv2d(64, 4 * config.channels, 3)
            self.ps = nn.PixelShuffle(2)
        upscaling.init_kaiming(self)

    def forward(self, low_res: Tensor) -> Tensor:
        """Upsample images (N, channels, H, W)."""
        if self.config.pro:
            return (self._upsample(low_res * 0.7 + 0.15) - 0.15) / 0.7
        made = self._upsample(low_res)
        return made.clamp(0.0, 1.0) if self.config.waifu2x else made

    def _upsample(self, x: Tensor) -> Tensor:
        scale, border = self.config.scale, self.config.border
        if self.config.tile:
            made, inside = self.apply_network(x), _crop(x, border)
        else:
            height, width = x.shape[2:]
            made, inside = self.apply_network(self._add_border(x))[:, :, : scale * height, : scale * width], x
        return made + functional.interpolate(inside, scale_factor=4, mode="nearest") if scale == 4 else made

    def _add_border(self, x: Tensor) -> Tensor:
        """Add the border, and rows and columns up to the next multiple, by picking pixels: `functional.pad` takes no
        amount that depends on the size of the picture in a traced graph, and fails for pictures smaller than that."""
        for axis in (2, 3):
            side, multiple = x.shape[axis], self.config.multiple_of
            end = (side + multiple - 1) // multiple * multiple + self.config.border
            picked = torch.arange(-self.config.border, end, device=x.device)
            if not self.config.waifu2x:
                picked = (side - 1) - ((side - 1) - picked.abs()).abs()
            x = x.index_select(axis, picked.clamp(0, side - 1))
        return x

    def apply_network(self, x: Tensor) -> Tensor:
        """The network on pictures (N, channels, H, W) with their border: what projects call the network. For scale 4 it
        makes the difference to the picture enlarged by repetition."""
        coarse = self.unet1(x)
        if self.config.clip:
            coarse = coarse.clamp(0.0, 1.0)
        made: Tensor = _crop(coarse, 20) + self.unet2(coarse)
        return self.ps(_crop(self.conv_final(made), 1)) if self.config.scale == 4 else made


def _activate(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, _SLOPE)


def _crop(x: Tensor, border: int) -> Tensor:
    """Cut off `border` pixels on each side."""
    return x[:, :, border:-border, border:-border]


def build_spec(config: Config) -> Spec:
    """A low-resolution image in, an upsampled one out, both in [0, 1]."""
    if not config.tile:
        picture = Image("low_res", "low_res", config.channels, _RANGE)
        return Spec("upcunet", (picture,), Output(config.channels, _RANGE, None, config.scale))
    height, width = config.tile
    inside = config.scale * (height - 2 * config.border), config.scale * (width - 2 * config.border)
    picture = Image("low_res", "low_res", config.channels, _RANGE, (height, width))
    return Spec("upcunet", (picture,), Output(config.channels, _RANGE, inside))


def guess_config(shapes: Shapes) -> Config | None:
    """Infer scale, channels, pro and excite: the last layer of the first U-Net is 4x4 for 2x and, with a layer behind
    the second U-Net, for 4x, and 5x5 for 3x; pro weights have a key `pro`. waifu2x's 2x looks the same; 3x3 without
    upsampling is waifu2x's alone."""
    return _infer_config(shapes, waifu2x=False)


def guess_nunif(shapes: Shapes) -> Config | None:
    """The same for waifu2x, whose files name the class of their network."""
    classes = {1: "waifu2x.cunet", 2: "waifu2x.upcunet"}
    found = _infer_config(shapes, waifu2x=True, clip=f"{HEADER}kwargs.no_clip" not in shapes)
    return found if found and HEADER + classes[found.scale] in shapes else None


def _infer_config(shapes: Shapes, waifu2x: bool, clip: bool = False) -> Config | None:
    first, bottom = shapes.get("unet1.conv1.conv.0.weight", ()), shapes.get("unet1.conv_bottom.weight", ())
    scale = {3: 1, 4: 4 if "conv_final.weight" in shapes else 2, 5: 3}.get(bottom[3] if len(bottom) == 4 else 0)
    if len(first) != 4 or scale is None:
        return None
    try:
        excite = "unet1.conv2.seblock.conv1.weight" in shapes
        return Config(scale, first[1], "pro" in shapes, waifu2x or scale == 1, clip, excite)
    except RequestError:
        return None


def drop_pro(state: State, config: Config) -> State:
    """Drop the mark of the pro weights, which is no weight."""
    return {key: value for key, value in state.items() if key != "pro"}


def drop_header(state: State, config: Config) -> State:
    """Drop what the header of nunif's files says."""
    return {key: value for key, value in state.items() if not key.startswith(HEADER)}


FAMILY = Family(
    "upcunet",
    Config,
    Generator,
    build_spec,
    (Layout("Real-CUGAN", guess_config, drop_pro), Layout("waifu2x of nunif", guess_nunif, drop_header)),
)
