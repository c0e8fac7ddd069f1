"""Weights that a graph computes with in float, stored in 8 or 16 bits: matrices, tables, and the convolutions that are
not in int8.

8 bits are uint8 with a scale and an offset per channel, w = steps * scale + low, written as Cast, Mul and Add. ONNX
Runtime and OpenVINO compute that once, when they load the graph. For a DequantizeLinear of a constant ONNX Runtime 1.32
computes it again for every batch, which takes longer than the product of a small batch; and OpenVINO 2026.4 then rounds
the other factor to 8 bits too. TensorRT for RTX 1.7.1 casts constants of uint8, but not of int8.

A table is looked up first and converted then, so that only the rows that are used are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass, RemoveUnusedNodesPass

from ..passes import Array, Patch, read_attribute, read_constant
from .judge import Judge, Measured
from .sensitivity import choose_by_halves
from .trials import Trials

_FEWEST = 4096
"""Values of the smallest weight worth it: scales, offsets and nodes take room and time too."""
_LARGEST_HALF = 65504.0
_STEPS = 255


class StoredWeight(NamedTuple):
    """A constant in float32 that may be stored in fewer bits."""

    value: ir.Value
    nodes: tuple[ir.Node, ...]
    """What uses it."""
    axis: int
    """Of its channels."""

    @property
    def is_table(self) -> bool:
        """Whether rows of it are looked up."""
        return self.nodes[0].op_type == "Gather"


def find_stored_weights(model: ir.Model) -> dict[str, StoredWeight]:
    """Name -> constant that is worth storing in fewer bits. Those whose users do not agree on the axis of the channels
    are left out, and so are vectors, which biases and scales are."""
    found: dict[str, StoredWeight] = {}
    for node in model.graph:
        place = 0 if node.op_type == "Gather" else 1
        value = node.inputs[place] if node.domain == "" and len(node.inputs) > place else None
        array = read_constant(value)
        if value is None or value.name is None or array is None or value.name in found:
            continue
        nodes = tuple(user for user, _ in value.uses())
        axes = {_find_channel_axis(user, used, array) for user, used in value.uses()}
        axis = axes.pop() if len(axes) == 1 and {user.op_type == "Gather" for user in nodes} != {True, False} else None
        fits = array.dtype == np.float32 and array.size >= _FEWEST and float(np.abs(array).max()) <= _LARGEST_HALF
        if fits and axis is not None and all(user.graph is model.graph for user in nodes):
            found[value.name] = StoredWeight(value, nodes, axis)
    return found


def _find_channel_axis(node: ir.Node, place: int, array: Array) -> int | None:
    """The axis of what a node makes or looks up; None for a use that is left as it is."""
    if node.domain != "" or array.ndim < 2:
        return None
    if node.op_type == "Gather":
        return 1 if place == 0 and array.ndim == 2 and read_attribute(node, "axis", 0) == 0 else None
    if place != 1:
        return None
    axes = {"Conv": 0, "ConvTranspose": 1, "MatMul": array.ndim - 1, "Gemm": int(not read_attribute(node, "transB", 0))}
    return axes.get(node.op_type)


def store_weights(model: ir.Model, in_8_bits: Collection[str]) -> ir.Model:
    """Return a copy of the graph whose weights of these names are stored in 8 bits, and all others that
    `find_stored_weights` finds in 16."""
    copy = model.clone()
    for name, weight in find_stored_weights(copy).items():
        _store_weight(weight, name in in_8_bits)
    copy.graph.sort()
    RemoveUnusedNodesPass()(copy)  # and the weights in float32
    NameFixPass()(copy)
    return copy


def _store_weight(weight: StoredWeight, in_8_bits: bool) -> None:
    value, array = weight.value, np.asarray(read_constant(weight.value))
    patch = Patch(weight.nodes[0])
    parts: list[ir.Value] = []
    if in_8_bits:
        steps, scale, low = round_to_8_bits(array, weight.axis)
        if weight.is_table:
            scale, low = scale.ravel(), low.ravel()  # of a row, whatever is looked up
        stored = patch.add_constant(steps, f"{value.name}.uint8")
        parts = [patch.add_constant(scale, f"{value.name}.scale"), patch.add_constant(low, f"{value.name}.low")]
    else:
        stored = patch.add_constant(array.astype(np.float16), f"{value.name}.float16")
    if not weight.is_table:
        restored = _restore(patch, stored, parts)
        for node, place in list(value.uses()):
            node.replace_input_with(place, restored)
        return
    for node in weight.nodes:
        patch = Patch(node)
        patch.replace(node.outputs[0], _restore(patch, patch.add_copy(node, [stored, node.inputs[1]]), parts))


def _restore(patch: Patch, stored: ir.Value, parts: list[ir.Value]) -> ir.Value:
    """Stored numbers in float32."""
    value = patch.add_op("Cast", [stored], to=ir.DataType.FLOAT)
    for op_type, part in zip(("Mul", "Add"), parts, strict=False):
        value = patch.add_op(op_type, [value, part])
    return value


def round_to_8_bits(weight: Array, axis: int) -> tuple[Array, Array, Array]:
    """Return steps, uint8 of the weight's shape, and float32 scale and offset of each channel, whose shape is the
    weight's with 1 for all axes but `axis`."""
    others = tuple(k for k in range(weight.ndim) if k != axis)
    low, high = (reduce(weight, axis=others, keepdims=True).astype(np.float32) for reduce in (np.min, np.max))
    scale = (high - low) / np.float32(_STEPS)
    steps = np.rint((weight - low) / np.where(scale > 0, scale, 1)).clip(0, _STEPS).astype(np.uint8)
    return steps, scale, low


class StorageChoice(NamedTuple):
    """How the weights of a graph are stored."""

    model: ir.Model
    """The graph; the one that was given if there is nothing to store."""
    notes: dict[str, Any]
    """What was decided, for the record."""
    measured: Measured | None
    """The graph's images; None if there is nothing to store."""


def choose_stored_bits(model: ir.Model, judge: Judge) -> StorageChoice:
    """Store weights in 8 bits, the largest first, as long as the images keep their quality: the others get 16."""
    found = find_stored_weights(model)
    if not found:
        return StorageChoice(model, {}, None)
    trials = Trials(judge, lambda lowered: store_weights(model, lowered), frozenset(found))

    def fits(lowered: Collection[str]) -> bool:
        return trials.estimate(frozenset(lowered)) <= 1.0

    sizes = {name: np.asarray(read_constant(weight.value)).size for name, weight in found.items()}
    largest_first = choose_by_halves(sorted(found, key=sizes.__getitem__, reverse=True), fits)
    while largest_first and trials.measure(frozenset(largest_first)).error > 1.0:
        largest_first = largest_first[: len(largest_first) // 2]
    chosen = frozenset(largest_first)
    notes: dict[str, Any] = {"other weights stored in 8 bits": len(chosen)}
    if len(chosen) < len(found):
        notes["other weights stored in 16 bits"] = [name for name in found if name not in chosen]
    return StorageChoice(store_weights(model, chosen), notes, trials.measure(chosen))


def describe_storage(model: ir.Model) -> str:
    """Say how the constants of a graph are stored, by their share of all numbers; shapes and the like do not count."""
    counts: Counter[str] = Counter()
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and tensor.dtype not in (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL):
            counts[str(tensor.dtype.numpy())] += tensor.size
    total = max(1, counts.total())
    return ", ".join(f"{kind} {100 * count / total:.3g} %" for kind, count in counts.most_common())
