"""`Spec`: what goes into a generator and what comes out. Frozen, plain values, to and from JSON.

A class-conditional GAN:

    Spec(
        family="my_gan",
        inputs=(
            Latent("z", (128,), truncation="resampled"),
            Label("label", classes=10),
        ),
        output=Output(channels=3, range=(-1.0, 1.0), size=(64, 64)),
    )

A network that upscales pictures of any size four times:

    Spec(
        family="my_upscaler",
        inputs=(Image("low_res", role="low_res", channels=3, range=(0.0, 1.0)),),
        output=Output(channels=3, range=(0.0, 1.0), size=None, scale=4, reach=20),
    )

`inputs` are in the order of the arguments of the module's `forward`. Every part checks itself when it is made, and
raises RequestError naming the field.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias, TypeVar, cast

from ganrt.checks import is_finite, is_whole
from ganrt.errors import BundleError, RequestError
from ganrt.json_reader import decode
from ganrt.normalization import check_normalization, format_normalization

Range: TypeAlias = tuple[float, float]
"""Smallest and largest value, both included."""

MAX_VALUES = 2**28
"""A Spec that asks for more values than this for one image is damaged or hostile."""
MAX_MAGNITUDE = 1e30
"""Bounds of a range stay below this, so that their difference is a float32."""


@dataclass(frozen=True)
class Latent:
    """Random numbers, drawn from the seed of a sample: float32 of shape (N, *shape)."""

    name: str
    """Name of the input in the graph and in `generator(z=...)`: a short identifier."""
    shape: tuple[int, ...]
    """Shape of the numbers for one image, such as `(128,)`, or `(1, 16, 16)` for a noise map."""
    distribution: Literal["normal", "uniform"] = "normal"
    """What the generator was trained on: `normal` is the standard normal distribution, `uniform` is uniform on
    `range`."""
    truncation: Literal["resampled", "scaled", "none"] = "none"
    """What `sample(truncation=t)` does to this latent; for normal latents only.

    - `none`: nothing; a truncation is rejected. For models that were not made for it.
    - `resampled`: values outside [-t, t] are drawn again (BigGAN's truncation trick, Brock et al. 2019, section 3.1).
      Suits most GANs with a normal latent. Without a truncation the values are not limited.
    - `scaled`: values are drawn within [-2, 2] and multiplied by t, or by `default` without a truncation. For
      generators that were published with that convention (BigGAN-deep).

    A generator that truncates inside the network (StyleGAN's psi) takes it as a `Scalar` named `truncation` instead.
    """
    range: Range = (-1.0, 1.0)
    """Bounds of a uniform latent; a normal latent ignores them."""
    default: float = 1.0
    """Truncation of a `scaled` latent when the caller gives none, above 0; other latents ignore it."""

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_counts(self.name, "shape", self.shape)
        if not is_finite(self.default) or not self.default > 0:
            raise RequestError(f"{self.name}: default is {self.default!r}; it must be a number above 0")
        _check_choice(self.name, "distribution", self.distribution, ("normal", "uniform"))
        _check_choice(self.name, "truncation", self.truncation, ("resampled", "scaled", "none"))
        _check_range(self.name, self.range)
        if self.truncation != "none" and self.distribution != "normal":
            raise RequestError(f"{self.name}: only a normal latent can be truncated")

    def __str__(self) -> str:
        return f"{' x '.join(map(str, self.shape))} {self.distribution} random numbers, truncation: {self.truncation}"


@dataclass(frozen=True)
class Label:
    """A class for each image, given by `labels=` or drawn from the seed."""

    name: str
    """Name of the input: a short identifier."""
    classes: int
    """Number of classes; labels are 0 to `classes` - 1."""
    encoding: Literal["index", "one_hot"] = "index"
    """What `forward` takes: `index` is int64 of shape (N,), as `nn.Embedding` does; `one_hot` is float32 of shape
    (N, classes)."""

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_counts(self.name, "classes", (self.classes,))
        _check_choice(self.name, "encoding", self.encoding, ("index", "one_hot"))

    def __str__(self) -> str:
        return f"one of {self.classes} classes"


@dataclass(frozen=True)
class Image:
    """A picture for each image: float32 of shape (N, channels, H, W) with values in `range`."""

    name: str
    """Name of the input, as in `generator.transform(photo, style=painting)`: a short identifier."""
    role: str
    """What the picture means to the model, shown to users: `content`, `style`, `low_res`, `edges`, `colour`, `texture`,
    `mask` or another identifier. One role changes what happens: for `luma`, RGB pictures are split into YCbCr, the
    model gets Y, and the colour is resized and put back (super-resolution of luminance alone)."""
    channels: int
    """1 (grey), 3 (RGB) or 4 (RGB and opacity) for pictures; other numbers for inputs that only arrays can fill."""
    range: Range
    """Values that the uint8 levels 0 and 255 become, such as `(0.0, 1.0)` or `(-1.0, 1.0)`: what the network was
    trained on. With `mean` or `std`, the values before they are normalized."""
    size: tuple[int, int] | None = None
    """Height and width in pixels if the network takes one size only; None if it takes any."""
    multiple_of: int = 1
    """For a free size: height and width must be multiples of this, such as 4 for a network that halves them twice.
    `transform` pads pictures by repeating their last row and column, and cuts the result back."""
    like: str | None = None
    """Name of an earlier image input that must have the same height and width, such as the picture of a mask."""
    mean: tuple[float, ...] | None = None
    """One number per channel, in the order of the network, within `range`: the network takes (value - mean) / std.
    None for no mean. The values stay as they are where `mean` and `std` are both None."""
    std: tuple[float, ...] | None = None
    """One number above 0 per channel; None for 1."""
    order: Literal["rgb", "bgr"] = "rgb"
    """Order of the colours that the network takes, of 3 or 4 channels. Opacity is last in both."""

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_name(self.role)
        _check_counts(self.name, "channels", (self.channels,))
        _check_range(self.name, self.range)
        check_normalization(self.name, self.channels, self.range, self.mean, self.std, self.order)
        _check_size(self.name, self.size)
        _check_counts(self.name, "multiple_of", (self.multiple_of,))

    def __str__(self) -> str:
        low, high = self.range
        values = f"values {low:g} to {high:g}{format_normalization(self.mean, self.std, self.order)}"
        return f"picture ({self.role}), {self.channels} channels, {values}"


@dataclass(frozen=True)
class Scalar:
    """A number for each image, such as a style strength: float32 of shape (N,).

    A scalar named `truncation` gets the value of `sample(truncation=...)`: for generators that truncate inside the
    network, such as StyleGAN.
    """

    name: str
    """Name of the input: a short identifier."""
    range: Range
    """Smallest and largest value allowed."""
    default: float
    """Value when the caller gives none; within `range`."""

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_range(self.name, self.range)
        low, high = self.range
        if not is_finite(self.default) or not low <= self.default <= high:
            raise RequestError(f"{self.name}: the default {self.default!r} is outside {low} to {high}")

    def __str__(self) -> str:
        return f"number from {self.range[0]:g} to {self.range[1]:g}, usually {self.default:g}"


Input: TypeAlias = Latent | Label | Image | Scalar
InputT = TypeVar("InputT", Latent, Label, Image, Scalar)


@dataclass(frozen=True)
class Output:
    """The generated image: float32 of shape (N, channels, H, W)."""

    channels: int
    """1 (grey), 3 (RGB) or 4 (RGB and opacity, where colours are not multiplied by it, as in PNG files)."""
    range: Range
    """Values that become the uint8 levels 0 and 255: `(-1.0, 1.0)` behind a tanh, `(0.0, 1.0)` behind a sigmoid.
    Values outside it are clamped when an image becomes a picture. With `mean` or `std`, the values after the
    normalization was undone."""
    size: tuple[int, int] | None
    """Height and width in pixels; None if they are those of the first image input, times `scale`."""
    scale: int = 1
    """For `size=None`: output pixels per input pixel along each side, such as 4 for fourfold super-resolution, 1 for
    style transfer. Ignored with a fixed size."""
    name: str = "image"
    """Name of the output in the graph: a short identifier that no input has."""
    reach: int | None = None
    """Receptive-field radius in input pixels: how far away an input pixel can be and still change an output pixel. With
    it, `transform` computes large pictures in tiles that overlap by as much. None if any pixel can change any other
    (instance norm, attention, global pooling): such pictures are computed in one piece."""
    mean: tuple[float, ...] | None = None
    """One number per channel, in the order of the network, within `range`: what it makes times `std` plus `mean` is in
    `range`. None for no mean. The values stay as they are where `mean` and `std` are both None."""
    std: tuple[float, ...] | None = None
    """One number above 0 per channel; None for 1."""
    order: Literal["rgb", "bgr"] = "rgb"
    """Order of the colours that the network makes, of 3 or 4 channels. Pictures are RGB in any case."""

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.channels not in (1, 3, 4):
            raise RequestError(
                f"{self.name}: {self.channels!r} channels; an image has 1 (grey), 3 (RGB) or 4 (RGB and opacity)"
            )
        _check_range(self.name, self.range)
        check_normalization(self.name, self.channels, self.range, self.mean, self.std, self.order)
        _check_size(self.name, self.size)
        _check_counts(self.name, "scale", (self.scale,))
        if self.reach is not None:
            _check_counts(self.name, "reach", (self.reach,))

    @property
    def colour(self) -> Literal["grey", "rgb", "rgba"]:
        """`grey` for one channel, `rgb` for three, `rgba` for four."""
        return "grey" if self.channels == 1 else "rgb" if self.channels == 3 else "rgba"

    def __str__(self) -> str:
        if self.size is None:
            times = f" times {self.scale}" if self.scale > 1 else ""
            return f"{self.colour} images as large as the input{times}"
        return f"{self.colour} images of {self.size[1]} x {self.size[0]} pixels"

    @property
    def values(self) -> str:
        """What the network makes them of, in words."""
        low, high = self.range
        return f"values {low:g} to {high:g}{format_normalization(self.mean, self.std, self.order)}"


@dataclass(frozen=True)
class Spec:
    """What a generator takes and makes. Raises RequestError when its parts contradict each other."""

    family: str
    """Name of the architecture, shown to users: a short identifier."""
    inputs: tuple[Input, ...]
    """In the order of the arguments of the module's `forward`; at least one."""
    output: Output
    """The image that `forward` returns."""
    single: bool = False
    """True for a network that takes one image at a time, because its batch size is fixed at 1: more are computed one
    after another."""

    def __post_init__(self) -> None:
        _check_name(self.family)
        if not isinstance(self.single, bool):
            raise RequestError(f"single is {self.single!r}; it must be true or false")
        names = [i.name for i in self.inputs] + [self.output.name]
        if self.output.name in names[:-1]:
            default = " (the default of an output)" if self.output.name == "image" else ""
            raise RequestError(
                f"an input and the output are both named {self.output.name!r}{default}; rename one, as in "
                'Output(..., name="result")'
            )
        if len(names) < 2 or len(set(names)) != len(names):
            raise RequestError(
                f"{names} cannot name the inputs and the output: they must all differ, one input at least"
            )
        if self.output.size is None and self.find(Image) is None:
            raise RequestError("the output size may be left open only when there is an image input to follow")
        earlier: list[str] = []
        for item in self.inputs:
            if isinstance(item, Image):
                if item.like is not None and item.like not in earlier:
                    raise RequestError(f"{item.name}: like is {item.like!r}, which is no earlier image input")
                earlier.append(item.name)

    def find(self, kind: type[InputT]) -> InputT | None:
        """The first input of a kind, or None."""
        return next((i for i in self.inputs if isinstance(i, kind)), None)

    @property
    def images(self) -> tuple[Image, ...]:
        """The image inputs, in order; a model without any can be sampled from a seed alone."""
        return tuple(i for i in self.inputs if isinstance(i, Image))

    @cached_property
    def streams(self) -> dict[str, int]:
        """Random stream of each input that can be drawn, by name: 0 the first latent, 1 the first label, 2 and up the
        further ones in order. Images and scalars have none, so they shift nothing."""
        first: list[Input | None] = [self.find(Latent), self.find(Label)]
        named = {item.name: stream for stream, item in enumerate(first) if item is not None}
        drawn = (item.name for item in self.inputs if isinstance(item, Latent | Label))
        return named | {name: 2 + k for k, name in enumerate(name for name in drawn if name not in named)}

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, strings and numbers, ready for JSON; `from_dict` gives the same Spec back."""
        plain = asdict(self)
        if not self.single:
            del plain["single"]  # as it was before there were such networks
        for item, raw in zip(self.inputs, plain["inputs"], strict=True):
            raw["kind"] = type(item).__name__.lower()
        for raw in (*plain["inputs"], plain["output"]):  # as it was before networks had these
            for field, usual in _LATER_FIELDS.items():
                if raw.get(field, usual) == usual:
                    raw.pop(field, None)
        return cast(dict[str, Any], json.loads(json.dumps(plain)))

    @classmethod
    def from_dict(cls, raw: object) -> Spec:
        """Read a Spec from parsed JSON that may come from anybody.

        Raises BundleError, naming the field, when something is missing, unknown or out of bounds.
        """
        keys = set(raw) - {"single"} if isinstance(raw, dict) else set()
        if not isinstance(raw, dict) or keys != {"family", "inputs", "output"} or type(raw["inputs"]) is not list:
            found = f"has the keys {sorted(raw)}" if isinstance(raw, dict) else f"is {raw!r:.100}"
            raise BundleError(f"spec {found}; it needs family, a list of inputs, and output")
        inputs = tuple(_decode_input(item, f"spec.inputs[{k}]") for k, item in enumerate(raw["inputs"]))
        output = decode(Output, raw["output"], "spec.output", BundleError)
        try:
            return cls(raw["family"], inputs, output, raw.get("single", False))
        except RequestError as error:
            raise BundleError(f"spec is not valid: {error}") from error


_LATER_FIELDS = {"mean": None, "std": None, "order": "rgb"}
"""Fields that a manifest holds only where they are not these, so that an older ganrt reads all others."""
_KINDS: dict[object, type[Any]] = {"latent": Latent, "label": Label, "image": Image, "scalar": Scalar}


def _decode_input(raw: object, where: str) -> Input:
    kind = raw.get("kind") if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or not isinstance(kind, str) or kind not in _KINDS:
        found = f"{where}.kind is {kind!r}" if isinstance(raw, dict) else f"{where} is {raw!r:.100}"
        raise BundleError(f"{found}; an input has a kind, one of {', '.join(map(str, _KINDS))}")
    values = {name: value for name, value in raw.items() if name != "kind"}
    return cast(Input, decode(_KINDS[kind], values, where, BundleError))


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name.isidentifier() or len(name) > 64:
        raise RequestError(f"{str(name)[:64]!r} cannot be a name here: it must be a short identifier")


def _check_size(name: str, size: object) -> None:
    if size is not None:
        _check_counts(name, "size", size)
        if len(cast(tuple[int, ...], size)) != 2:
            raise RequestError(f"{name}: size is {size!r}; it must be (height, width) or None")


def _check_range(name: str, value: object) -> None:
    if not isinstance(value, tuple) or len(value) != 2 or not all(map(_is_bound, value)) or not value[0] < value[1]:
        raise RequestError(f"{name}: range is {value!r}; it must be (low, high) with low < high")


def _check_counts(name: str, field: str, values: object) -> None:
    if not isinstance(values, tuple) or not values or not all(is_whole(value) and value >= 1 for value in values):
        instead = "; for another one, give the images and the output a size" if field == "scale" else ""
        raise RequestError(f"{name}: {field} is {values!r}; it takes whole numbers from 1{instead}")
    if math.prod(values) > MAX_VALUES:
        raise RequestError(f"{name}: {field} {values!r} is more than {MAX_VALUES} values")


def _check_choice(name: str, field: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise RequestError(f"{name}: {field} is {value!r}; it must be one of {', '.join(choices)}")


def _is_bound(value: object) -> bool:
    return is_finite(value) and abs(value) < MAX_MAGNITUDE
