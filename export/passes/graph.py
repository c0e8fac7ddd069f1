"""What graph passes are written with: reading nodes, and putting new ones in the place of old ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Array = NDArray[Any]


def constant(value: ir.Value | None) -> Array | None:
    """What a value always is: an initializer of the graph, or the output of a Constant node; None for all others."""
    found = None if value is None else ir.convenience.get_const_tensor(value)
    return None if found is None else found.numpy()


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """The value of an attribute, text as str, lists as tuples."""
    found = node.attributes.get(name)
    return default if found is None else found.value


def producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """The node that makes a value, if it is of this type."""
    node = None if value is None else value.producer()
    return node if node is not None and node.domain == "" and node.op_type == op_type else None


def sole_user(value: ir.Value) -> ir.Node | None:
    """The one node that uses a value, once; None when there are more or fewer, or when it is an output of the graph."""
    uses = tuple(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def product(node: ir.Node | None) -> tuple[Array, Array] | None:
    """Weight (out, in) and bias (out,) of a Gemm x @ weight.T + bias with constant ones; None for any other node."""
    if node is None or node.domain != "" or node.op_type != "Gemm" or attribute(node, "transA", 0):
        return None
    weight, given = constant(node.inputs[1]), node.inputs[2] if len(node.inputs) > 2 else None
    bias = np.zeros(1) if given is None else constant(given)
    if weight is None or bias is None or {attribute(node, name, 1.0) for name in ("alpha", "beta")} != {1.0}:
        return None
    turned = weight if attribute(node, "transB", 0) else weight.T
    if bias.size not in (1, len(turned)) or any(side != 1 for side in bias.shape[:-1]):
        return None  # a whole matrix is added
    return turned, np.broadcast_to(bias.ravel(), len(turned))


def sides(value: ir.Value | None) -> tuple[int | None, ...]:
    """The shape as far as it is known, None for sides that are free; () when even the rank is unknown."""
    if value is None or value.shape is None:
        return ()
    return tuple(side if isinstance(side, int) else None for side in value.shape)


class Patch:
    """New nodes, in the order in which they are made, that will stand in front of `anchor`."""

    def __init__(self, anchor: ir.Node) -> None:
        assert anchor.graph is not None
        self._anchor, self._graph = anchor, anchor.graph

    def op(self, op_type: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Value:
        """A node with one output, which is returned."""
        node = ir.node(op_type, inputs, attributes)
        self._graph.insert_before(self._anchor, node)
        return node.outputs[0]

    def like(self, node: ir.Node, inputs: Sequence[ir.Value | None], **changed: Any) -> ir.Value:
        """A node with the type and the attributes of another, but for those that are given."""
        kept = {name: attr for name, attr in node.attributes.items() if name not in changed}
        return self.op(node.op_type, inputs, **kept, **changed)

    def constant(self, array: Array, name: str) -> ir.Value:
        """An initializer of the graph. The name is kept readable, and made unique by a number where it must be."""
        graph = self._graph
        assert isinstance(graph, ir.Graph)
        free = name
        number = 1
        while free in graph.initializers:
            number += 1
            free = f"{name}.{number}"
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
