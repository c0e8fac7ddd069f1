"""Instance norms that are written out, as a network's own norm layer is: mean, difference, square, mean, square root
and division. As one operator, they pass over the picture twice, not six times."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from .base import Pass
from .graph import Patch, find_producer, read_attribute, read_constant, read_shape


class _WrittenNorm(NamedTuple):
    """The nodes up to sqrt(mean((x - mean(x))^2) + epsilon)."""

    source: ir.Value
    """x, (N, C, H, W)."""
    centered: ir.Value
    """x - mean(x)."""
    square: ir.Node
    """The node that squares it."""
    deviation: ir.Value
    """(N, C, 1, 1)."""
    epsilon: float


class _Division(NamedTuple):
    """A node that divides what is centered by the deviation."""

    node: ir.Node
    gain: ir.Value | None
    """What it multiplies by, too."""


def merge_instance_norms(model: ir.Model) -> int:
    """(x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) becomes InstanceNormalization."""
    count = 0
    for node in list(model.graph):
        norm = _read_norm(node)
        divisions = [] if norm is None else _find_divisions(norm)
        if norm is None or not divisions:
            continue
        normalized = _add_instance_norm(Patch(node), norm)
        for division in divisions:
            patch, made = Patch(division.node), normalized
            if division.gain is not None:
                made = patch.add_op("Mul", [normalized, division.gain])
            patch.replace(division.node.outputs[0], made)
            model.graph.remove(division.node, safe=True)
        count += len(divisions)
    return count


def _read_norm(sqrt: ir.Node) -> _WrittenNorm | None:
    """The instance norm whose deviation a node computes."""
    add = find_producer(sqrt.inputs[0], "Add") if sqrt.op_type == "Sqrt" and sqrt.domain == "" else None
    if add is None:
        return None
    for variance, added in (add.inputs, reversed(add.inputs)):
        epsilon, squared = _read_number(added), _read_mean(variance)
        square = None if squared is None else squared.producer()
        centered = None if square is None else _read_squared(square)
        difference = find_producer(centered, "Sub")
        if epsilon is None or square is None or centered is None or difference is None:
            continue
        source, mean = difference.inputs
        if source is not None and _read_mean(mean) is source and source.dtype and read_shape(source)[1]:
            return _WrittenNorm(source, centered, square, sqrt.outputs[0], epsilon)
    return None


def _read_mean(value: ir.Value | None) -> ir.Value | None:
    """The picture (N, C, H, W) of whose pixels a value is the mean, of shape (N, C, 1, 1)."""
    node = find_producer(value, "ReduceMean")
    axes = None if node is None or len(node.inputs) < 2 else read_constant(node.inputs[1])
    if node is None or axes is None or not read_attribute(node, "keepdims", 1) or len(read_shape(node.inputs[0])) != 4:
        return None
    return node.inputs[0] if sorted(axis % 4 for axis in axes.tolist()) == [2, 3] else None


def _read_squared(node: ir.Node) -> ir.Value | None:
    """What a node squares."""
    if node.domain == "" and node.op_type == "Mul" and node.inputs[0] is node.inputs[1]:
        return node.inputs[0]
    power = _read_number(node.inputs[1]) if node.domain == "" and node.op_type == "Pow" else None
    return node.inputs[0] if power == 2 else None


def _find_divisions(norm: _WrittenNorm) -> list[_Division]:
    """All that is done with the deviation; nothing if it, or what is centered, has a use that is no division of one by
    the other, because both would still have to be computed."""
    divisions: list[_Division] = []
    quotients: list[tuple[ir.Value, ir.Value | None]] = []
    for node in norm.deviation.consumers():
        if node.op_type == "Div" and node.inputs[1] is norm.deviation:
            if node.inputs[0] is norm.centered:
                divisions.append(_Division(node, None))
            else:
                quotients.append((node.outputs[0], None if _is_one(node.inputs[0]) else node.inputs[0]))
        elif node.op_type == "Reciprocal":
            quotients.append((node.outputs[0], None))
    made = [norm.centered, norm.deviation]
    while quotients:
        quotient, gain = quotients.pop()
        made.append(quotient)
        for node in quotient.consumers():
            if node.op_type != "Mul":
                continue
            other = node.inputs[1 if node.inputs[0] is quotient else 0]
            if other is norm.centered:
                divisions.append(_Division(node, gain))
            elif gain is None and other is not quotient:
                quotients.append((node.outputs[0], other))
    expected = {norm.square, *(division.node for division in divisions), *(value.producer() for value in made)}
    return divisions if _are_users(expected, made) else []


def _is_one(value: ir.Value | None) -> bool:
    return _read_number(value) == 1


def _read_number(value: ir.Value | None) -> float | None:
    """A constant of one element that gives no picture another rank."""
    found = read_constant(value)
    return float(found.item()) if found is not None and found.size == 1 and found.ndim <= 4 else None


def _are_users(nodes: set[ir.Node | None], values: Iterable[ir.Value]) -> bool:
    return all(nodes.issuperset(value.consumers()) and not value.is_graph_output() for value in values)


def _add_instance_norm(patch: Patch, norm: _WrittenNorm) -> ir.Value:
    channels, dtype = read_shape(norm.source)[1], norm.source.dtype
    assert channels is not None and dtype is not None
    ones, zeros = (np.full(channels, number, dtype.numpy()) for number in (1, 0))
    name = norm.source.name or "norm"
    gain, bias = patch.add_constant(ones, f"{name}.ones"), patch.add_constant(zeros, f"{name}.zeros")
    return patch.add_op("InstanceNormalization", [norm.source, gain, bias], epsilon=norm.epsilon)


INSTANCE_NORMS = Pass(
    "instance-norms", "an instance norm that is written out becomes one operator", merge_instance_norms
)
