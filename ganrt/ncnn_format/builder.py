"""What the conversions of operators share: they read a graph and add layers to a network."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from ganrt.errors import BundleError
from ganrt.feeds import Array
from ganrt.ncnn_format.graph import Graph
from ganrt.ncnn_format.network import Layer, Network, Parameter, Weights
from ganrt.ncnn_format.nodes import Node
from ganrt.onnx_shapes import Shape

_MOST_SIDES = 4
"""A blob has at most four sides: channels, depth, height and width."""
_SIDES = {1: (0,), 2: (1, 0), 3: (2, 1, 0), 4: (2, 11, 1, 0)}
"""Number of sides -> the parameters of `Reshape` and `MemoryData` for them, outermost first."""
_NOT_IN_NAMES = re.compile(r"[\s#]")
"""White space ends a name; `#` marks names that are made here."""


class Builder:
    """Adds the layers of a graph to a network.

    A blob is a tensor without its batch side: (1, C, H, W) is a blob of channels, height and width.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.network = Network()
        self._same: dict[str, str] = {}
        """Name of a tensor -> the blob that holds it."""
        self._names: set[str] = set()
        """Names of the blobs of tensors, each of one tensor or of tensors of the same values."""
        self.fused: set[str] = set()
        """Outputs of activations that the layer before them computes."""

    def blob(self, name: str) -> str:
        """Return the blob that holds a tensor."""
        if name not in self._same:
            made = _NOT_IN_NAMES.sub("_", name)
            while made in self._names:
                made += "_"
            self._names.add(made)
            self._same[name] = made
        return self._same[name]

    def pass_on(self, node: Node, name: str) -> None:
        """Let the output of a node be the blob of another tensor, as it is."""
        self._same[node.output] = self.blob(name)

    def add(
        self,
        kind: str,
        node: Node,
        inputs: Sequence[str],
        parameters: Mapping[int, Parameter] | None = None,
        *weights: Weights,
        outputs: Sequence[str] | None = None,
    ) -> None:
        """Add a layer.

        Args:
            inputs: names of tensors.
            outputs: names of tensors; the first output of the node, if they are not given.
        """
        made = tuple(map(self.blob, outputs or (node.output,)))
        layer = Layer(kind, made[0], tuple(map(self.blob, inputs)), made, parameters or {}, weights)
        self.network.layers.append(layer)

    def add_constant(self, array: Array) -> str:
        """Add a blob of constant values, at most four sides. Returns its name."""
        name = f"constant#{sum(layer.kind == 'MemoryData' for layer in self.network.layers)}"
        parameters = dict(zip(_SIDES[array.ndim], array.shape, strict=True))
        self.network.layers.append(Layer("MemoryData", name, (), (name,), parameters, (Weights(array),)))
        self._same[name] = name
        return name

    def constant(self, node: Node, number: int) -> Array | None:
        """Return the constant that an input of a node is; None for an input that is computed or left out."""
        name = node.inputs[number] if number < len(node.inputs) else ""
        return self.graph.constants.get(name)

    def weights(self, node: Node, number: int, what: str) -> Array:
        """Return the constant that an input of a node is, as float32. Raises BundleError if it is computed."""
        found = self.constant(node, number)
        if found is None:
            raise reject(node, f"its {what} is computed in the graph")
        return found.astype(np.float32)

    def check_channels(self, node: Node, wanted: int) -> None:
        """Raise BundleError unless the input of a node has so many channels, or features: ncnn would read beyond its
        weights."""
        shape = self.shape(node.inputs[0])
        found = shape[1] if len(shape) > 1 else None
        if found != wanted:
            raise reject(node, f"it takes {wanted} channels, and its input has {found or 'an unknown number'}")

    def numbers(self, node: Node, number: int, what: str) -> list[int]:
        """Return a constant input as integers. Raises BundleError if it depends on the picture's size."""
        found = self.constant(node, number)
        if found is None:
            raise reject(node, f"its {what} depends on the size of the picture")
        return [int(value) for value in found.ravel()]

    def sides(self, name: str) -> int:
        """Return the number of sides of a tensor, that of the batch included. Raises BundleError if it is not known."""
        return len(self.shape(name))

    def shape(self, name: str) -> Shape:
        """Return the shape of a tensor. Raises BundleError if not even the number of its sides is known."""
        if name in self.graph.constants:
            return self.graph.constants[name].shape
        if name not in self.graph.shapes:
            raise BundleError(f"the number of sides of {name} is not known")
        return self.graph.shapes[name]

    def add_reshape(self, node: Node, name: str, shape: Shape) -> None:
        """Add a layer that arranges the values of a tensor in another shape, batch side included. Raises BundleError if
        more than one side is not known, or there are too many."""
        sides = [1 if side is None else side for side in shape[1:]] or [1]
        free = [place for place, side in enumerate(shape[1:]) if side is None]
        if len(free) > 1 or len(sides) > _MOST_SIDES or (shape and shape[0] != 1):
            raise reject(node, f"it makes the shape {_format_shape(shape)}")
        for place in free:
            sides[place] = -1
        if self.shape(name)[1:] == shape[1:] and None not in shape:
            self.pass_on(node, name)
        else:
            self.add("Reshape", node, [name], dict(zip(_SIDES[len(sides)], sides, strict=True)))

    def axis(self, node: Node, axis: int, name: str) -> int:
        """Return an axis of a tensor as an axis of its blob. Raises BundleError for that of the batch."""
        axis = axis if axis >= 0 else axis + self.sides(name)
        if axis == 0:
            raise reject(node, "it works along the batch")
        return axis - 1


Converter: TypeAlias = Callable[[Builder, Node], None]
"""Adds the layers of a node. Raises BundleError for what no layer computes."""


def reject(node: Node, why: str) -> BundleError:
    """Return the error for a node that cannot be converted."""
    return BundleError(f"ncnn has no layer for {node}: {why}")


def _format_shape(shape: Shape) -> str:
    return " x ".join("?" if side is None else str(side) for side in shape)
