"""Interval arithmetic on a traced graph: between which values the image must lie, whatever goes in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import NamedTuple

import onnx_ir as ir

from ganrt.levels import find_hull, find_levels
from ganrt.spec import Image, Input, Label, Latent, Scalar, Spec

from ..passes import read_attribute, read_constant


class Reach(IntEnum):
    """How near to its bounds a value comes."""

    UNKNOWN = 0
    LIMITED = 1
    """A network that goes on beyond the bounds comes near, as before a clamp; others may stay away from them."""
    SATURATING = 2
    """Trained networks come near both bounds, as behind a tanh."""


class Interval(NamedTuple):
    """Bounds of a value of the graph: none lies outside."""

    low: float = -math.inf
    high: float = math.inf
    reach: Reach = Reach.UNKNOWN
    node: ir.Node | None = None
    """What bounds the value."""


Rule = Callable[[ir.Node, list[Interval]], Interval]
_ANY = Interval()
_ZERO = Interval(0.0, 0.0, Reach.SATURATING)


def find_output_interval(model: ir.Model, spec: Spec) -> Interval:
    """The interval of the first output of a graph that has the inputs of the Spec."""
    known: dict[ir.Value, Interval] = {
        value: _read_input(item) for value, item in zip(model.graph.inputs, spec.inputs, strict=False)
    }
    for node in model.graph:
        rule = _RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if rule is None:
            continue
        taken = [_read_value(value, known) for value in node.inputs]
        found = rule(node, taken)
        if not math.isnan(found.low) and not math.isnan(found.high):
            known |= dict.fromkeys(node.outputs if node.op_type == "Split" else node.outputs[:1], found)
    return known.get(model.graph.outputs[0], _ANY)


def _read_input(item: Input) -> Interval:
    if isinstance(item, Image):
        return Interval(*find_hull(find_levels(item)))
    if isinstance(item, Scalar) or (isinstance(item, Latent) and item.distribution == "uniform"):
        return Interval(*item.range)
    return Interval(0, item.classes) if isinstance(item, Label) else _ANY


def _read_value(value: ir.Value | None, known: dict[ir.Value, Interval]) -> Interval:
    if value is None or value in known:
        return _ANY if value is None else known[value]
    array = read_constant(value)
    if array is None or array.size == 0 or array.dtype.kind not in "fiu":
        return _ANY
    known[value] = Interval(float(array.min()), float(array.max()), Reach.SATURATING)
    return known[value]


def _apply(function: Callable[[float], float], bounds: bool = False) -> Rule:
    """A function that never falls. One that `bounds` makes a finite interval of an infinite one."""

    def rule(node: ir.Node, taken: list[Interval]) -> Interval:
        given = taken[0]
        free = bounds and math.isinf(given.low) and math.isinf(given.high)
        reach = Reach.SATURATING if free else given.reach
        return Interval(function(given.low), function(given.high), reach, node if bounds else given.node)

    return rule


def _join(node: ir.Node, taken: Iterable[Interval]) -> Interval:
    """Values of several inputs side by side."""
    parts = list(taken)
    low, high = min(part.low for part in parts), max(part.high for part in parts)
    bound = next((part.node for part in parts if part.node), None)
    return Interval(low, high, min(part.reach for part in parts), bound)


def _pass_first(node: ir.Node, taken: list[Interval]) -> Interval:
    return taken[0]


def _combine(function: Callable[[float, float], float]) -> Rule:
    """A function of two values that takes its extremes at their ends."""

    def rule(node: ir.Node, taken: list[Interval]) -> Interval:
        first, second = taken[:2]
        ends = [function(a, b) for a in first[:2] for b in second[:2]]
        bound = first.node or second.node
        alone = any(read_constant(value) is not None for value in node.inputs)
        reach = min(first.reach, second.reach) if alone else Reach.UNKNOWN
        return _ANY if any(map(math.isnan, ends)) else Interval(min(ends), max(ends), reach, bound)

    return rule


def _multiply(a: float, b: float) -> float:
    return 0.0 if 0 in (a, b) else a * b


def _divide(node: ir.Node, taken: list[Interval]) -> Interval:
    first, second = taken[:2]
    if second.low <= 0 <= second.high:
        return _ANY
    inverse = Interval(1 / second.high, 1 / second.low, second.reach, second.node)
    return _combine(_multiply)(node, [first, inverse])


def _invert(node: ir.Node, taken: list[Interval]) -> Interval:
    given = taken[0]
    return _ANY if given.low <= 0 <= given.high else Interval(1 / given.high, 1 / given.low, Reach.UNKNOWN, given.node)


def _negate(node: ir.Node, taken: list[Interval]) -> Interval:
    given = taken[0]
    return Interval(-given.high, -given.low, given.reach, given.node)


def _power(node: ir.Node, taken: list[Interval]) -> Interval:
    """Gamma correction; and squares."""
    given, exponent = taken[:2]
    if exponent.low != exponent.high or exponent.low <= 0 or math.isinf(exponent.high):
        return _ANY
    power = exponent.low
    if given.low >= 0:
        return Interval(given.low**power, given.high**power, given.reach, given.node)
    if power % 2:
        return _ANY
    return Interval(0.0, max(-given.low, given.high) ** power, Reach.UNKNOWN, given.node)


def _limit(node: ir.Node, taken: list[Interval]) -> Interval:
    """Clip: only numbers that are written in the graph bound."""
    given = taken[0]
    ends = [read_constant(value) for value in node.inputs[1:3]] + [None, None]
    low, high = (-math.inf if ends[0] is None else float(ends[0])), (math.inf if ends[1] is None else float(ends[1]))
    if low <= given.low and given.high <= high:
        return given
    reach = max(given.reach, Reach.LIMITED)
    return Interval(max(low, min(given.low, high)), min(high, max(given.high, low)), reach, node)


def _take_largest(node: ir.Node, taken: list[Interval]) -> Interval:
    return Interval(max(part.low for part in taken), max(part.high for part in taken), Reach.UNKNOWN, node)


def _take_smallest(node: ir.Node, taken: list[Interval]) -> Interval:
    return Interval(min(part.low for part in taken), min(part.high for part in taken), Reach.UNKNOWN, node)


def _absolute(node: ir.Node, taken: list[Interval]) -> Interval:
    low, high = taken[0][:2]
    return Interval(max(low, -high, 0.0), max(-low, high), Reach.UNKNOWN, taken[0].node)


def _resize(node: ir.Node, taken: list[Interval]) -> Interval:
    return _ANY if read_attribute(node, "mode", "nearest") == "cubic" else taken[0]


def _pad(node: ir.Node, taken: list[Interval]) -> Interval:
    if read_attribute(node, "mode", "constant") != "constant":
        return taken[0]
    filling = taken[2] if len(taken) > 2 and node.inputs[2] is not None else _ZERO
    return _join(node, [taken[0], filling])


def _average(node: ir.Node, taken: list[Interval]) -> Interval:
    padded = any(read_attribute(node, "pads", ())) and read_attribute(node, "count_include_pad", 0)
    return _join(node, [taken[0], _ZERO]) if padded else taken[0]


def _sample_grid(node: ir.Node, taken: list[Interval]) -> Interval:
    if read_attribute(node, "mode", "linear") in ("cubic", "bicubic"):
        return _ANY
    outside = read_attribute(node, "padding_mode", "zeros") == "zeros"
    return _join(node, [taken[0], _ZERO]) if outside else taken[0]


def _scatter(node: ir.Node, taken: list[Interval]) -> Interval:
    plain = read_attribute(node, "reduction", "none") == "none"
    return _join(node, [taken[0], taken[2]]) if plain else _ANY


def _leak(node: ir.Node, taken: list[Interval]) -> Interval:
    slope = read_attribute(node, "alpha", 0.01)
    low, high = (end if end >= 0 else end * slope for end in taken[0][:2])
    return _ANY if slope <= 0 else Interval(low, high, taken[0].reach, taken[0].node)


def _hard_sigmoid(node: ir.Node, taken: list[Interval]) -> Interval:
    slope, shift = read_attribute(node, "alpha", 0.2), read_attribute(node, "beta", 0.5)
    return _ANY if slope <= 0 else _apply(lambda x: min(1.0, max(0.0, slope * x + shift)), bounds=True)(node, taken)


def _sigmoid(x: float) -> float:
    return 0.5 + 0.5 * math.tanh(x / 2)


def _exponential(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf


_PASSING = """
    Cast DepthToSpace Dropout Expand Flatten Gather GatherElements GatherND GlobalAveragePool GlobalMaxPool Identity
    MaxPool ReduceMax ReduceMean ReduceMin Reshape Slice SpaceToDepth Split Squeeze Tile Transpose Unsqueeze"""
"""Operators whose outputs hold values of their first input, or averages of them."""

_RULES: dict[str, Rule] = {
    **dict.fromkeys(_PASSING.split(), _pass_first),
    "Tanh": _apply(math.tanh, bounds=True),
    "Sigmoid": _apply(_sigmoid, bounds=True),
    "Erf": _apply(math.erf, bounds=True),
    "Atan": _apply(math.atan, bounds=True),
    "Softsign": _apply(lambda x: math.copysign(1.0, x) if math.isinf(x) else x / (1 + abs(x)), bounds=True),
    "HardSigmoid": _hard_sigmoid,
    **dict.fromkeys(("Sin", "Cos"), lambda node, taken: Interval(-1.0, 1.0, Reach.SATURATING, node)),
    "Softmax": lambda node, taken: Interval(0.0, 1.0, Reach.UNKNOWN, node),
    "Relu": _apply(lambda x: max(x, 0.0)),
    "LeakyRelu": _leak,
    "Softplus": _apply(lambda x: x if x > 30 else math.log1p(math.exp(x))),
    "Exp": _apply(_exponential),
    "Sqrt": _apply(lambda x: math.sqrt(max(x, 0.0))),
    "Round": _apply(lambda x: x if math.isinf(x) else float(round(x))),
    "Floor": _apply(lambda x: x if math.isinf(x) else float(math.floor(x))),
    "Ceil": _apply(lambda x: x if math.isinf(x) else float(math.ceil(x))),
    "Abs": _absolute,
    "Neg": _negate,
    "Reciprocal": _invert,
    "Add": _combine(lambda a, b: a + b),
    "Sub": _combine(lambda a, b: a - b),
    "Mul": _combine(_multiply),
    "Div": _divide,
    "Pow": _power,
    "Clip": _limit,
    "Max": _take_largest,
    "Min": _take_smallest,
    "Concat": _join,
    "Where": lambda node, taken: _join(node, taken[1:]),
    "Resize": _resize,
    "Pad": _pad,
    "AveragePool": _average,
    "GridSample": _sample_grid,
    **dict.fromkeys(("ScatterND", "ScatterElements"), _scatter),
}
