"""Circular padding, as tileable textures are made with: in ONNX since operator set 19, and not for everybody."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..passes import Patch, read_attribute, read_constant, read_shape

_END = np.iinfo(np.int64).max


def replace_circular_pad(node: ir.Node) -> bool:
    """Turn a circular Pad into Slice and Concat, in place: the same values.

    Returns whether `node` was one, with constant sizes that are not negative.
    """
    if node.op_type != "Pad" or read_attribute(node, "mode", "constant") != "wrap":
        return False
    value, output = node.inputs[0], node.outputs[0]
    pads, axes = read_constant(node.inputs[1]), read_constant(node.inputs[3]) if len(node.inputs) > 3 else None
    chosen = range(len(read_shape(value))) if axes is None else [int(axis) for axis in axes]
    if value is None or pads is None or (pads < 0).any() or len(pads) != 2 * len(chosen):
        return False
    patch = Patch(node)
    for axis, before, after in zip(chosen, pads[: len(chosen)], pads[len(chosen) :], strict=True):
        parts = [value]
        if before:
            parts.insert(0, _add_slice(patch, value, axis, -int(before), _END))
        if after:
            parts.append(_add_slice(patch, value, axis, 0, int(after)))
        value = patch.add_op("Concat", parts, axis=axis) if len(parts) > 1 else value
    patch.replace(output, value)
    return True


def _add_slice(patch: Patch, value: ir.Value, axis: int, start: int, end: int) -> ir.Value:
    bounds = [patch.add_constant(np.array([number]), "border") for number in (start, end, axis)]
    return patch.add_op("Slice", [value, *bounds])
