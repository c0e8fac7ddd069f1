"""The layers of ncnn that the networks of ganrt's families consist of: their weights, and what they compute.

A layer, parameter or value that is not listed here is rejected, never ignored. Layers are computed, in float32, for
`ncnn_networks`, which compares a network with the family that it is taken for. Blobs have no batch; here they are
tensors (1, C, H, W), and those of one side (1, C, 1, 1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from ganrt.backend import first_line
from ganrt.errors import CheckpointError
from ganrt.ncnn_format import Layer, Number, Weights

from .ncnn_file import OUT_OF_INT8, Pair, WeightReader

_MOST = 64
"""Largest kernel, stride, padding, dilation or factor."""
_MOST_VALUES = 2**26
"""Of a blob, at the small sizes that are computed here."""
_BY_INPUT = -233
"""Scales of a layer `Scale` that are its second input."""
_SIDES = (2, 1, 0)
"""Parameters of `MemoryData` for channels, height and width."""
_INT8_SCALES = 8
"""Parameter of layers with quantized weights."""
WEIGHTED = ("Convolution", "Deconvolution", "InnerProduct", "PReLU")
"""Kinds of layers with trained weights."""
OTHERWISE = "Export the checkpoint or the ONNX file that it was converted from"
"""What can be done with a network that cannot be read."""


def load_weights(pair: Pair, layers: Sequence[Layer]) -> tuple[list[Layer], bool]:
    """The layers with their weights from the binary file, and whether any are stored in float16.

    Raises CheckpointError for a layer, or a parameter of one, that no network of a family has, for quantized weights,
    and for a file that holds more or fewer values than the layers take.
    """
    reader, found = WeightReader(pair), []
    for layer in layers:
        try:
            _check_parameters(layer)
            found.append(replace(layer, weights=_KINDS[layer.kind].load(layer, reader)))
        except ValueError as error:
            raise CheckpointError(f"{pair.layers}, {_describe(layer)}: {error}") from error
    reader.check_end()
    return found, reader.has_float16


def run_layers(layers: Sequence[Layer], image: Tensor, adapt: Callable[..., Layer] | None = None) -> Tensor:
    """Compute the network's output for an image (1, C, H, W), float32.

    Args:
        adapt: layer and its input blobs -> the layer that is computed in its place.

    Raises ValueError, naming the layer, for values of parameters that no network of a family has, for shapes that do
    not fit, and for a network with several inputs or outputs.
    """
    if sum(layer.kind == "Input" for layer in layers) != 1:
        raise ValueError("it has several inputs, or none")
    blobs: dict[str, Tensor] = {}
    for layer in layers:
        given = [image] if layer.kind == "Input" else [blobs[name] for name in layer.inputs]
        try:
            made = _KINDS[layer.kind].run(adapt(layer, *given) if adapt else layer, *given)
        except (ValueError, RuntimeError, TypeError) as error:  # PyTorch's for shapes, Python's for numbers of inputs
            raise ValueError(f"{_describe(layer)}: {first_line(error).rstrip('.')}") from error
        blobs |= dict.fromkeys(layer.outputs, made)
    used = {name for layer in layers for name in layer.inputs}
    ends = [name for name in blobs if name not in used]
    if len(ends) != 1:
        raise ValueError(f"it has {len(ends)} outputs: {', '.join(ends)}")
    return blobs[ends[0]]


def run_linear(layer: Layer, x: Tensor) -> Tensor:
    """What a convolution or a matrix product makes before its activation."""
    plain = {number: value for number, value in layer.parameters.items() if number not in (9, 10)}
    return _KINDS[layer.kind].run(replace(layer, parameters=plain), x)


def convert_weights(layer: Layer) -> dict[str, Tensor]:
    """Weights and bias of a layer of WEIGHTED, in PyTorch's layout: (out, in, height, width) for a convolution, (in,
    out, height, width) for a transposed one."""
    tensors = [torch.from_numpy(weights.array) for weights in layer.weights]
    if layer.kind == "Deconvolution":
        tensors[0] = tensors[0].transpose(0, 1)
    return dict(zip(("weight", "bias"), tensors, strict=False))


def _describe(layer: Layer) -> str:
    return f"{layer.kind} {layer.name}"


def _check_parameters(layer: Layer) -> None:
    if layer.kind not in _KINDS:
        if layer.kind.startswith(("pnnx.", "nn.", "F.", "torch.", "aten::")):
            raise ValueError("this file is pnnx's own; pnnx writes the one for ncnn beside it, as NAME.ncnn.param")
        raise ValueError(f"no network of a family that is read from ncnn's files has such a layer. {OTHERWISE}")
    allowed = _KINDS[layer.kind].parameters
    for number, value in layer.parameters.items():
        if number == _INT8_SCALES and layer.kind in WEIGHTED:
            raise ValueError(f"its weights are quantized: {OUT_OF_INT8}")
        if number not in allowed or allowed[number] not in (None, value):
            raise ValueError(f"no network of a family has its parameter {number}={value}. {OTHERWISE}")


def _get_whole(layer: Layer, number: int, default: int, most: int = _MOST) -> int:
    """A parameter that is a whole number from 0 to `most`. Raises ValueError for another."""
    value = layer.parameters.get(number, default)
    if not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"its parameter {number} is {value}; a whole number from 0 to {most:,} was expected")
    return value


def _get_number(layer: Layer, number: int, default: float = 0.0) -> float:
    value = layer.parameters.get(number, default)
    if not isinstance(value, int | float):
        raise ValueError(f"its parameter {number} is a list; a number was expected")
    return value


def _get_list(layer: Layer, number: int) -> tuple[Number, ...]:
    value = layer.parameters.get(number, ())
    if not isinstance(value, Sequence):
        raise ValueError(f"its parameter {number} is {value}; a list was expected")
    return tuple(value)


def _get_pair(layer: Layer, across: int, default: int) -> tuple[int, int]:
    """Parameters for height and width: the one for the height, 10 above, is the one for the width by default."""
    width = _get_whole(layer, across, default)
    return _get_whole(layer, across + 10, width), width


def _check_size(*sides: int) -> None:
    """Raise ValueError for a blob that would be too large."""
    values = 1
    for side in sides:
        values *= side
    if values > _MOST_VALUES:
        raise ValueError(f"it makes {' x '.join(map(str, sides))} values of a small picture")


def _load_nothing(layer: Layer, reader: WeightReader) -> tuple[Weights, ...]:
    return ()


def _load_kernel(layer: Layer, reader: WeightReader) -> tuple[Weights, ...]:
    """Convolution: (out, in, height, width), and a bias."""
    return _load_matrix(layer, reader, 6, 5, _get_pair(layer, 1, 0))


def _load_linear(layer: Layer, reader: WeightReader) -> tuple[Weights, ...]:
    """InnerProduct: (out, in, 1, 1), and a bias."""
    return _load_matrix(layer, reader, 2, 1, (1, 1))


def _load_matrix(
    layer: Layer, reader: WeightReader, size_at: int, bias_at: int, kernel: tuple[int, int]
) -> tuple[Weights, ...]:
    rows, size = _get_whole(layer, 0, 0, _MOST_VALUES), _get_whole(layer, size_at, 0, 2**29)
    cell = rows * kernel[0] * kernel[1]
    if not size or not cell or size % cell:
        raise ValueError(f"{size} weights are no kernel of {rows} rows and {kernel[0]} x {kernel[1]} pixels")
    weight = reader.take_tagged(layer, size).reshape(rows, size // cell, *kernel)
    bias = (Weights(reader.take_plain(layer, rows)),) if _get_whole(layer, bias_at, 0, 1) else ()
    return Weights(weight, tagged=True), *bias


def _load_slopes(layer: Layer, reader: WeightReader) -> tuple[Weights, ...]:
    return (Weights(reader.take_plain(layer, _get_whole(layer, 0, 0, _MOST_VALUES))),)


def _load_constant(layer: Layer, reader: WeightReader) -> tuple[Weights, ...]:
    shape = [_get_whole(layer, number, 0, _MOST_VALUES) for number in _SIDES]
    _check_size(*shape)
    if not all(shape):
        raise ValueError(f"it holds channels, height and width {shape}; three sides were expected")
    return (Weights(reader.take_plain(layer, shape[0] * shape[1] * shape[2]).reshape(shape)),)


def _activate(layer: Layer, x: Tensor) -> Tensor:
    """What a layer applies to its output: nothing, ReLU, a leaky ReLU or a sigmoid."""
    kind, settings = layer.parameters.get(9, 0), _get_list(layer, 10)
    if kind == 2 and len(settings) == 1:
        return functional.leaky_relu(x, settings[0])
    if kind not in (0, 1, 4) or settings:
        raise ValueError(f"no network of a family has its activation {kind} {settings or ''}".rstrip())
    return {0: x, 1: x.relu(), 4: x.sigmoid()}[cast(int, kind)]


def _read_pads(layer: Layer) -> tuple[int, int, int, int]:
    """Left, right, top, bottom."""
    left = _get_whole(layer, 4, 0)
    top = _get_whole(layer, 14, left)
    return left, _get_whole(layer, 15, left), top, _get_whole(layer, 16, top)


def _get_tensors(layer: Layer) -> tuple[Tensor, Tensor | None]:
    tensors = convert_weights(layer)
    return tensors["weight"], tensors.get("bias")


def _run_convolution(layer: Layer, x: Tensor) -> Tensor:
    x = functional.pad(x, _read_pads(layer))
    weight, bias = _get_tensors(layer)
    _check_size(weight.shape[0], *x.shape[2:])
    strides, dilations = _get_pair(layer, 3, 1), _get_pair(layer, 2, 1)
    return _activate(layer, functional.conv2d(x, weight, bias, strides, dilation=dilations))


def _run_deconvolution(layer: Layer, x: Tensor) -> Tensor:
    left, right, top, bottom = _read_pads(layer)
    weight, bias = _get_tensors(layer)
    strides, dilations = _get_pair(layer, 3, 1), _get_pair(layer, 2, 1)
    _check_size(weight.shape[1], x.shape[2] * strides[0], x.shape[3] * strides[1])
    made = functional.conv_transpose2d(x, weight, bias, strides, dilation=dilations)
    return _activate(layer, made[:, :, top : made.shape[2] - bottom, left : made.shape[3] - right])


def _run_linear(layer: Layer, x: Tensor) -> Tensor:
    if x.shape[2:] != (1, 1):
        raise ValueError(f"its input has height and width {tuple(x.shape[2:])}; one value a channel was expected")
    return _activate(layer, functional.conv2d(x, *_get_tensors(layer)))


def _run_slopes(layer: Layer, x: Tensor) -> Tensor:
    return functional.prelu(x, _get_tensors(layer)[0])


def _run_interpolation(layer: Layer, x: Tensor) -> Tensor:
    """Nearest neighbour by a whole factor, or bicubic by any."""
    kind, factors = layer.parameters.get(0), (_get_number(layer, 1, 1.0), _get_number(layer, 2, 1.0))
    suits = kind == 3 or (kind == 1 and all(factor == int(factor) for factor in factors))
    if not suits or not all(0 < factor <= _MOST for factor in factors):
        raise ValueError(f"no network of a family resizes by {factors} in the way {kind}")
    sides = [int(side * factor) for side, factor in zip(x.shape[2:], factors, strict=True)]
    _check_size(x.shape[1], *sides)
    if kind == 1:
        return functional.interpolate(x, size=sides, mode="nearest")
    return functional.interpolate(x, size=sides, mode="bicubic", align_corners=False)


def _run_concatenation(layer: Layer, *parts: Tensor) -> Tensor:
    _check_size(sum(part.shape[1] for part in parts), *parts[0].shape[2:])
    return torch.cat(parts, 1)


def _run_weighted_sum(layer: Layer, *parts: Tensor) -> Tensor:
    """Eltwise; ncnn's default for its operation is a product."""
    shares = _get_list(layer, 1) or (1.0,) * len(parts)
    if layer.parameters.get(0) != 1 or len(shares) != len(parts) or len({part.shape for part in parts}) != 1:
        raise ValueError(f"a sum of {len(parts)} equal shapes was expected; it has {dict(layer.parameters)}")
    return torch.stack([share * part for share, part in zip(shares, parts, strict=True)]).sum(0)


_ARITHMETIC: dict[int, Callable[[Tensor, Tensor], Tensor]] = {
    0: torch.add,
    1: torch.sub,
    2: torch.mul,
    3: torch.div,
}


def _run_arithmetic(layer: Layer, x: Tensor, *others: Tensor) -> Tensor:
    operation = _get_whole(layer, 0, 0)
    scalar = (x.new_tensor(_get_number(layer, 2)),) if _get_whole(layer, 1, 0, 1) else ()
    if operation not in _ARITHMETIC or len(others + scalar) != 1:
        raise ValueError(f"no network of a family computes its operation {operation} of {1 + len(others)} inputs")
    (other,) = others + scalar
    _check_size(*map(max, zip(x.shape, other.shape, strict=False)))
    return _ARITHMETIC[operation](x, other)


def _run_scaling(layer: Layer, x: Tensor, shares: Tensor) -> Tensor:
    if layer.parameters.get(0) != _BY_INPUT or shares.shape != (1, x.shape[1], 1, 1):
        raise ValueError("a factor a channel, computed in the network, was expected")
    return x * shares


def _run_crop(layer: Layer, x: Tensor, *like: Tensor) -> Tensor:
    """Cut height and width: from an offset, to the size of a second input, or between starts and ends of axes."""
    if like:
        top, left = _get_whole(layer, 1, 0), _get_whole(layer, 0, 0)
        bottom, right = top + like[0].shape[2], left + like[0].shape[3]
        if bottom > x.shape[2] or right > x.shape[3] or x.shape[1] != like[0].shape[1]:
            raise ValueError(f"{tuple(like[0].shape[1:])} from {top}, {left} is not inside of {tuple(x.shape[1:])}")
        return x[:, :, top:bottom, left:right]
    starts, ends, axes = ([int(value) for value in _get_list(layer, number)] for number in (9, 10, 11))
    if not starts or not len(starts) == len(ends) == len(axes) or not set(axes) <= {1, 2, -1, -2}:
        raise ValueError(f"starts {starts} and ends {ends} of axes {axes} cut neither height nor width")
    for start, end, axis in zip(starts, ends, axes, strict=True):
        side = x.shape[axis + 1 if axis > 0 else axis]
        begin, stop = (at + side if at < 0 else at for at in (start, end))
        if not 0 <= begin < stop <= side:
            raise ValueError(f"{start} to {end} of a side of {side} is empty, or not inside")
        x = x.narrow(axis + 1 if axis > 0 else axis, begin, stop - begin)
    return x


def _run_mean(layer: Layer, x: Tensor) -> Tensor:
    """The mean of each channel."""
    wanted = {"Pooling": {0: 1, 4: 1}, "Reduction": {0: 3, 1: 0, 4: 1}}[layer.kind]
    axes = sorted(_get_list(layer, 3)) if layer.kind == "Reduction" else [1, 2]
    if any(layer.parameters.get(number) != value for number, value in wanted.items()) or axes not in ([1, 2], [-2, -1]):
        raise ValueError(f"the mean of each channel was expected; it has {dict(layer.parameters)}")
    return x.mean((2, 3), keepdim=True)


def _run_shuffle(layer: Layer, x: Tensor) -> Tensor:
    run = functional.pixel_shuffle if layer.kind == "PixelShuffle" else functional.pixel_unshuffle
    return run(x, _get_whole(layer, 0, 1))


def _run_constant(layer: Layer) -> Tensor:
    return torch.from_numpy(layer.weights[0].array)[None]


def _pass_on(layer: Layer, x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True)
class _Kind:
    """A kind of layer."""

    run: Callable[..., Tensor]
    """Layer and input blobs -> output blob. Raises ValueError with a reason."""
    parameters: Mapping[int, Number | None]
    """Number of each parameter that it may have -> the only value that it may have; None: `run` decides."""
    load: Callable[[Layer, WeightReader], tuple[Weights, ...]] = _load_nothing


_WINDOW = dict.fromkeys((0, 1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 14, 15, 16))
_KINDS = {
    "BinaryOp": _Kind(_run_arithmetic, {0: None, 1: None, 2: None}),
    "Concat": _Kind(_run_concatenation, {0: 0}),
    "Convolution": _Kind(_run_convolution, _WINDOW, _load_kernel),
    "Crop": _Kind(_run_crop, {0: None, 1: None, 9: None, 10: None, 11: None}),
    "Deconvolution": _Kind(_run_deconvolution, {**_WINDOW, 18: 0, 19: 0}, _load_kernel),
    "Eltwise": _Kind(_run_weighted_sum, {0: None, 1: None}),
    "InnerProduct": _Kind(_run_linear, {0: None, 1: None, 2: None, 9: None, 10: None}, _load_linear),
    "Input": _Kind(_pass_on, {0: None, 1: None, 2: None}),
    "Interp": _Kind(_run_interpolation, {0: None, 1: None, 2: None, 6: 0}),
    "MemoryData": _Kind(_run_constant, {0: None, 1: None, 2: None, 21: 1}, _load_constant),
    "PReLU": _Kind(_run_slopes, {0: None}, _load_slopes),
    "PixelShuffle": _Kind(_run_shuffle, {0: None, 1: 0}),
    "Pooling": _Kind(_run_mean, {0: None, 4: None}),
    "ReLU": _Kind(lambda layer, x: functional.leaky_relu(x, _get_number(layer, 0)), {0: None}),
    "Reduction": _Kind(_run_mean, {0: None, 1: None, 2: 1.0, 3: None, 4: None, 5: 1}),
    "Reorg": _Kind(_run_shuffle, {0: None, 1: 0}),
    "Scale": _Kind(_run_scaling, {0: None, 1: 0}),
    "Sigmoid": _Kind(lambda layer, x: x.sigmoid(), {}),
    "Split": _Kind(_pass_on, {}),
    "Swish": _Kind(lambda layer, x: functional.silu(x), {}),
}
