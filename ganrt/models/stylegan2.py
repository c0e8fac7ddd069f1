"""StyleGAN2, trained with adaptive augmentation or without (Karras et al., CVPR 2020 and NeurIPS 2020): what goes in,
what comes out, and the checkpoints that load.

A checkpoint tells neither the noise nor the truncation. By default the noise is the maps that are stored in it, as
gen_images.py of stylegan3's repository has it, and the truncation is an input for all layers.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from ganrt.errors import RequestError
from ganrt.models.family import Family, Layout, Shapes
from ganrt.models.stylegan2_layouts import convert_nvlabs, convert_rosinality, guess_nvlabs, guess_rosinality
from ganrt.models.stylegan2_network import Config, Generator
from ganrt.spec import Input, Label, Latent, Output, Scalar, Spec

_LARGEST_TRUNCATION = 2.0


def build_spec(config: Config) -> Spec:
    """A normal latent, the class, the truncation and, if it is drawn, the noise of each convolution in; an image in
    about [-1, 1] out."""
    inputs: list[Input] = [Latent("z", (config.latent,))]
    if config.classes:
        inputs.append(Label("c", config.classes, "one_hot"))
    inputs.append(Scalar("truncation", (0.0, _LARGEST_TRUNCATION), 1.0))
    if config.noise == "random":
        inputs += [Latent(f"noise{k}", (1, size, size)) for k, size in enumerate(config.noise_sizes)]
    output = Output(config.channels, (-1.0, 1.0), (config.size, config.size))
    return Spec("stylegan2", tuple(inputs), output)


def guess_config(shapes: Shapes) -> Config | None:
    """Infer what shapes tell; the rest has its defaults."""
    names = [
        f"blocks.{k}" for k in itertools.takewhile(lambda k: f"blocks.{k}.to_image.conv.weight" in shapes, range(99))
    ]
    layers = list(itertools.takewhile(lambda k: f"mapping.layers.{k}.weight" in shapes, itertools.count()))
    rgb = shapes.get("blocks.0.to_image.conv.weight", ())
    first, embed = shapes.get("mapping.layers.0.weight", ()), shapes.get("mapping.embed.weight", (0, 0))
    widths = [shapes.get(f"{name}.conv1.conv.weight", ()) for name in names]
    if len(rgb) != 4 or len(first) != 2 or len(embed) != 2 or any(len(shape) != 4 for shape in widths):
        return None
    try:
        return Config(tuple(shape[0] for shape in widths), rgb[0], first[1] - embed[0], embed[1], first[0], len(layers))
    except RequestError:
        return None


def read_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a network pickle of stylegan2-ada or stylegan3 tells.

    Raises RequestError for a network with another activation.
    """
    activations = {name: value for name, value in attributes.items() if name.endswith(".activation")}
    other = [f"{name} is {value!r}" for name, value in activations.items() if value not in ("lrelu", "linear")]
    if other:
        raise RequestError(f"{other[0]}; ganrt's stylegan2 has leaky ReLUs alone: export it as a module of your own")
    found = {}
    if "synthesis.b4.conv1.conv_clamp" in attributes:
        found["clamp"] = float(attributes["synthesis.b4.conv1.conv_clamp"] or 0.0)
    if "mapping.fc0.bias_gain" in attributes:
        found["mapping_rate"] = float(attributes["mapping.fc0.bias_gain"])
    return found


FAMILY = Family(
    "stylegan2",
    Config,
    Generator,
    build_spec,
    (
        Layout("ganrt", guess_config),
        Layout("stylegan2-ada and stylegan3", guess_nvlabs, convert_nvlabs),
        Layout("rosinality/stylegan2-pytorch", guess_rosinality, convert_rosinality),
    ),
    attributes=read_attributes,
)
