"""StyleGAN2 checkpoints of two projects, NVIDIA's stylegan2-ada and stylegan3, and rosinality/stylegan2-pytorch,
brought to one form: the same weights become the same bits.

Both store weights of unit variance (the mapping's a hundred times larger) and scale them when they are used; here they
are scaled once, in float64.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator

import torch
from torch import Tensor

from ganrt import latents
from ganrt.errors import RequestError
from ganrt.models.family import Shapes, State
from ganrt.models.stylegan2_network import GAIN, USUAL_RATE, Config, Mapping
from ganrt.models.uninitialized import SkipRandomWeights

_DRAWN = 4096
"""Number of style vectors whose mean rosinality's code truncates to, where a file has none."""


class _Entries:
    """The entries of a state dict, each taken once, so that what is left over is known."""

    def __init__(self, state: State) -> None:
        self.left = dict(state)

    def take(self, key: str, ndim: int) -> Tensor:
        """An entry in float64. Raises KeyError if it is missing or has another number of dimensions."""
        value = self.left.pop(key)
        if value.ndim != ndim:
            raise KeyError(key)
        return value.double()

    def take_number(self, key: str) -> Tensor:
        """An entry of one number, as a tensor without dimensions. Raises KeyError as `take` does."""
        value = self.left.pop(key)
        if value.numel() != 1:
            raise KeyError(key)
        return value.double().reshape(())


def _scale(weight: Tensor, rate: float = 1.0) -> Tensor:
    """An equalised weight (out, in, ...) as it is used."""
    return weight * (rate / math.sqrt(max(1, math.prod(weight.shape[1:]))))


def _take_mapping(entries: _Entries, names: list[str]) -> State:
    made = {}
    for k, name in enumerate(names):
        made[f"mapping.layers.{k}.weight"] = _scale(entries.take(f"{name}.weight", 2), USUAL_RATE * GAIN)
        made[f"mapping.layers.{k}.bias"] = entries.take(f"{name}.bias", 1) * (USUAL_RATE * GAIN)
    return made


def _make_convolution(name: str, weight: Tensor, bias: Tensor, strength: Tensor, noise: Tensor) -> State:
    """Of a raw weight (after, before, 3, 3), a bias (after,), a number, and a noise map (1, H, W)."""
    scaled = _scale(weight)
    return {
        f"{name}.conv.weight": scaled,
        f"{name}.energy.weight": scaled.square().sum((2, 3)) / 2,
        f"{name}.bias": bias[:, None, None] * GAIN,
        f"{name}.strength": strength * GAIN,
        f"{name}.noise": noise * strength * GAIN,
    }


def _add_upsampling(made: State, name: str, taps: Tensor) -> None:
    """Make the convolution `name` one that upsamples, with a filter (4, 4) whose sum is 4."""
    weight = made[f"{name}.conv.weight"]
    made[f"{name}.conv.weight"] = weight.transpose(0, 1).contiguous()
    made[f"{name}.blur.weight"] = taps.flip((0, 1)).expand(len(weight), 1, *taps.shape).contiguous()


def _make_image(name: str, weight: Tensor, bias: Tensor) -> State:
    """Of a raw weight (channels, before, 1, 1) and a bias (channels,)."""
    return {f"{name}.conv.weight": _scale(weight), f"{name}.conv.bias": bias}


def _finish(made: State, entries: _Entries) -> State:
    """In float32, with what was left over under its own keys, which no family knows."""
    return {key: value.float() for key, value in made.items()} | entries.left


def _build_config(
    shapes: Shapes, widths: list[str], image: str, layers: list[str], embed: str, noise: str, clamp: float
) -> Config | None:
    """Infer a config.

    Args:
        widths: keys of the last convolution's weight of each block, (..., after, before, 3, 3).
        image: key of the weight that makes the image, (..., channels, before, 1, 1).
        layers: keys of the mapping's weights, (style, before).
        embed: key of the weight that embeds the class, (style, classes), if there is one.
    """
    found = [shapes.get(key, ()) for key in (*widths, image)]
    mapping, classes = [shapes[key] for key in layers], shapes.get(embed, (0, 0))
    if not layers or not widths or any(len(shape) < 4 for shape in found):
        return None
    if any(len(shape) != 2 for shape in (*mapping, classes)):
        return None
    *after, channels = (shape[-4] for shape in found)
    latent, style = mapping[0][1] - classes[0], mapping[0][0]
    try:
        return Config(tuple(after), channels, latent, classes[1], style, len(layers), noise, clamp=clamp)
    except RequestError:
        return None


def _count(shapes: Shapes, pattern: str, first: int) -> list[str]:
    """The keys of a numbered pattern from `first` on, as far as there are any."""
    numbered = (pattern.format(number) for number in itertools.count(first))
    return list(itertools.takewhile(lambda key: key in shapes, numbered))


def guess_nvlabs(shapes: Shapes) -> Config | None:
    """Infer all but the truncation, the kind of noise, the limit and the mapping's rate."""
    found = (re.fullmatch(r"synthesis\.b(4|8|16|32|64|128|256|512|1024|2048)\.conv1\.weight", key) for key in shapes)
    sizes = sorted(int(match[1]) for match in found if match)
    if sizes != [4 << k for k in range(len(sizes))]:
        return None
    return _build_config(
        shapes,
        [f"synthesis.b{size}.conv1.weight" for size in sizes],
        "synthesis.b4.torgb.weight",
        _count(shapes, "mapping.fc{}.weight", 0),
        "mapping.embed.weight",
        "const" if "synthesis.b4.conv1.noise_const" in shapes else "none",
        clamp=256.0,
    )


def convert_nvlabs(state: State, config: Config) -> State:
    """Scale the weights; filters of layers that do not upsample go."""
    entries = _Entries(state)
    made = _take_mapping(entries, [f"mapping.fc{k}" for k in range(config.layers)])
    made["mapping.mean"] = entries.take("mapping.w_avg", 1)
    if config.classes:
        made["mapping.embed.weight"] = _scale(entries.take("mapping.embed.weight", 2))
        made["mapping.embed.bias"] = entries.take("mapping.embed.bias", 1)
    made["const"] = entries.take("synthesis.b4.const", 3)
    for k in range(len(config.widths)):
        theirs, ours, size = f"synthesis.b{4 << k}", f"blocks.{k}", 4 << k
        for conv in ("conv0", "conv1")[k == 0 :]:
            made |= _take_nvlabs_convolution(entries, f"{theirs}.{conv}", f"{ours}.{conv}", size)
            made |= _take_affine(entries, f"{theirs}.{conv}.affine", f"{ours}.{conv}")
        weight, bias = entries.take(f"{theirs}.torgb.weight", 4), entries.take(f"{theirs}.torgb.bias", 1)
        made |= _make_image(f"{ours}.to_image", weight, bias)
        made |= _take_affine(entries, f"{theirs}.torgb.affine", f"{ours}.to_image")
        if k:
            taps = 4 * entries.take(f"{theirs}.resample_filter", 2)
            made[f"{ours}.upsample.weight"] = taps.expand(config.channels, 1, *taps.shape).contiguous()
            _add_upsampling(made, f"{ours}.conv0", 4 * entries.take(f"{theirs}.conv0.resample_filter", 2))
    for key in [key for key in entries.left if re.fullmatch(r"synthesis\.b\d+(\.conv1)?\.resample_filter", key)]:
        del entries.left[key]
    return _finish(made, entries)


def _take_nvlabs_convolution(entries: _Entries, theirs: str, ours: str, size: int) -> State:
    """A convolution with its noise, or without noise if it was trained without."""
    weight, bias = entries.take(f"{theirs}.weight", 4), entries.take(f"{theirs}.bias", 1)
    strength, noise = torch.zeros((), dtype=torch.float64), torch.zeros(1, size, size, dtype=torch.float64)
    if f"{theirs}.noise_const" in entries.left:
        strength = entries.take_number(f"{theirs}.noise_strength")
        noise = entries.take(f"{theirs}.noise_const", 2)[None]
    return _make_convolution(ours, weight, bias, strength, noise)


def _take_affine(entries: _Entries, theirs: str, ours: str) -> State:
    weight, bias = entries.take(f"{theirs}.weight", 2), entries.take(f"{theirs}.bias", 1)
    return {f"{ours}.affine.weight": _scale(weight), f"{ours}.affine.bias": bias}


def guess_rosinality(shapes: Shapes) -> Config | None:
    """Infer all but the truncation, the kind of noise and the mapping's rate; there is no limit."""
    blocks = _count(shapes, "convs.{}.conv.weight", 0)[1::2]
    if "conv1.conv.weight" not in shapes:
        return None
    return _build_config(
        shapes,
        ["conv1.conv.weight", *blocks],
        "to_rgb1.conv.weight",
        _count(shapes, "style.{}.weight", 1),
        "",
        "const",
        clamp=0.0,
    )


def convert_rosinality(state: State, config: Config) -> State:
    """Scale the weights. A file without `latent_avg` gets the mean of 4096 style vectors, as the original draws it,
    but always the same ones: samples 0 to 4095 of seed 0."""
    entries = _Entries(state)
    made = _take_mapping(entries, [f"style.{k + 1}" for k in range(config.layers)])
    known = "latent_avg" in entries.left
    made["mapping.mean"] = entries.take("latent_avg", 1) if known else _average_styles(made, config)
    made["const"] = entries.take("input.input", 4).flatten(0, 1)
    for number, (theirs, ours) in enumerate(_pair_convolutions(config)):
        weight = entries.take(f"{theirs}.conv.weight", 5).flatten(0, 1)
        bias, strength = entries.take(f"{theirs}.activate.bias", 1), entries.take_number(f"{theirs}.noise.weight")
        noise = entries.take(f"noises.noise_{number}", 4).flatten(0, 1)
        made |= _make_convolution(ours, weight, bias, strength, noise)
        made |= _take_affine(entries, f"{theirs}.conv.modulation", ours)
        if ours.endswith("conv0"):
            _add_upsampling(made, ours, entries.take(f"{theirs}.conv.blur.kernel", 2))
    for k in range(len(config.widths)):
        theirs, ours = f"to_rgbs.{k - 1}" if k else "to_rgb1", f"blocks.{k}"
        weight, bias = entries.take(f"{theirs}.conv.weight", 5).flatten(0, 1), entries.take(f"{theirs}.bias", 4)
        made |= _make_image(f"{ours}.to_image", weight, bias.flatten())
        made |= _take_affine(entries, f"{theirs}.conv.modulation", f"{ours}.to_image")
        if k:
            taps = entries.take(f"{theirs}.upsample.kernel", 2)
            made[f"{ours}.upsample.weight"] = taps.expand(config.channels, 1, *taps.shape).contiguous()
    return _finish(made, entries)


def _pair_convolutions(config: Config) -> Iterator[tuple[str, str]]:
    """Name of each convolution in the original and here, in order."""
    yield "conv1", "blocks.0.conv1"
    for k in range(1, len(config.widths)):
        yield f"convs.{2 * k - 2}", f"blocks.{k}.conv0"
        yield f"convs.{2 * k - 1}", f"blocks.{k}.conv1"


def _average_styles(made: State, config: Config) -> Tensor:
    """The mean style vector, (style,). Raises KeyError if the mapping's weights are not those of the config."""
    with torch.device("meta"), SkipRandomWeights():
        mapping = Mapping(config)
    state = {key.removeprefix("mapping."): value.float() for key, value in made.items() if key.startswith("mapping.")}
    wanted = mapping.state_dict()
    if any(wanted[key].shape != value.shape for key, value in state.items()):
        raise KeyError("style.1.weight")
    mapping.load_state_dict(state, strict=False, assign=True)
    with torch.no_grad():
        z = torch.from_numpy(latents.normal(0, 0, _DRAWN, 0, config.latent))
        return mapping(z).double().mean(0)  # type: ignore[no-any-return]
