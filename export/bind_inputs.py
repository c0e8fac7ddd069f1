"""A graph with some inputs fixed: all that depends on them alone is computed once and for all.

What they lead to is the same for every image, so it is kept as a single row, which broadcasts. Conditional norms of a
fixed class become constant norms, which other passes fold into convolutions.
"""

from __future__ import annotations

import json

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, ShapeInferencePass

from ganrt.bundle import METADATA_KEY
from ganrt.feeds import Feeds
from ganrt.spec import Spec

from .passes import Array, Patch, read_attribute, read_constant, read_gemm, simplify_graph
from .precision import Evaluator

_BROADCASTING = ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Where", "Expand")


def bind_inputs(model: ir.Model, rows: Feeds, spec: Spec) -> ir.Model:
    """A copy without the inputs that `rows` gives the values of.

    Args:
        rows: name of an input -> its value for one image.
        spec: of what is left; it replaces the one in the metadata.
    """
    copy = model.clone()
    graph = copy.graph
    frontier = _find_frontier(graph, [value for value in graph.inputs if value.name not in rows])
    for value, array in zip(frontier, _evaluate(model, [str(value.name) for value in frontier], rows), strict=True):
        batched = value.shape is not None and len(value.shape) > 0 and not isinstance(value.shape[0], int)
        for node in dict.fromkeys(use.node for use in value.uses()):
            if batched and node.op_type == "Concat" and _split_gemms(node, value, array):
                continue
            _replace_input(node, value, array, batched)
    for value in [value for value in graph.inputs if value.name in rows]:
        graph.inputs.remove(value)
    RemoveUnusedNodesPass()(copy)
    simplify_graph(copy)
    RemoveUnusedNodesPass()(copy)
    ShapeInferencePass()(copy)
    copy.metadata_props[METADATA_KEY] = json.dumps(spec.to_dict(), sort_keys=True)
    return copy


def _find_frontier(graph: ir.Graph, free: list[ir.Value]) -> list[ir.Value]:
    """Values that no free input has a part in, but that are used where one has."""
    varying = set(free)
    for node in graph:
        if any(value in varying for value in node.inputs):
            varying.update(node.outputs)
    used = (value for node in graph if node.outputs[0] in varying for value in node.inputs)
    made = (value for value in used if value is not None and value not in varying and read_constant(value) is None)
    return list(dict.fromkeys(made))


def _evaluate(model: ir.Model, names: list[str], rows: Feeds) -> list[Array]:
    """What some values of a graph are for one image."""
    part = model.clone()
    values = {value.name: value for node in part.graph for value in node.outputs}
    values |= {value.name: value for value in part.graph.inputs}
    given = {name: rows[name] for name in names if name in rows}
    inner = [name for name in names if name not in given]
    part.graph.outputs.clear()
    part.graph.outputs.extend(values[name] for name in inner)
    RemoveUnusedNodesPass()(part)
    for value in [value for value in part.graph.inputs if value.name not in rows]:
        part.graph.inputs.remove(value)
    found = dict(zip(inner, Evaluator(part)(rows, inner), strict=True)) if inner else {}
    return [given[name] if name in given else found[name] for name in names]


def _replace_input(node: ir.Node, value: ir.Value, array: Array, batched: bool) -> None:
    """Let a node see the row; repeated for each image if it does not broadcast rows."""
    patch, name = Patch(node), f"{value.name}.fixed"
    row = patch.add_constant(array, name)
    if batched and node.op_type not in _BROADCASTING:
        assert node.graph is not None
        free = next(item for item in node.graph.inputs if item.uses() and item is not value)
        count = patch.add_op("Shape", [free], start=0, end=1)
        rest = patch.add_constant(np.array(array.shape[1:], np.int64), f"{name}.shape")
        row = patch.add_op("Expand", [row, patch.add_op("Concat", [count, rest], axis=0)])
    for place, given in enumerate(node.inputs):
        if given is value:
            node.replace_input_with(place, row)


def _split_gemms(concat: ir.Node, value: ir.Value, array: Array) -> bool:
    """Concat of a fixed row and others -> Gemm becomes Gemm of the others, with the row's share in the bias."""
    gemms = [(use.node, read_gemm(use.node)) for use in concat.outputs[0].uses()]
    place = concat.inputs.index(value)
    sizes = [None if given is None or given.shape is None else given.shape[-1] for given in concat.inputs]
    if (
        read_attribute(concat, "axis") not in (1, -1)
        or concat.inputs.count(value) != 1
        or len(sizes) < 2
        or array.ndim != 2
    ):
        return False
    if not all(isinstance(size, int) for size in sizes) or any(found is None for _, found in gemms):
        return False
    first = sum(size for size in sizes[:place] if isinstance(size, int))
    mine = np.arange(first, first + array.shape[1])
    rest = [given for given in concat.inputs if given is not value]
    for gemm, found in gemms:
        assert found is not None
        (columns, bias), patch = found, Patch(gemm)
        share = columns[:, mine].astype(np.float64) @ array[0] + bias
        name = str(gemm.inputs[1].name)  # type: ignore[union-attr]
        source = rest[0] if len(rest) == 1 else patch.add_op("Concat", rest, axis=1)
        made = patch.add_op(
            "Gemm",
            [
                source,
                patch.add_constant(np.delete(columns, mine, axis=1), f"{name}.free"),
                patch.add_constant(share.astype(columns.dtype), f"{name}.fixed"),
            ],
            transB=1,
        )
        patch.replace(gemm.outputs[0], made)
    return True
