"""Graph passes: what one is, and how a sequence of them is applied and its promises checked.

A pass rewrites a graph into one that computes the same function of real numbers (or the function that its summary
states) with less work. Whether the pictures are still the same is not for passes to say: `verify` proves every variant.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes.common import (
    CheckerPass,
    DeduplicateInitializersPass,
    NameFixPass,
    RemoveUnusedNodesPass,
    ShapeInferencePass,
)

from ganrt.errors import VerificationError


@dataclass(frozen=True)
class Pass:
    """A rewriting of graphs, with what it promises."""

    name: str
    """As the record of a variant lists it."""
    summary: str
    """What becomes of what, in one line."""
    rewrite: Callable[[ir.Model], int]
    """Rewrites in place and returns how many places it changed; 0 promises that nothing is different. Inputs and
    outputs keep their names, types and shapes."""


def apply_passes(model: ir.Model, passes: Sequence[Pass]) -> tuple[ir.Model, tuple[str, ...]]:
    """Run passes over a copy of a model; dead nodes and weights go.

    Returns the copy, and the names of the passes that changed something. Raises VerificationError when a pass breaks a
    promise or leaves a graph that is not valid ONNX: a defect of ganrt, and never a reason to ship the graph.
    """
    model = model.clone()
    applied = []
    for step in passes:
        interface, before = _read_interface(model), outline_graph(model)
        changed = step.rewrite(model)
        if not changed and outline_graph(model) != before:
            raise VerificationError(
                f"the pass {step.name} reported no change, but changed the graph; please report this"
            )
        if not changed:
            continue
        applied.append(step.name)
        _clean_up(model)
        pairs = zip(interface, _read_interface(model), strict=True)
        if any(old[:2] != new[:2] or old[2] not in (None, new[2]) for old, new in pairs):
            raise VerificationError(f"the pass {step.name} changed the inputs or outputs; please report this")
    if applied:
        DeduplicateInitializersPass()(model)
        NameFixPass()(model)
        _check_graph(model, applied)
    return model, tuple(applied)


def _clean_up(model: ir.Model) -> None:
    """Drop what nothing uses, and give the new values shapes, which later passes look at."""
    RemoveUnusedNodesPass()(model)
    NameFixPass()(model)
    ShapeInferencePass()(model)


def _check_graph(model: ir.Model, applied: Sequence[str]) -> None:
    try:
        CheckerPass()(model)
    except Exception as error:  # onnx's checker has exceptions of its own, and ir's passes wrap them
        raise VerificationError(
            f"the passes {', '.join(applied)} made a graph that is not valid ONNX: {error}"
        ) from error


def _read_interface(model: ir.Model) -> list[tuple[Hashable, ...]]:
    """(name, type, shape or None) of all inputs and outputs."""
    values = [*model.graph.inputs, *model.graph.outputs]
    return [(v.name, v.dtype, None if v.shape is None else str(v.shape)) for v in values]


def outline_graph(model: ir.Model) -> list[Hashable]:
    """Every node with its type, attributes and values: equal for graphs that are the same but for their weights."""
    return [
        (
            node.op_type,
            tuple(map(id, node.inputs)),
            tuple(map(id, node.outputs)),
            tuple(map(str, node.attributes.values())),
        )
        for node in model.graph
    ]
