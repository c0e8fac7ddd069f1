"""Cross-layer equalization of the channels that share 8 bits (Nagel et al., "Data-Free Quantization Through Weight
Equalization and Bias Correction", 2019, section 4.1).

Channels that `ChannelGroups` finds may be divided by a factor each, and the weights that read them are multiplied by
it. The graph computes the same; a tensor whose channels are about equally large loses less in 8 bits.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from ..passes import Array, Patch, read_constant
from .calibration import QuantizationRange
from .channel_groups import ChannelGroups, can_absorb
from .int8 import find_layers

_LARGEST = 16.0
"""Largest factor of a channel, and of its inverse."""
_READING, _MAKING = {"Conv": 1, "ConvTranspose": 0}, {"Conv": 0, "ConvTranspose": 1}
"""Operator -> axis of the weight that runs over the channels of the input, and of the output."""


def equalize_channels(model: ir.Model, ranges: Mapping[str, QuantizationRange]) -> ir.Model:
    """Return a copy of the graph that computes the same function from more equal channels; the graph itself where no
    channels can be divided.

    Args:
        ranges: name of the input tensor of a convolution -> what was measured on it.

    A factor is the square root of a channel's largest value over the largest weight that reads it: values and weights
    get equal shares of the differences between channels. Where several tensors have the channel, it is the geometric
    mean of what each would choose.
    """
    copy = model.clone()
    groups = ChannelGroups(copy)
    factors = _choose_factors(copy, groups, ranges)
    if not (factors != 1).any():
        return model
    for node in list(copy.graph):
        _rescale_node(node, groups, factors)
    return copy


def _choose_factors(model: ir.Model, groups: ChannelGroups, ranges: Mapping[str, QuantizationRange]) -> Array:
    """The factor of each group."""
    total, count = np.zeros(groups.count), np.zeros(groups.count)
    for layer in find_layers(model):
        found = groups.find(layer.source)
        if layer.name in ranges and found.any():
            logs = _compare_channels(ranges[layer.name].peaks, _find_largest_weights(layer.nodes))
            np.add.at(total, found, logs)
            np.add.at(count, found, 1)
    count[0] = 0
    mean = np.where(count > 0, total / np.maximum(count, 1), 0.0)
    factors: Array = np.exp(np.clip(mean, -np.log(_LARGEST), np.log(_LARGEST)))
    return factors


def _find_largest_weights(nodes: tuple[ir.Node, ...]) -> Array:
    """The largest weight that reads each channel."""
    found = []
    for node in nodes:
        weight = np.moveaxis(np.abs(np.asarray(read_constant(node.inputs[1]))), _READING[node.op_type], 0)
        found.append(weight.reshape(len(weight), -1).max(axis=1))
    largest: Array = np.max(found, axis=0)
    return largest


def _compare_channels(values: Array, weights: Array) -> Array:
    """Logarithm of the factor of each channel of a tensor."""
    used = (values > 0) & (weights > 0)
    logs: Array = np.log(np.where(used, values, 1.0) / np.where(used, weights, 1.0)) / 2
    centred: Array = np.where(used, logs - (logs[used].mean() if used.any() else 0.0), 0.0)
    return centred


def _rescale_node(node: ir.Node, groups: ChannelGroups, factors: Array) -> None:
    """Multiply the weights by the factors of the input, and divide weights and bias by those of the output."""
    made = factors[groups.find(node.outputs[0])]
    if can_absorb(node):
        _scale_constant(node, 1, factors[groups.find(node.inputs[0])], _READING[node.op_type])
        _scale_constant(node, 1, 1 / made, _MAKING[node.op_type])
        _scale_constant(node, 2, 1 / made)
    elif node.op_type in ("BatchNormalization", "InstanceNormalization") and node.domain == "":
        _scale_constant(node, 1, 1 / made)
        _scale_constant(node, 2, 1 / made)


def _scale_constant(node: ir.Node, place: int, factors: Array, axis: int = 0) -> None:
    value = node.inputs[place] if len(node.inputs) > place else None
    if value is not None and (factors != 1).any():
        given = np.asarray(read_constant(value), np.float64)
        along = factors.reshape([-1 if k == axis else 1 for k in range(given.ndim)])
        node.replace_input_with(place, Patch(node).add_constant((given * along).astype(np.float32), str(value.name)))
