"""Give the graph of an ONNX file the inputs and the output of a Spec. Where the file has channels last, no batch, or
labels in 32 bits, nodes at both ends of the graph bridge the difference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from ganrt.errors import RequestError
from ganrt.spec import Image, Input, Label, Latent, Spec

_CHANNELS = (1, 3)
_TO_LAST, _TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
_Step: TypeAlias = tuple[str, dict[str, Any], int | None]
"""A node to add: operator, attributes, and the axis that a further input names, if there is one."""
"""NCHW to NHWC, and back."""
_BATCH = "batch"


def fit_interface(model: ir.Model, output: str, spec: Spec, batch: int | None = None) -> ir.Model:
    """Return a copy of a graph with the inputs of the Spec, in its order and under its names, and its output alone.

    Args:
        output: name of the output that is the image.
        batch: that the graph is for; None for any.

    What the file says of other shapes is forgotten: they follow from those of the inputs. Raises RequestError, naming
    it, for an input that cannot be what the Spec says.
    """
    model = model.clone()
    graph = model.graph
    graph.outputs[:] = [value for value in graph.outputs if value.name == output]
    RemoveUnusedNodesPass()(model)
    for node in graph.all_nodes():
        for made in node.outputs:
            made.shape = None if made is not graph.outputs[0] else made.shape
    taken = {spec.output.name, *(item.name for item in spec.inputs)}
    for value in [value for node in graph.all_nodes() for value in node.outputs] + list(graph.initializers.values()):
        if value.name in taken:
            value.name = f"{value.name}.inner"
    for value, item in zip(list(graph.inputs), spec.inputs, strict=True):
        _fit_input(model, value, item, spec, batch)
    _fit_output(model, spec)
    return model


def _fit_input(model: ir.Model, value: ir.Value, item: Input, spec: Spec, batch: int | None) -> None:
    """Put the input of the Spec in the place of one of the graph."""
    sides = None if value.shape is None else list(value.shape)
    whole, dtype = isinstance(item, Label) and item.encoding == "index", value.dtype or ir.DataType.FLOAT
    allowed = (ir.DataType.INT64, ir.DataType.INT32) if whole else (ir.DataType.FLOAT,)
    wanted = [batch or _BATCH, *list_sides(item)]
    missing = 0 if sides is None else len(wanted) - len(sides)
    if dtype not in allowed or missing not in (0, 1):
        raise RequestError(f"the input {value.name} ({dtype} {value.shape or ''}) cannot be {item.name}, {item}")
    if missing and not spec.single:
        raise RequestError(f"the input {value.name} has no batch dimension; export one image at a time: --batch 1")
    given = ir.Value(name=item.name, type=ir.TensorType(allowed[0]), shape=ir.Shape(wanted))
    nodes: list[_Step] = []
    if dtype is ir.DataType.INT32:
        nodes.append(("Cast", {"to": int(dtype)}, None))
    if isinstance(item, Image) and sides is not None and has_channels_last([*[None] * missing, *sides], item.channels):
        nodes.append(("Transpose", {"perm": list(_TO_LAST)}, None))
    if missing:
        nodes.append(("Squeeze", {}, 0))
    graph = model.graph
    graph.inputs[list(graph.inputs).index(value)] = given
    first, made = graph[0], given
    for node in _make_nodes(model, nodes, given):
        graph.insert_before(first, node)
        made = node.outputs[0]
    ir.convenience.replace_all_uses_with(value, made)


def _fit_output(model: ir.Model, spec: Spec) -> None:
    """Put an output of the form of the Spec in the place of the only one."""
    graph = model.graph
    made = graph.outputs[0]
    sides = [None] * 4 if made.shape is None else list(made.shape)
    missing = 1 if spec.single and len(sides) == 3 else 0
    nodes: list[_Step] = [("Unsqueeze", {}, 0)] if missing else []
    if has_channels_last([*[None] * missing, *sides], spec.output.channels):
        nodes.append(("Transpose", {"perm": list(_TO_FIRST)}, None))
    made.shape = None
    for node in _make_nodes(model, nodes, made):
        graph.append(node)
        made = node.outputs[0]
    made.name, made.type = spec.output.name, ir.TensorType(ir.DataType.FLOAT)
    graph.outputs[0] = made


def _make_nodes(model: ir.Model, chain: Sequence[_Step], value: ir.Value) -> Iterator[ir.Node]:
    """A chain of nodes behind a value."""
    for operator, attributes, axis in chain:
        inputs = [value]
        if axis is not None:
            name = f"{value.name}.{operator}.axes"
            axes = ir.Value(name=name, const_value=ir.tensor(np.array([axis], np.int64), name=name))
            model.graph.register_initializer(axes)
            inputs.append(axes)
        node = ir.node(operator, inputs, attributes, name=f"{value.name}/{operator}")
        node.outputs[0].name = f"{value.name}.{operator}"
        value = node.outputs[0]
        yield node


def has_channels_last(sides: Sequence[object], channels: int | None = None) -> bool:
    """Whether four sides are those of NHWC.

    Args:
        channels: of the image, if they are known.
    """
    usual = _CHANNELS if channels is None else (*_CHANNELS, channels)
    return len(sides) == 4 and sides[3] in usual and sides[1] not in usual


def list_sides(item: Input) -> list[int | str]:
    """The sides of an input but for the batch, with names for those that are free."""
    if isinstance(item, Latent):
        return list(item.shape)
    if isinstance(item, Image):
        return [item.channels, *(item.size or (f"{item.name}_height", f"{item.name}_width"))]
    return [item.classes] if isinstance(item, Label) and item.encoding == "one_hot" else []
