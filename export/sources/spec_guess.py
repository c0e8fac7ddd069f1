"""Guess the Spec of an ONNX file from its graph, and from what it makes of a few inputs. What a file cannot tell, such
as the range of its pictures, follows a convention, and each such guess is reported."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import onnx_ir as ir
import torch

from ganrt import feeds
from ganrt.bundle import METADATA_KEY
from ganrt.errors import BundleError, RequestError
from ganrt.feeds import Feeds
from ganrt.golden import proof_picture_size
from ganrt.images import Floats
from ganrt.json_reader import parse_json
from ganrt.spec import Image, Input, Label, Latent, Output, Range, Scalar, Spec

from ..lint import Reach, find_output_interval
from ..passes import read_constant
from .onnx_file import GraphFile, GraphModule, choose_output
from .onnx_interface import fit_interface, has_channels_last
from .receptive_field import measure_reach

_MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
_SIDES = ((48, 64), (80, 48))
"""Height and width, in pixels, of the pictures that are tried, rounded up to odd multiples."""
_USUAL: tuple[Range, ...] = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
_LABELS = ("c", "y", "label", "labels", "class", "classes", "onehot", "one_hot")
"""Names of inputs with two sides that are classes, not latents."""
_FIXED_LATENT = 16
"""Larger inputs of four fixed sides are pictures."""
_GREY_LEVELS = 200.0
"""Less than 255, of which some networks take other multiples."""
_IMAGES = 4
"""That are looked at for the range of the output."""
_OVERSHOOT = 0.35
"""Of the range: what networks without a final activation exceed it by."""


class Guess(NamedTuple):
    """A Spec, and what of it is no more than convention."""

    spec: Spec
    remarks: list[str]
    """A sentence each."""


def guess_spec(file: GraphFile, output: str | None = None) -> Guess:
    """Guess inputs and output.

    Args:
        output: name of the output that is the image; None for the only one with four dimensions.

    A file that ganrt wrote holds its Spec. Raises RequestError, naming the input or output, for what has no usual
    meaning: a Spec must then be given.
    """
    written = file.model.metadata_props.get(METADATA_KEY)
    if written is not None:
        return Guess(Spec.from_dict(parse_json(written.encode(), f"the Spec in {file.path}", BundleError)), [])
    image = choose_output(file, output)
    remarks: list[str] = []
    inputs = tuple(_guess_input(value, file, remarks) for value in file.model.graph.inputs)
    names = [item.name for item in inputs]
    name = _make_name(str(image.name))
    while name in names:
        name += "_made"
    unbatched = any(
        isinstance(item, Latent) and value.shape is not None and len(value.shape) == len(item.shape)
        for value, item in zip(file.model.graph.inputs, inputs, strict=True)
    )
    spec = Spec(_make_name(file.path.stem), inputs, Output(3, _USUAL[0], (1, 1), name=name), single=unbatched)
    spec = _guess_sizes(file, str(image.name), spec)
    return Guess(_guess_ranges(file, str(image.name), spec, remarks), remarks)


def _make_name(text: str) -> str:
    """A short identifier."""
    name = re.sub(r"\W+", "_", text).strip("_")[:48] or "graph"
    return f"_{name}" if name[0].isdigit() else name


def _guess_input(value: ir.Value, file: GraphFile, remarks: list[str]) -> Input:
    name, sides = _make_name(str(value.name)), list(value.shape or ())
    known = [side for side in sides[1:] if isinstance(side, int)]
    fixed = len(known) == len(sides) - 1
    if value.dtype in (ir.DataType.INT64, ir.DataType.INT32) and len(sides) == 1:
        return Label(name, _count_classes(value, file))
    if value.dtype == ir.DataType.FLOAT:
        if has_channels_last(sides):
            return _guess_picture(name, sides[3], sides[1:3])
        if len(sides) == 4 and sides[1] in (1, 3):
            return _guess_picture(name, sides[1], sides[2:])
        if len(sides) == 4 and fixed and max(known[1:]) <= _FIXED_LATENT:
            return _guess_latent(name, known, remarks)
        if len(sides) == 2 and fixed:
            if name.lower() in _LABELS:
                return Label(name, known[0], "one_hot")
            return _guess_latent(name, known, remarks)
        if len(sides) == 1 and isinstance(sides[0], int) and sides[0] > 1:  # without a batch
            return _guess_latent(name, [sides[0]], remarks)
        if len(sides) == 1:
            remarks.append(f"{name} is taken for a number from 0 to 1, usually 1")
            return Scalar(name, (0.0, 1.0), 1.0)
    raise RequestError(
        f"{file.path}: what its input {value.name} is cannot be guessed ({value.dtype} {value.shape}); "
        "describe it with --spec FILE.json"
    )


def _guess_picture(name: str, channels: object, sides: Sequence[object]) -> Image:
    height, width = (side if isinstance(side, int) else None for side in sides)
    size = (height, width) if height is not None and width is not None else None
    assert isinstance(channels, int)
    return Image(name, "mask" if "mask" in name.lower() else "content", channels, (0.0, 1.0), size)


def _guess_latent(name: str, shape: list[int], remarks: list[str]) -> Latent:
    remarks.append(f"{name} is taken for normal random numbers")
    return Latent(name, tuple(shape))


def _count_classes(value: ir.Value, file: GraphFile) -> int:
    """Rows of the table that the labels look up."""
    for node, place in value.uses():
        table = read_constant(node.inputs[0]) if node.op_type == "Gather" and place == 1 else None
        if table is not None and table.ndim == 2:
            return int(table.shape[0])
    raise RequestError(
        f"{file.path}: how many classes its input {value.name} has cannot be guessed; describe it with --spec FILE.json"
    )


def _guess_sizes(file: GraphFile, output: str, spec: Spec) -> Spec:
    """With the channels, size or scale of the output, and what the sides of free pictures must be multiples of."""
    if all(item.size is not None for item in spec.images):
        made = _run(file, output, spec, (1, 1)).shape
        return replace(spec, output=replace(spec.output, channels=_require_channels(file, made), size=made[2:]))
    reason = "it fails at every size that was tried"
    for multiple in _MULTIPLES:
        inputs = tuple(
            replace(item, multiple_of=multiple) if isinstance(item, Image) and item.size is None else item
            for item in spec.inputs
        )
        tried = replace(spec, inputs=inputs)
        try:
            found = [_compare_sizes(file, output, tried, size, multiple) for size in _SIDES]
        except RequestError as error:
            reason = str(error)
            continue
        scales = {scale for scale, _ in found}
        if len(scales) == 1 and None not in scales:
            channels = _require_channels(file, found[0][1])
            scale = scales.pop()
            assert scale is not None
            return replace(tried, output=replace(spec.output, channels=channels, size=None, scale=scale))
    raise RequestError(
        f"{file.path}: how the size of its output follows from that of its pictures cannot be guessed ({reason}); "
        "describe it with --spec FILE.json"
    )


def _compare_sizes(
    file: GraphFile, output: str, spec: Spec, size: tuple[int, int], multiple: int
) -> tuple[int | None, tuple[int, ...]]:
    """How many times larger the output is than the pictures, if that is a whole number, and its shape."""
    height, width = ((-(-side // multiple) | 1) * multiple for side in size)
    made = _run(file, output, spec, (height, width)).shape
    scale = made[2] // height
    return (scale if scale and made[2:] == (scale * height, scale * width) else None), made


def _require_channels(file: GraphFile, shape: tuple[int, ...]) -> int:
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise RequestError(f"{file.path} makes values of shape {shape}; an image is (N, C, H, W), with 1 or 3 channels")
    return shape[1]


def _run(file: GraphFile, output: str, spec: Spec, size: tuple[int, int]) -> Floats:
    """The output for one sample."""
    return _make_runner(file, output, spec)(feeds.draw_feeds(spec, 0, 0, 1, size=size))


def _make_runner(file: GraphFile, output: str, spec: Spec) -> Callable[[Feeds], Floats]:
    module = GraphModule(file, output, spec)

    def run(given: Feeds) -> Floats:
        made: Floats = module(*(torch.from_numpy(array) for array in given.values())).numpy()
        return made

    return run


def _guess_ranges(file: GraphFile, output: str, spec: Spec, remarks: list[str]) -> Spec:
    """With the ranges of pictures and output, and the receptive field."""
    model = fit_interface(file.model, output, spec)
    given = _read_input_range(model, spec)
    for _ in range(2):  # bounds of the output may follow from those of the pictures
        bounds = find_output_interval(model, _set_input_range(spec, given or _USUAL[0]))
        bounded = bounds.reach is not Reach.UNKNOWN and bounds.low < bounds.high
        made = (bounds.low, bounds.high) if bounded else None
        if given is None and made in _USUAL and spec.output.size is None and spec.output.scale == 1:
            given = made
    if spec.images and given is None:
        given = _USUAL[0]
        remarks.append("the levels 0 and 255 of pictures are taken for 0 and 1")
    elif spec.images:
        assert given is not None
        remarks.append(f"the levels 0 and 255 of pictures are taken for {given[0]:g} and {given[1]:g}")
    spec = _set_input_range(spec, given or _USUAL[0])
    run = _make_runner(file, output, spec)
    if made is None and spec.images:
        made = given
        remarks.append("the output is taken to be in the range of the pictures")
    elif made is None:
        made = _choose_range(run, spec)
        remarks.append(f"the output is taken to be in {made[0]:g} to {made[1]:g}, from a few images")
    assert made is not None
    spec = replace(spec, output=replace(spec.output, range=made))
    if spec.output.size is None and all(item.size is None for item in spec.images):
        reach = measure_reach(spec, run)
        if reach is not None:
            spec = replace(spec, output=replace(spec.output, reach=max(1, reach)))
    return spec


def _read_input_range(model: ir.Model, spec: Spec) -> Range | None:
    """0 to 255 if the first thing that the graph does with its pictures is to divide them by about as much."""
    pictures = [value for value, item in zip(model.graph.inputs, spec.inputs, strict=True) if isinstance(item, Image)]
    for node, place in [use for value in pictures for use in value.uses()]:
        other = read_constant(node.inputs[1 - place]) if node.op_type in ("Div", "Mul") else None
        if (
            other is not None
            and other.size
            and (other.min() > _GREY_LEVELS or (node.op_type == "Mul" and 0 < other.max() < 1 / _GREY_LEVELS))
        ):
            return _USUAL[2]
    return None


def _set_input_range(spec: Spec, values: Range) -> Spec:
    inputs = tuple(
        replace(item, range=values) if isinstance(item, Image) and item.role != "mask" else item for item in spec.inputs
    )
    return replace(spec, inputs=inputs)


def _choose_range(run: Callable[[Feeds], Floats], spec: Spec) -> Range:
    """The first usual range that the values of a few images hardly exceed."""
    size = proof_picture_size(spec)
    values = np.concatenate([run(feeds.draw_feeds(spec, 0, k, 1, size=size)).ravel() for k in range(_IMAGES)])
    for low, high in _USUAL:
        margin = _OVERSHOOT * (high - low)
        if values.min() >= low - margin and values.max() <= high + margin:
            return low, high
    return float(values.min()), float(values.max())
