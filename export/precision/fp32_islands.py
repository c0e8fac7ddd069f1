"""Which operators of a graph stay in float32 when the others compute in float16, and why: by rule where samples cannot
show the danger, by measuring where they can, and then by what each does to the picture."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from ganrt.errors import VerificationError
from ganrt.fp16_emulation import RULE
from ganrt.spec import Spec

from ..passes import read_constant
from . import fp16
from .calibration import Samples
from .judge import Judge, format_share
from .magnitudes import Magnitudes, measure_magnitudes
from .sensitivity import choose_kept_layers, release_layers
from .trials import Trials

QUALITY = 45.0
"""dB that the worst picture is to reach while the graph is made; it is proven on others, by a lower threshold."""
_ROOM = 1e4
"""A tensor that reaches more on the samples stays in float32: on others it might reach the 65504 where float16 ends."""
_SMALLEST = 2.0**-14
"""Where float16 begins to lose digits: the smallest normal number."""

_NORMS = (
    "InstanceNormalization",
    "LayerNormalization",
    "GroupNormalization",
    "LpNormalization",
    "MeanVarianceNormalization",
    "RMSNormalization",
)
_SUMS = (
    "GlobalAveragePool",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMean",
    "ReduceSum",
    "ReduceSumSquare",
)
_BY_OPERATOR = {
    **dict.fromkeys(_NORMS, "adds up squares"),
    **dict.fromkeys(_SUMS, "adds up many values"),
    **dict.fromkeys(("Exp", "LogSoftmax", "Softmax"), "takes exponentials"),
    **dict.fromkeys(("Pow", "Reciprocal", "Sqrt"), "squares, roots and reciprocals leave the range soonest"),
}
"""Operator -> why it stays in float32 whatever the samples reach: on larger pictures and other inputs it reaches
more."""


class HalfGraph(NamedTuple):
    """A graph in float16, and what it was made from."""

    model: ir.Model
    """In float16, but for its islands."""
    notes: dict[str, Any]
    """What was decided, for the record."""
    source: ir.Model
    """The prepared graph, in float32."""
    islands: Collection[str]
    """Names of the nodes of both that compute in float32."""


def convert_with_fp32_islands(model: ir.Model, spec: Spec, samples: Samples, quality: float) -> HalfGraph:
    """The graph in float16 but for its islands.

    Args:
        quality: dB; where it is above QUALITY it takes its place.

    Raises VerificationError when nothing of the graph can compute in float16.
    """
    model = fp16.prepare_graph(model)
    names = [str(node.name) for node in fp16.find_convertible_nodes(model)]
    reasons = find_islands_by_rule(model, measure_magnitudes(model, samples))
    free = [name for name in names if name not in reasons]
    quality = max(quality, QUALITY)
    judge = Judge(model, spec, samples, quality)

    def find_islands(lowered: Collection[str]) -> frozenset[str]:
        return frozenset(fp16.extend_islands(model, set(names) - set(lowered), moving_alone=True))

    trials = Trials(judge, lambda islands: fp16.convert_nodes(model, islands), find_islands(free))

    def error(lowered: Collection[str]) -> float:
        return trials.measure(find_islands(lowered)).error

    def estimate(lowered: Collection[str]) -> float:
        return trials.estimate(find_islands(lowered))

    found, alone = choose_kept_layers(free, error, 1.0, estimate=estimate)
    found = release_layers(free, found, error, 1.0, estimate)
    if len(found) == len(free):
        raise VerificationError(
            f"fp16 was asked for, but no operator of this model can take it at {quality:g} dB; export it without"
        )
    for name in found:
        reasons[name] = f"{format_share(alone[name])} with it in float16"
    every = frozenset(fp16.extend_islands(model, reasons))
    made = fp16.convert_nodes(model, every)
    notes: dict[str, Any] = {
        "calibrated on": samples.origin,
        **trials.measure(every).describe(),
        "computed on the CPU": f"{RULE}; this shows overflow and rounding, not speed",
        "operators in float16": len(set(names) - every),
        "kept in float32": reasons,
    }
    if any(reason.startswith(tuple(_BY_OPERATOR.values())) for reason in reasons.values()):
        notes["kept whatever they reach there"] = "sums, squares, roots and exponentials: larger pictures reach more"
    if between := len(every - set(reasons)):
        notes["between these, in float32 too"] = between
    if lost := _count_lost_weights(model, every):
        notes["weights that become 0"] = lost
    return HalfGraph(made, notes, model, every)


def find_islands_by_rule(model: ir.Model, measured: Magnitudes) -> dict[str, str]:
    """Name of a node of a prepared graph that must stay in float32 -> why, in words."""
    sized = _find_size_values(model)
    reasons = {}
    for node in model.graph:
        found = fp16.find_fp16_positions(node)
        if found is None or node.op_type in fp16.MOVING:
            continue
        reason = next(_list_reasons(node, found, sized, measured), None)
        if reason is not None:
            reasons[str(node.name)] = reason
            if node.op_type in _SUMS:
                reasons.update(dict.fromkeys(_find_summands(node), "makes what is summed"))
    return reasons


def _list_reasons(
    node: ir.Node, places: fp16.Fp16Positions, sized: Collection[ir.Value], measured: Magnitudes
) -> Iterator[str]:
    """Why a node must stay in float32, the best reason first."""
    values = [node.inputs[place] for place in places.inputs] + [node.outputs[place] for place in places.outputs]
    most = max((measured.tensors.get(str(value.name), 0.0) for value in values if value is not None), default=0.0)
    if most > _ROOM:
        yield f"reaches {format_figure(most)}"
    for value in values:
        if (weight := read_constant(value)) is not None:
            yield from _check_weight(weight)
    if node.op_type in _BY_OPERATOR:
        total = measured.sums.get(str(node.name))
        yield _BY_OPERATOR[node.op_type] + ("" if total is None else f": {format_figure(total)} on the samples")
    if node.outputs[0] in sized:
        yield "computes with sizes"


def _check_weight(weight: np.ndarray) -> Iterator[str]:
    """What is wrong with a weight in float16. Single small values of a weight are not: they are lost like the last
    digits of the largest."""
    most = float(np.abs(weight).max(initial=0.0))
    if most > fp16.LARGEST:
        yield f"has a weight of {format_figure(most)}"
    elif 0.0 < most < _SMALLEST:
        yield f"has {'a constant of' if weight.size == 1 else 'weights up to'} {format_figure(most)}"


def _find_size_values(model: ir.Model) -> set[ir.Value]:
    """Values made of the sizes of tensors and of constants alone: indices and sides, which must be exact."""
    found: set[ir.Value] = set()
    for node in model.graph:
        inputs = [value for value in node.inputs if value is not None and not value.is_initializer()]
        if node.op_type in ("Shape", "Size") or (inputs and all(value in found for value in inputs)):
            found.update(node.outputs)
    return found


def _find_summands(node: ir.Node) -> Iterator[str]:
    """The squares, differences and magnitudes that a sum is taken of: in float16 they would overflow before it."""
    maker = node.inputs[0].producer() if node.inputs[0] is not None else None
    if maker is None or not fp16.find_fp16_positions(maker):
        return
    if maker.op_type in ("Pow", "Sub", "Abs") or (maker.op_type == "Mul" and maker.inputs[0] is maker.inputs[1]):
        yield str(maker.name)
        yield from _find_summands(maker)


def _count_lost_weights(model: ir.Model, kept: Collection[str]) -> str:
    """How many values of the weights in float16 are too small for it; '' for none."""
    weights = {
        value.name: weight
        for node in model.graph
        if node.name not in kept
        for value in node.inputs
        if fp16.is_float(value) and value is not None and (weight := read_constant(value)) is not None
    }
    lost = sum(
        int(np.count_nonzero(weight) - np.count_nonzero(fp16.convert_to_fp16(weight))) for weight in weights.values()
    )
    return f"{lost:,} of {sum(weight.size for weight in weights.values()):,}, each below 3e-8" if lost else ""


def format_figure(value: float) -> str:
    """A figure of two digits: 7.5, 120, 3.2e5."""
    return f"{value:.{3 if value < 1000 else 2}g}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
