"""StyleGAN3 (Karras et al., "Alias-Free Generative Adversarial Networks", NeurIPS 2021), as published: configurations T
(translation) and R (translation and rotation). For inference; there is no training.

Checkpoints are state dicts of NVlabs/stylegan3. Their layers are named after the sizes that they make, and the lengths
of their filters tell how they resample. The weights are stored without the factors that equalise the learning rate;
these, the gains of the activations and the moving averages of the magnitudes become part of the weights here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from ganrt.errors import RequestError
from ganrt.models.family import Family, Layout, Shapes, State
from ganrt.models.stylegan3_network import GAIN, TAPS, Config, Generator
from ganrt.spec import Input, Label, Latent, Output, Scalar, Spec

_LEARNING_RATE = 0.01
"""Factor of the mapping's learning rate, by which its weights and biases are multiplied."""


def build_spec(config: Config) -> Spec:
    """A normal latent, a class if there are any, and the truncation psi in; an image in about [-1, 1] out."""
    inputs: list[Input] = [Latent("z", (config.latent,))]
    if config.classes:
        inputs.append(Label("c", config.classes, "one_hot"))
    inputs.append(Scalar("truncation", (0.0, 1.0), 1.0))
    return Spec("stylegan3", tuple(inputs), Output(config.channels, (-1.0, 1.0), (config.size, config.size)))


def guess_config(shapes: Shapes) -> Config | None:
    """Infer everything but `cutoff`, `bandwidth` and `output_scale`."""
    found = (re.fullmatch(r"layers\.([0-9]{1,2})_([0-9]{1,4})\.conv\.weight", key) for key in shapes)
    layers = sorted((int(name[1]), int(name[2])) for name in found if name)
    names = [f"layers.{number}_{size}" for number, size in layers]
    convs, ups, downs = (
        [shapes.get(f"{name}.{leaf}.weight", ()) for name in names] for leaf in ("conv", "up.0", "down.0")
    )
    last, first, embedding = (
        shapes.get(f"{name}.weight", ()) for name in ("to_rgb.conv", "mapping.layers.0", "mapping.embedding")
    )
    if not layers or any(len(shape) != 4 for shape in (*convs, *ups, *downs, last)) or len(first) != 2:
        return None
    classes = embedding[1] if len(embedding) == 2 else 0
    try:
        return Config(
            sizes=tuple(size for _, size in layers),
            up=tuple(shape[3] // TAPS for shape in ups),
            widths=(convs[0][1], *(shape[0] for shape in convs)),
            kernel=convs[0][3],
            radial=sum(shape[2] > 1 for shape in downs),
            latent=first[1] - (first[0] if classes else 0),
            style=first[0],
            mapping=sum(re.fullmatch(r"mapping\.layers\.[0-9]+\.weight", key) is not None for key in shapes),
            classes=classes,
            channels=last[0],
        )
    except RequestError:
        return None


_NAMES = [
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^mapping\.w_avg$", "mapping.mean"),
        (r"^mapping\.embed\.", "mapping.embedding."),
        (r"^mapping\.fc([0-9]+)\.", r"mapping.layers.\1."),
        (r"^synthesis\.input\.weight$", "features.mix.weight"),
        (r"^synthesis\.input\.freqs$", "features.frequencies"),
        (r"^synthesis\.input\.", "features."),
        (r"^synthesis\.L([0-9]+_[0-9]+)_[0-9]+\.", r"layers.\1."),
        (r"^(layers\.[^.]+|to_rgb)\.weight$", r"\1.conv.weight"),
        (r"^to_rgb\.bias$", "to_rgb.conv.bias"),
        (r"\.magnitude_ema$", ".gain"),
        (r"\.(up|down)_filter$", r".\1"),
    )
]
"""Key of the original -> key here, one after the other. `gain`, `up` and `down` are still to be converted."""


def _map_keys(keys: Iterable[str]) -> dict[str, str]:
    """Key of the original -> key here. Its last layer is the one that makes the image."""
    numbered = {key: re.match(r"synthesis\.L([0-9]{1,2})_[^.]+\.", key) for key in keys}
    last = max((int(found[1]) for found in numbered.values() if found), default=-1)
    names = {}
    for old, found in numbered.items():
        new = f"to_rgb.{old[found.end() :]}" if found and int(found[1]) == last else old
        for pattern, name in _NAMES:
            new = pattern.sub(name, new)
        names[old] = new
    return names


def guess_nvlabs(shapes: Shapes) -> Config | None:
    """Infer everything but `cutoff`, `bandwidth` and `output_scale`."""
    if "synthesis.input.freqs" not in shapes:
        return None
    found = {new: shapes[old] for old, new in _map_keys(shapes).items()}
    if found.get("to_rgb.gain") != ():
        return None
    for key in [key for key in found if key.endswith((".up", ".down"))]:
        taps = found.pop(key)
        found[f"{key}.0.weight"] = (1, 1, taps[0] if len(taps) > 1 else 1, *taps[-1:])
    return guess_config(found)


def convert_nvlabs(state: State, config: Config) -> State:
    """Fold all factors into the weights, and repeat the filters for each channel."""
    wide = {new: state[old].double() for old, new in _map_keys(state).items()}
    for key in [key for key in wide if key.startswith("mapping.layers.")]:
        gain = _LEARNING_RATE * GAIN
        wide[key] = wide[key] * (gain / _root_inputs(wide[key]) if key.endswith(".weight") else gain)
    for key in [key for key in wide if key.endswith((".affine.weight", ".embedding.weight", ".mix.weight"))]:
        wide[key] = wide[key] / _root_inputs(wide[key])
    wide["features.mix.weight"] = wide["features.mix.weight"][..., None, None]
    for number, size in enumerate(config.sizes):
        _convert_layer(wide, f"layers.{number}_{size}", config.widths[number + 1])
    last = wide["to_rgb.conv.weight"]
    wide["to_rgb.conv.weight"] = last * wide.pop("to_rgb.gain").rsqrt() / _root_inputs(last)
    return {key: value.float() for key, value in wide.items()}


def _root_inputs(weight: Tensor) -> float:
    """Square root of the number of inputs of an output, by which an equalised weight is divided when it is used."""
    return math.sqrt(max(1, math.prod(weight.shape[1:])))


def _convert_layer(state: State, name: str, width: int) -> None:
    """Convert one layer in place: normalised weights, and a filter of its own for each channel."""
    weight = state[f"{name}.conv.weight"]
    state[f"{name}.conv.weight"] = weight * weight.square().mean((1, 2, 3), keepdim=True).rsqrt()
    state[f"{name}.bias"] = state[f"{name}.bias"][..., None, None]
    state[f"{name}.gain"] = state[f"{name}.gain"].rsqrt()
    up, down = (state.pop(f"{name}.{leaf}") for leaf in ("up", "down"))
    # A transposed convolution turns its kernel round, as the original turns its filters; a plain one does not.
    up, down = up * (len(up) // TAPS) * math.sqrt(GAIN), down.flip(tuple(range(down.ndim)))
    filters = {"up.0": up[None], "up.1": up[:, None], "down.0": down if down.ndim > 1 else down[None]}
    if down.ndim == 1:
        filters["down.1"] = down[:, None]
    for leaf, kernel in filters.items():
        state[f"{name}.{leaf}.weight"] = kernel.expand(width, 1, *kernel.shape).contiguous()


def read_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a network pickle tells."""
    names = {"bandwidth": "synthesis.input.bandwidth", "output_scale": "synthesis.output_scale"}
    return {setting: float(attributes[name]) for setting, name in names.items() if attributes.get(name) is not None}


FAMILY = Family(
    "stylegan3",
    Config,
    Generator,
    build_spec,
    (Layout("ganrt", guess_config), Layout("NVlabs", guess_nvlabs, convert_nvlabs)),
    attributes=read_attributes,
)
