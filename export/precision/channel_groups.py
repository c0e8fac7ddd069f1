"""Which channels of a graph may be divided by a factor so that the graph computes the same.

What makes a channel takes the division into its constants, what reads it multiplies it back in its weights, and between
them the factor passes through everything that is positively homogeneous channel by channel: f(x / s) = f(x) / s for
s > 0. That holds for rectifiers, pooling, interpolation and borders, and for what moves channels about. Channels that
are added must have one factor. So channels fall into groups of one factor each, and some groups are fixed: their factor
is 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from ..passes import Array, read_attribute, read_constant, read_shape

_FIXED = 0
"""The group whose factor is 1."""
_Ids: TypeAlias = Array
"""int64 (channels,): the node of each channel in a forest."""


class ChannelGroups:
    """The channels of every tensor (N, C, ...) of a graph in groups of one factor each."""

    def __init__(self, model: ir.Model) -> None:
        self._parents = np.zeros(1, np.int64)
        self._channels: dict[ir.Value, _Ids] = {}
        for value in (*model.graph.inputs, *(made for node in model.graph for made in node.outputs)):
            self._take(value)
        for node in model.graph:
            self._join(node)
        for value in model.graph.outputs:
            self._fix(value)

    def find(self, value: ir.Value | None) -> _Ids:
        """The group of each channel of a tensor, int64 (channels,): 0 for fixed ones; empty for other tensors."""
        ids = self._take(value)
        while (above := self._parents[ids]).tolist() != ids.tolist():
            ids = above
        return ids

    @property
    def count(self) -> int:
        """Above every number of a group."""
        return len(self._parents)

    def _take(self, value: ir.Value | None) -> _Ids:
        shape = read_shape(value)
        if value is None or value.is_initializer() or len(shape) < 3 or not isinstance(shape[1], int):
            return np.zeros(0, np.int64)
        if value not in self._channels:
            first = len(self._parents)
            ids = np.arange(first, first + shape[1])
            self._parents = np.concatenate([self._parents, ids])
            self._channels[value] = ids
            if value.producer() is None:
                self._parents[ids] = _FIXED
        return self._channels[value]

    def _fix(self, value: ir.Value | None) -> None:
        self._unite(self.find(value), np.zeros(len(self._take(value)), np.int64))

    def _unite(self, one: _Ids, other: _Ids) -> None:
        for first, second in zip(one.tolist(), other.tolist(), strict=True):
            roots = sorted((self._root(first), self._root(second)))
            self._parents[roots[1]] = roots[0]

    def _root(self, number: int) -> int:
        while (above := int(self._parents[number])) != number:
            self._parents[number] = self._parents[above]
            number = above
        return number

    def _join(self, node: ir.Node) -> None:
        rule = _RULES.get(node.op_type) if node.domain == "" and len(node.outputs) == 1 else None
        if rule is None or not rule(self, node):
            for value in (*node.inputs, *node.outputs):
                self._fix(value)

    def _join_layer(self, node: ir.Node) -> bool:
        """Absorbs the factors of its input in its weights, and those of its output in weights and bias."""
        return can_absorb(node)

    def _join_norm(self, node: ir.Node) -> bool:
        """Absorbs the factors of its output in scale and bias. What it adds to variances is no factor of its input."""
        self._fix(node.inputs[0])
        return all(read_constant(value) is not None for value in node.inputs[1:3])

    def _join_homogeneous(self, node: ir.Node) -> bool:
        return self._join_channels(node.inputs[0], node.outputs[0])

    def _join_channels(self, one: ir.Value | None, other: ir.Value | None) -> bool:
        first, second = self._take(one), self._take(other)
        if not len(first) or len(first) != len(second):
            return False
        self._unite(first, second)
        return True

    def _join_slope(self, node: ir.Node) -> bool:
        return read_constant(node.inputs[1]) is not None and self._join_homogeneous(node)

    def _join_pad(self, node: ir.Node) -> bool:
        pads = read_constant(node.inputs[1])
        rank = len(read_shape(node.inputs[0]))
        if pads is None or len(pads) != 2 * rank or pads.reshape(2, rank)[:, :2].any():
            return False
        filling = node.inputs[2] if len(node.inputs) > 2 else None
        constant = read_attribute(node, "mode", "constant") == "constant" and filling is not None
        return not (constant and read_constant(filling) != 0) and self._join_homogeneous(node)

    def _join_resize(self, node: ir.Node) -> bool:
        return read_attribute(node, "extrapolation_value", 0.0) == 0.0 and self._join_homogeneous(node)

    def _join_concat(self, node: ir.Node) -> bool:
        axis, rank = read_attribute(node, "axis"), len(read_shape(node.outputs[0]))
        parts, whole = [self._take(value) for value in node.inputs], self._take(node.outputs[0])
        if not all(map(len, parts)) or axis % max(rank, 1) == 0:
            return False
        if axis % rank > 1:
            return all(self._join_channels(value, node.outputs[0]) for value in node.inputs)
        joined = np.concatenate(parts)
        if len(joined) != len(whole):
            return False
        self._unite(joined, whole)
        return True

    def _join_shuffle(self, node: ir.Node) -> bool:
        many, few = self._take(node.inputs[0]), self._take(node.outputs[0])
        block = read_attribute(node, "blocksize") ** 2
        if not len(few) or len(many) != block * len(few):
            return False
        rows = many.reshape(block, -1) if read_attribute(node, "mode", "DCR") == "DCR" else many.reshape(-1, block).T
        for row in rows:
            self._unite(row, few)
        return True

    def _join_sum(self, node: ir.Node) -> bool:
        """Of two tensors. Constants would have to be divided: what they are added to is fixed."""
        return all(self._join_channels(value, node.outputs[0]) for value in node.inputs)


_RULES: Mapping[str, Callable[[ChannelGroups, ir.Node], bool]] = {
    **dict.fromkeys(("Conv", "ConvTranspose"), ChannelGroups._join_layer),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), ChannelGroups._join_norm),
    **dict.fromkeys(("Relu", "LeakyRelu", "Identity", "MaxPool", "AveragePool"), ChannelGroups._join_homogeneous),
    **dict.fromkeys(("Add", "Sub"), ChannelGroups._join_sum),
    "PRelu": ChannelGroups._join_slope,
    "Pad": ChannelGroups._join_pad,
    "Resize": ChannelGroups._join_resize,
    "Concat": ChannelGroups._join_concat,
    "DepthToSpace": ChannelGroups._join_shuffle,
}
"""Operator -> joins the channels of what it reads and makes; returns False if they are to be fixed."""


def can_absorb(node: ir.Node) -> bool:
    """Whether a node is a convolution without groups, whose weight and bias are constants."""
    constant = all(read_constant(value) is not None for value in node.inputs[1:] if value is not None)
    layer = node.op_type in ("Conv", "ConvTranspose") and node.domain == ""
    return layer and constant and read_attribute(node, "group", 1) == 1
