"""A folder for a device that runs ncnn by itself: the network in ncnn's format, and a C++ example that makes the same
pictures from the same seed."""

from __future__ import annotations

import math
from pathlib import Path

from ganrt import atomic
from ganrt.bundle import Bundle
from ganrt.errors import BundleError, RequestError
from ganrt.latents import SCALED_LIMIT, find_interval
from ganrt.levels import ChannelRanges, find_levels
from ganrt.ncnn_format.conversion import convert_graph
from ganrt.ncnn_format.network import Network
from ganrt.random_values import read_random_values
from ganrt.spec import Image, Label, Latent, Output, Scalar, Spec

PARAM, WEIGHTS, HEADER, EXAMPLE, README = "generator.param", "generator.bin", "ganrt.h", "sample.cpp", "README.md"
"""Names of the files."""
_SUFFIXES = {1: "pgm", 3: "ppm", 4: "pam"}
"""Channels of a picture -> how the name of its file ends."""
_PRECISIONS = ("fp32", "bf16", "fp16")


def pack_for_ncnn(bundle: Bundle | str | Path, out: Path, variant: str | None = None, overwrite: bool = False) -> Path:
    """Write a variant in ncnn's format, with a C++ example.

    Args:
        bundle: a bundle, or the path of one.
        out: the folder to make.
        variant: its name; None for the first choice in float32.
        overwrite: replace a folder that holds such a package.

    Returns `out`. Raises RequestError for a variant that ncnn does not run, BundleError for a graph with an operator
    that ncnn lacks, MachineError if the folder cannot be written.
    """
    bundle = Bundle.of(bundle)
    name = variant or bundle.in_precision("fp32")[0]
    precision = bundle.variant(name).precision
    if precision not in _PRECISIONS:
        raise RequestError(f"ncnn runs {', '.join(_PRECISIONS)}; {name} is {precision}")
    atomic.check_output(out, overwrite, _is_package)
    try:
        network = convert_graph(bundle.onnx(name))
    except BundleError as error:
        raise BundleError(f"{name} cannot be written for ncnn: {error}") from error
    with atomic.new_folder(out, overwrite, _is_package) as draft:
        (draft / PARAM).write_text(network.write_param())
        (draft / WEIGHTS).write_bytes(network.write_weights("float16" if precision == "fp16" else "float32"))
        (draft / HEADER).write_text(_write_header())
        (draft / EXAMPLE).write_text(_write_example(bundle.spec, network, precision))
        (draft / README).write_text(_write_readme(bundle, name, network))
    return out


def _is_package(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir()}
    return {PARAM, WEIGHTS} <= names <= {PARAM, WEIGHTS, HEADER, EXAMPLE, README}


def _write_header() -> str:
    text = Path(__file__).with_name(HEADER).read_text()
    return text.replace("RANDOM_VALUES\n", read_random_values("inline", "const double"))


_EXAMPLE = """\
// Makes a picture: {usage}
// c++ -std=c++17 -O2 -ffp-contract=off {example} -lncnn -fopenmp

#include <cstdlib>

#include "{header}"
#include "ncnn/net.h"

int main(int count, char **arguments) {{
{lines}
}}
"""


def _write_example(spec: Spec, network: Network, precision: str) -> str:
    half, brief = precision == "fp16", precision == "bf16"
    lines = [
        "ncnn::Net net;",
        f"net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = {str(half).lower()};",
        *(["net.opt.use_bf16_storage = true;"] if brief else []),
        f'if (net.load_param("{PARAM}") || net.load_model("{WEIGHTS}")) return 1;',
        "ncnn::Extractor extractor = net.create_extractor();",
        *(line for item in spec.inputs for line in _write_input(spec, item)),
        "ncnn::Mat image;",
        f'if (extractor.extract("{network.output}", image)) return 2;',
        f"return ganrt::write_picture(arguments[count - 1], image, {_write_levels(spec.output)}) ? 0 : 3;",
    ]
    drawn = [] if spec.images else ["unsigned long long seed = strtoull(arguments[1], nullptr, 10);"]
    drawn += [] if spec.images else ["unsigned long long index = strtoull(arguments[2], nullptr, 10);"]
    takes = [item.name for item in spec.images] or ["SEED", "INDEX"]
    seeded = ["unsigned long long seed = 0, index = 0;"] if spec.images and spec.streams else []
    wanted = f"if (count != {len(takes) + 2}) return 4;"
    text = "\n".join(f"    {line}" for line in [wanted, *drawn, *seeded, *lines])
    usage = f"./sample {' '.join(takes)} picture.{_SUFFIXES[spec.output.channels]}"
    return _EXAMPLE.format(usage=usage, example=EXAMPLE, header=HEADER, lines=text)


def _write_input(spec: Spec, item: Latent | Label | Image | Scalar) -> list[str]:
    """Return the lines that give an input to the network."""
    name, stream = f"input_{item.name}", spec.streams.get(item.name, 0)
    give = f'extractor.input("{item.name}", '
    if isinstance(item, Image):
        number, plain = spec.images.index(item) + 1, find_levels(item) == item.range
        levels = f"{item.channels}, {_write_levels(item)}" if plain else _write_levels(item)
        read = f"ganrt::read_picture(arguments[{number}], {name}, {levels})"
        return [f"ncnn::Mat {name};", f"if (!{read}) return 5;", f"{give}{name});"]
    if isinstance(item, Scalar):
        return [f"float {name} = {_format_float(item.default)};", f"{give}ncnn::Mat(1, &{name}));"]
    if isinstance(item, Label):
        drawn = f"ganrt::draw_label(seed, index, {stream}, {item.classes})"
        if item.encoding == "index":
            return [f"int {name} = {drawn};", f"{give}ncnn::Mat(1, &{name}));"]
        encoded = f"std::vector<float> {name} = ganrt::encode_one_hot({drawn}, {item.classes});"
        return [encoded, f"{give}ncnn::Mat({item.classes}, {name}.data()));"]
    blob = f"ncnn::Mat({math.prod(item.shape)}, {name}.data())"
    if len(item.shape) > 1:
        blob += f".reshape({', '.join(str(side) for side in reversed(item.shape))})"
    return [f"std::vector<float> {name} = {_write_draw(item, stream)};", f"{give}{blob});"]


def _write_levels(item: Image | Output) -> str:
    """Return the values of the levels 0 and 255 as arguments: of all channels, or of each and its place."""
    levels = find_levels(item)
    if not isinstance(levels, ChannelRanges):
        return ", ".join(map(_format_float, levels))
    channels = zip(levels.places, levels.ranges, strict=True)
    return f"{{{', '.join(f'{{{place}, {low!r}, {high!r}}}' for place, (low, high) in channels)}}}"


def _write_draw(item: Latent, stream: int) -> str:
    place = f"seed, index, {stream}, {math.prod(item.shape)}"
    if item.distribution == "uniform":
        return f"ganrt::draw_uniform({place}, {item.range[0]!r}, {item.range[1] - item.range[0]!r})"
    if item.truncation != "scaled":
        return f"ganrt::draw_normal({place})"
    low, width = (float(bound[0]) for bound in find_interval(SCALED_LIMIT))
    return f"ganrt::draw_normal({place}, {low!r}, {width!r}, {_format_float(item.default)})"


def _format_float(value: float) -> str:
    return f"{float(value)!r}f"


def _write_readme(bundle: Bundle, variant: str, network: Network) -> str:
    spec = bundle.spec
    inputs = "\n".join(f"- `{item.name}`: {item}" for item in spec.inputs)
    return f"""\
# {Path(bundle.path).stem} for ncnn

The variant `{variant}` of an image generator of the family **{spec.family}**, for [ncnn](https://github.com/Tencent/ncnn).

| file | content |
| --- | --- |
| `{PARAM}`, `{WEIGHTS}` | the network, for one picture at a time |
| `{EXAMPLE}` | makes the pictures that ganrt makes from the same seed |
| `{HEADER}` | random values and pictures, for the example |

Inputs, without a batch:

{inputs}

Output: `{network.output}`, {spec.output}; {spec.output.values}.

The values of an input depend on the seed, the number of the sample and the input alone. Sample 5 of seed 7 is the same
picture here and in `ganrt sample --seed 7 --start 5`, up to the rounding of the network.

Digest of the variant in the bundle: `{bundle.digest(variant)}`
"""
