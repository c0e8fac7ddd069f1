"""Cross-layer equalization of the channels that share 8 bits (Nagel et al., "Data-Free Quantization Through Weight
Equalization and Bias Correction", 2019, section 4.1).

Between two convolutions with a rectifier f between them, a channel may be divided by s > 0 if the weights that read it
are multiplied by s, because f(x / s) = f(x) / s. The graph computes the same; a tensor whose channels are about equally
large loses less in 8 bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from ..passes import Array, Patch, find_sole_user, read_attribute, read_constant
from .calibration import QuantizationRange

_RECTIFIERS = ("LeakyRelu", "PRelu", "Relu")
_LARGEST = 16.0
"""Largest factor of a channel, and of its inverse."""


def equalize_channels(model: ir.Model, ranges: Mapping[str, QuantizationRange]) -> ir.Model:
    """Return a copy of the graph that computes the same function from more equal channels; the graph itself where no
    convolutions are in a row.

    Args:
        ranges: name of the input tensor of a convolution -> what was measured on it.

    A factor is the square root of a channel's largest value over the largest weight that reads it: values and weights
    get equal shares of the differences between channels.
    """
    if not any(_find_pairs(model)):
        return model
    copy = model.clone()
    for first, second in list(_find_pairs(copy)):
        name = str(second.inputs[0].name)  # type: ignore[union-attr]
        weight = read_constant(second.inputs[1])
        assert weight is not None
        if name in ranges:
            factors = _choose_factors(ranges[name].peaks, np.abs(weight).max(axis=(0, *range(2, weight.ndim))))
            _scale_constant(second, 1, factors.reshape(1, -1, *[1] * (weight.ndim - 2)))
            _scale_constant(first, 1, 1 / factors.reshape(-1, *[1] * (weight.ndim - 1)))
            _scale_constant(first, 2, 1 / factors)
    return copy


def _find_pairs(model: ir.Model) -> Iterator[tuple[ir.Node, ir.Node]]:
    """Convolutions with a rectifier between them, and nothing else that reads what is between."""
    for second in model.graph:
        rectifier = _find_sole_source(second)
        first = None if rectifier is None or rectifier.op_type not in _RECTIFIERS else _find_sole_source(rectifier)
        if first is not None and _is_plain(first) and _is_plain(second):
            yield first, second


def _find_sole_source(node: ir.Node) -> ir.Node | None:
    """What makes the first input of a node, if nothing else reads it."""
    value = node.inputs[0] if node.inputs else None
    return None if value is None or find_sole_user(value) is not node else value.producer()


def _is_plain(node: ir.Node) -> bool:
    """Whether a node is a convolution without groups, whose weight and bias are constants."""
    constant = all(read_constant(value) is not None for value in node.inputs[1:] if value is not None)
    return node.op_type == "Conv" and node.domain == "" and constant and read_attribute(node, "group", 1) == 1


def _choose_factors(values: Array, weights: Array) -> Array:
    used = (values > 0) & (weights > 0)
    logs = np.log(np.where(used, values, 1.0) / np.where(used, weights, 1.0)) / 2
    centred = np.where(used, logs - (logs[used].mean() if used.any() else 0.0), 0.0)
    factors: Array = np.exp(np.clip(centred, -np.log(_LARGEST), np.log(_LARGEST)))
    return factors


def _scale_constant(node: ir.Node, place: int, factors: Array) -> None:
    value = node.inputs[place] if len(node.inputs) > place else None
    if value is not None:
        scaled = (np.asarray(read_constant(value), np.float64) * factors).astype(np.float32)
        node.replace_input_with(place, Patch(node).add_constant(scaled, str(value.name)))
