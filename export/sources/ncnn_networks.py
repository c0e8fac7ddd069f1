"""The families in ncnn's files: which one a network is, and its weights under the family's keys.

Layers with weights follow each other in one chain in all of these families, so their order names them. Whether the
layers between them are those of the family, too, is computed: with the same random weights, the network and the
family's module must make the same values. Another slope, border, order or factor makes others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ganrt.errors import CheckpointError
from ganrt.models import AnyFamily, SkipRandomWeights, State
from ganrt.ncnn_format import Layer, Weights

from .checkpoints import recognize
from .ncnn_file import Pair, parse_layers
from .ncnn_layers import OTHERWISE, WEIGHTED, convert_weights, load_weights, run_layers, run_linear

_TOLERANCE = 1e-5
"""Of the largest value. The same sums are computed in the same order, so hardly anything else differs."""
_WAIFU2X_INPUT = "Input1"
"""Name by which waifu2x's programs give the picture to its networks."""


class NcnnModel(NamedTuple):
    """A network under the keys of its family, and what it was recognized as."""

    family: AnyFamily
    settings: dict[str, Any]
    state: State
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class _Rule:
    """How a family is found in a network."""

    name_layers: Callable[[Sequence[str]], list[str] | None]
    """Kinds of the layers with weights, in order -> their names in the family's module; None if they are not its."""
    find_settings: Callable[[Sequence[Layer], Any], dict[str, Any]] = lambda layers, config: {}
    """The settings that weights do not tell, from the layers and the config that the weights tell."""
    compute: Callable[[Any, Tensor], Tensor] = lambda module, image: module(image)
    """The part of the module that files for ncnn hold, without the border that programs add around it."""
    sizes: tuple[tuple[int, int], ...] = ((8, 12), (12, 8))
    """Height and width of the pictures on which both are compared."""


def read_ncnn(pair: Pair) -> NcnnModel:
    """Read a network of a family.

    Raises CheckpointError for damaged files, and for a network that is none of a family, or computes something else
    than the family that its weights fit.
    """
    layers, has_float16 = load_weights(pair, parse_layers(pair))
    weighted = [layer for layer in layers if layer.kind in WEIGHTED]
    for name, rule in _RULES.items():
        names = rule.name_layers([layer.kind for layer in weighted])
        if names is None:
            continue
        state = _make_state(names, weighted)
        try:
            found = recognize(state, pair.layers)
        except CheckpointError:
            continue
        if found.family.name != name:
            continue
        settings = {**found.family.settings(found.config), **rule.find_settings(layers, found.config)}
        _check_function(pair, rule, found.family, settings, layers, names)
        return NcnnModel(found.family, settings, state, tuple(_list_remarks(pair, name, settings, has_float16)))
    counts = ", ".join(f"{count} {kind}" for kind, count in Counter(layer.kind for layer in layers).most_common())
    raise CheckpointError(
        f"{pair.layers} is no network of a family that is read from ncnn's files ({', '.join(_RULES)}); its layers are "
        f"{counts}. {OTHERWISE}"
    )


def _make_state(names: Sequence[str], weighted: Sequence[Layer]) -> State:
    return {
        f"{name}.{leaf}": tensor.contiguous()
        for name, layer in zip(names, weighted, strict=True)
        for leaf, tensor in convert_weights(layer).items()
    }


def _list_remarks(pair: Pair, name: str, settings: dict[str, Any], has_float16: bool) -> list[str]:
    stored = "stored in float16, used as they are in float32" if has_float16 else "stored in float32"
    remarks = [f"{pair.layers.name} and {pair.weights.name} are {name} for ncnn; the weights are {stored}"]
    if name == "upcunet" and settings["scale"] == 2:
        known = "waifu2x's" if settings["waifu2x"] else "Real-CUGAN's"
        other = "waifu2x=false" if settings["waifu2x"] else "waifu2x=true"
        remarks.append(f"by the name of its input, the border of pictures is {known}; --config {other} says otherwise")
    return remarks


def _check_function(
    pair: Pair, rule: _Rule, family: AnyFamily, settings: dict[str, Any], layers: list[Layer], names: list[str]
) -> None:
    """Raise CheckpointError unless the network computes what the family's module does, both with the same random
    weights."""
    random = np.random.default_rng(0)
    shapes = [(1, settings.get("channels", 3), *size) for size in rule.sizes]
    images = [torch.from_numpy(random.uniform(0.0, 1.0, shape).astype(np.float32)) for shape in shapes]
    try:
        with torch.inference_mode():
            drawn = _draw_network(layers, images[0], random)
            made = [run_layers(drawn, image) for image in images]
    except ValueError as error:
        raise CheckpointError(
            f"{pair.layers} has the weights of {family.name}, but cannot be read as one: {error}. {OTHERWISE}"
        ) from error
    with SkipRandomWeights():
        module: nn.Module = family.generator(family.configure(settings))
    module.eval().load_state_dict(_make_state(names, [layer for layer in drawn if layer.kind in WEIGHTED]))
    with torch.inference_mode():
        wanted = [rule.compute(module, image) for image in images]
    problem = next(filter(None, map(_compare, images, made, wanted)), "")
    if problem:
        raise CheckpointError(f"{pair.layers} has the weights of {family.name}, but {problem}. {OTHERWISE}")


def _compare(image: Tensor, made: Tensor, wanted: Tensor) -> str:
    """What differs; empty if nothing does."""
    if made.shape != wanted.shape:
        return f"makes {tuple(made.shape[1:])} of {tuple(image.shape[1:])}, which is {tuple(wanted.shape[1:])} there"
    same = float((made - wanted).abs().max()) <= _TOLERANCE * float(wanted.abs().max())
    return "" if same else "makes other values: a slope, a factor or the order of layers differs"


def _draw_network(layers: Sequence[Layer], image: Tensor, random: np.random.Generator) -> list[Layer]:
    """The layers with random weights, scaled so that for `image` each layer makes values of about 1: a difference
    anywhere is then a difference at the end."""
    drawn: list[Layer] = []

    def draw(layer: Layer, *given: Tensor) -> Layer:
        drawn.append(_draw_weights(layer, given, random) if layer.kind in WEIGHTED else layer)
        return drawn[-1]

    run_layers(layers, image, draw)
    return drawn


def _draw_weights(layer: Layer, given: Sequence[Tensor], random: np.random.Generator) -> Layer:
    arrays = [random.normal(0.0, 0.3, weights.array.shape).astype(np.float32) for weights in layer.weights]
    found = replace(layer, weights=tuple(map(Weights, arrays)))
    if layer.kind == "PReLU":
        return found
    size = float(run_linear(found, *given).square().mean().sqrt()) or 1.0
    return replace(found, weights=tuple(Weights(array / np.float32(size)) for array in arrays))


def _name_srvgg(kinds: Sequence[str]) -> list[str] | None:
    convolutions = len(kinds) // 2
    suits = convolutions >= 1 and list(kinds) == ["Convolution", "PReLU"] * convolutions + ["Convolution"]
    return [f"body.{place}" for place in range(len(kinds))] if suits else None


def _find_outscale(layers: Sequence[Layer], config: Any) -> dict[str, Any]:
    """The scale after the bicubic interpolation at the end, if there is one."""
    last = layers[-1]
    factor = last.parameters.get(1) if last.kind == "Interp" and last.parameters.get(0) == 3 else None
    wanted = round(config.scale * factor) if isinstance(factor, float) else 0
    return {"outscale": wanted if 0 < wanted < config.scale else 0}


def _name_rrdb(kinds: Sequence[str]) -> list[str] | None:
    blocks, rest = divmod(len(kinds) - 6, 15)
    if rest or blocks < 1 or set(kinds) != {"Convolution"}:
        return None
    dense = [f"body.{b}.rdb{r}.conv{c}" for b in range(blocks) for r in (1, 2, 3) for c in (1, 2, 3, 4, 5)]
    return ["conv_first", *dense, "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"]


def _name_upconv7(kinds: Sequence[str]) -> list[str] | None:
    suits = len(kinds) == 7 and set(kinds[:6]) == {"Convolution"} and kinds[6] in ("Convolution", "Deconvolution")
    return [f"net.{2 * place}" for place in range(7)] if suits else None


def _name_upcunet(kinds: Sequence[str]) -> list[str] | None:
    """By the number of layers: with or without squeeze and excitation, with or without the last one of 4x."""
    for excited in (True, False):
        names = [*_name_unet("unet1", (2,), excited), *_name_unet("unet2", (2, 3, 4), excited)]
        for found in (names, [*names, "conv_final"]):
            if len(found) == len(kinds):
                return found
    return None


def _name_unet(unet: str, excited_blocks: tuple[int, ...], excited: bool) -> list[str]:
    """Layers of a U-Net in order of execution."""
    deep = len(excited_blocks) > 1

    def name_block(number: int) -> list[str]:
        block = f"{unet}.conv{number}"
        convs = [f"{block}.conv.0", f"{block}.conv.2"]
        has_scales = excited and number in excited_blocks
        return convs + ([f"{block}.seblock.conv1", f"{block}.seblock.conv2"] if has_scales else [])

    down = [*name_block(1), f"{unet}.conv1_down", *name_block(2)]
    if not deep:
        return [*down, *(f"{unet}.{name}" for name in ("conv2_up", "conv3", "conv_bottom"))]
    middle = [f"{unet}.conv2_down", *name_block(3), f"{unet}.conv3_up", *name_block(4), f"{unet}.conv4_up"]
    return [*down, *middle, f"{unet}.conv5", f"{unet}.conv_bottom"]


def _find_border(layers: Sequence[Layer], config: Any) -> dict[str, Any]:
    """Whose border a network of scale 2 gets: both projects' are the same network, run under other names."""
    named = any(layer.kind == "Input" and layer.outputs == (_WAIFU2X_INPUT,) for layer in layers)
    return {"waifu2x": config.waifu2x or (config.scale == 2 and named)}


def _name_span(kinds: Sequence[str]) -> list[str] | None:
    blocks = [f"block_{block}.c{place}_r" for block in range(1, 7) for place in (1, 2, 3)]
    names = ["conv_1", *blocks, "conv_2", "conv_cat", "upsampler.0"]
    return names if list(kinds) == ["Convolution"] * len(names) else None


def _find_normalization(layers: Sequence[Layer], config: Any) -> dict[str, Any]:
    """The mean that is subtracted and the factor after it, where a network has them: before its first convolution."""
    first = next(place for place, layer in enumerate(layers) if layer.kind == "Convolution")
    held = [layer.weights[0].array for layer in layers[:first] if layer.kind == "MemoryData"]
    scalars = [layer for layer in layers[:first] if layer.kind == "BinaryOp" and layer.parameters.get(1) == 1]
    factors = [layer.parameters.get(2, 1.0) for layer in scalars]
    mean = tuple(float(str(value)) for value in held[0].ravel()) if held else (0.0, 0.0, 0.0)
    return {"mean": mean, "img_range": factors[0] if factors else 1.0}


_RULES = {
    "srvgg": _Rule(_name_srvgg, _find_outscale),
    "rrdb": _Rule(_name_rrdb),
    "upcunet": _Rule(
        _name_upcunet, _find_border, lambda module, image: module.apply_network(image), ((64, 76), (68, 60))
    ),
    "upconv7": _Rule(_name_upconv7, compute=lambda module, image: module.net(image), sizes=((19, 24), (22, 17))),
    "span": _Rule(_name_span, _find_normalization),
}
"""Name of a family -> how it is found."""
