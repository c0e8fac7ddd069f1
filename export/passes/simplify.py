"""What does not need a generator's structure to be seen: constants, padding, operations without effect."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import CommonSubexpressionEliminationPass, RemoveUnusedNodesPass
from onnxscript.optimizer import fold_constants
from onnxscript.rewriter import rewrite

from .base import Pass, outline_graph
from .graph import Patch, find_producer, find_sole_user, read_attribute, read_constant

_MERGING = ("constant", "edge")
"""Modes in which padding twice is padding once by the sum; a reflection of a reflection is none."""


def simplify_graph(model: ir.Model) -> int:
    """Constant folding and the common rules of onnxscript; equal computations are done once."""
    before = outline_graph(model)
    fold_constants(model)
    rewrite(model)
    CommonSubexpressionEliminationPass()(model)
    return int(outline_graph(model) != before)


def drop_empty_updates(model: ir.Model) -> int:
    """ScatterND that writes nothing becomes what it would write to. The exporter makes it of assignments to empty
    slices, as in the masks of shifted windows, and OpenVINO rejects it."""
    count = 0
    for node in list(model.graph):
        if node.op_type != "ScatterND" or node.domain != "" or node.outputs[0].is_graph_output():
            continue
        known = [array for array in map(read_constant, node.inputs[1:]) if array is not None]
        if all(array.size for array in known):
            continue
        ir.convenience.replace_all_uses_with(node.outputs[0], node.inputs[0])  # type: ignore[arg-type]
        model.graph.remove(node, safe=True)
        count += 1
    if count:
        RemoveUnusedNodesPass()(model)
    return count


def merge_pads(model: ir.Model) -> int:
    """Pad -> Pad in the same mode becomes one."""
    count = 0
    for node in list(model.graph):
        first = find_producer(node.inputs[0], "Pad") if node.op_type == "Pad" and node.domain == "" else None
        if first is None or find_sole_user(first.outputs[0]) is not node or not _can_merge(first, node):
            continue
        one, two = read_constant(first.inputs[1]), read_constant(node.inputs[1])
        if one is None or two is None or len(one) != len(two) or min(*one, *two) < 0:
            continue
        amounts = Patch(node).add_constant(one + two, f"{node.inputs[1].name}.merged")  # type: ignore[union-attr]
        node.replace_input_with(0, first.inputs[0])
        node.replace_input_with(1, amounts)
        count += 1
    return count


def _can_merge(one: ir.Node, other: ir.Node) -> bool:
    modes = {read_attribute(node, "mode", "constant") for node in (one, other)}
    if len(modes) > 1 or not modes <= set(_MERGING) or any(len(n.inputs) > 3 and n.inputs[3] for n in (one, other)):
        return False
    given = [node.inputs[2] if len(node.inputs) > 2 else None for node in (one, other)]
    fillings = [np.zeros(()) if value is None else read_constant(value) for value in given]
    return fillings[0] is not None and fillings[1] is not None and bool(fillings[0] == fillings[1])


SIMPLIFY = Pass(
    "simplify", "constants are folded, convolutions pad their zeros, what has no effect goes", simplify_graph
)
PADS = Pass("pads", "padding twice becomes padding once", merge_pads)
