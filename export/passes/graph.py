"""What graph passes are written with: reading nodes, and putting new ones in the place of old ones."""

from __future__ import annotations

from collections.abc import Container, Sequence
from itertools import chain, count
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from .node_names import find_module_path, set_node_name

Array = NDArray[Any]

_REPEATING = (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"), ("half_pixel", "round_prefer_ceil"))
"""(coordinate_transformation_mode, nearest_mode) of Resize that repeat every pixel when the factor is 2."""


def read_constant(value: ir.Value | None) -> Array | None:
    """What a value always is: an initializer of the graph, or the output of a Constant node; None for all others."""
    found = None if value is None else ir.convenience.get_const_tensor(value)
    return None if found is None else found.numpy()


def read_attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """The value of an attribute, text as str, lists as tuples."""
    found = node.attributes.get(name)
    return default if found is None else found.value


def find_producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """The node that makes a value, if it is of this type."""
    node = None if value is None else value.producer()
    return node if node is not None and node.domain == "" and node.op_type == op_type else None


def find_sole_user(value: ir.Value) -> ir.Node | None:
    """The one node that uses a value, once; None when there are more or fewer, or when it is an output of the graph."""
    uses = tuple(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def read_gemm(node: ir.Node | None) -> tuple[Array, Array] | None:
    """Weight (out, in) and bias (out,) of a Gemm x @ weight.T + bias with constant ones; None for any other node."""
    if node is None or node.domain != "" or node.op_type != "Gemm" or read_attribute(node, "transA", 0):
        return None
    weight, given = read_constant(node.inputs[1]), node.inputs[2] if len(node.inputs) > 2 else None
    bias = np.zeros(1) if given is None else read_constant(given)
    if weight is None or bias is None or {read_attribute(node, name, 1.0) for name in ("alpha", "beta")} != {1.0}:
        return None
    turned = weight if read_attribute(node, "transB", 0) else weight.T
    if bias.size not in (1, len(turned)) or any(side != 1 for side in bias.shape[:-1]):
        return None  # a whole matrix is added
    return turned, np.broadcast_to(bias.ravel(), len(turned))


def read_shape(value: ir.Value | None) -> tuple[int | None, ...]:
    """The shape as far as it is known, None for sides that are free; () when even the rank is unknown."""
    if value is None or value.shape is None:
        return ()
    return tuple(side if isinstance(side, int) else None for side in value.shape)


def is_nearest_2x(resize: ir.Node) -> bool:
    """Whether a Resize repeats every pixel of NCHW pictures twice in both directions."""
    scales = read_constant(resize.inputs[2]) if len(resize.inputs) > 2 else None
    rule = (
        read_attribute(resize, "coordinate_transformation_mode", "half_pixel"),
        read_attribute(resize, "nearest_mode", "round_prefer_floor"),
    )
    nearest = read_attribute(resize, "mode", "nearest") == "nearest" and read_attribute(resize, "axes") is None
    return nearest and rule in _REPEATING and scales is not None and scales.tolist() == [1.0, 1.0, 2.0, 2.0]


def read_padding(node: ir.Node) -> tuple[int, ...]:
    """Of a convolution of pictures: top, left, bottom, right."""
    return tuple(read_attribute(node, "pads", (0, 0, 0, 0)))


def is_plain_conv(node: ir.Node, strides: tuple[int, int]) -> bool:
    """Of pictures, without dilation, with these strides, and with the padding written out."""
    return (
        node.domain == ""
        and tuple(read_attribute(node, "strides", (1, 1))) == strides
        and set(read_attribute(node, "dilations", (1, 1))) == {1}
        and read_attribute(node, "auto_pad", "NOTSET") == "NOTSET"
    )


def _find_free_name(name: str, used: Container[str | None], mark: str) -> str:
    """The name, with a number from 2 behind it where it must be made unique."""
    numbered = (f"{name}{mark}{number}" for number in count(2))
    return next(free for free in chain([name], numbered) if free not in used)


class Patch:
    """New nodes, in the order in which they are made, that will stand in front of `anchor`."""

    def __init__(self, anchor: ir.Node) -> None:
        assert anchor.graph is not None
        self._anchor, self._graph = anchor, anchor.graph
        self._names = {node.name for node in anchor.graph}

    def add_op(self, op_type: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Value:
        """A node with one output, which is returned. It is named after the module of the anchor."""
        node = ir.node(op_type, inputs, attributes)
        if module := find_module_path(self._anchor):
            set_node_name(node, _find_free_name(f"{module}/{op_type}", self._names, "_"))
            self._names.add(node.name)
        self._graph.insert_before(self._anchor, node)
        return node.outputs[0]

    def add_copy(self, node: ir.Node, inputs: Sequence[ir.Value | None], **changed: Any) -> ir.Value:
        """A node with the type and the attributes of another, but for those that are given."""
        kept = {name: attr for name, attr in node.attributes.items() if name not in changed}
        return self.add_op(node.op_type, inputs, **kept, **changed)

    def add_constant(self, array: Array, name: str) -> ir.Value:
        """An initializer of the graph. The name is kept readable, and made unique by a number where it must be."""
        graph = self._graph
        assert isinstance(graph, ir.Graph)
        free = _find_free_name(name, graph.initializers, ".")
        value = ir.Value(name=free, const_value=ir.tensor(np.asarray(array, order="C"), name=free))
        value.dtype = ir.DataType.from_numpy(array.dtype)
        value.shape = ir.Shape(array.shape)
        graph.register_initializer(value)
        return value

    def replace(self, old: ir.Value, new: ir.Value) -> None:
        """Everything that used `old` uses `new`, which takes over its name, type and shape. What made `old` stays until
        the graph is tidied."""
        new.shape, new.type = old.shape, old.type
        output = old.is_graph_output()
        if output or new.name is None:
            new.name, old.name = old.name, None
        ir.convenience.replace_all_uses_with([old], [new], replace_graph_outputs=True)
