"""Nearest-neighbour resizing to a size that is computed from the picture's.

torch.nn.functional.interpolate takes pixel floor(i * in / out). ONNX's Resize computes floor(i / (out / in)) in
float32, which is one pixel off where the quotient is a whole number and out / in has no exact value: 4 / (16 / 52)
gives 12, and not 13. Whether that happens depends on the picture size.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..passes import Patch, read_attribute, read_constant

_LIKE_TORCH = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def replace_computed_nearest_resize(node: ir.Node) -> bool:
    """Turn a nearest-neighbour Resize of pictures to computed sizes into two Gathers with indices in whole numbers, in
    place.

    Returns whether `node` was one. Resizing by constant factors stays as it is.
    """
    if node.op_type != "Resize" or any(read_attribute(node, name) != mode for name, mode in _LIKE_TORCH.items()):
        return False
    value, sizes = node.inputs[0], node.inputs[3] if len(node.inputs) > 3 else None
    if value is None or value.shape is None or len(value.shape) != 4 or sizes is None:
        return False
    if read_attribute(node, "axes") is not None or (
        read_constant(sizes) is not None and all(isinstance(side, int) for side in value.shape[2:])
    ):
        return False
    output, patch = node.outputs[0], Patch(node)
    zero, one = (patch.add_constant(np.array(number), "index") for number in (0, 1))
    for axis in (2, 3):
        place = patch.add_constant(np.array(axis), "axis")
        length = patch.add_op("Gather", [patch.add_op("Shape", [value]), place])
        wanted = patch.add_op("Gather", [sizes, place])
        steps = patch.add_op("Mul", [patch.add_op("Range", [zero, wanted, one]), length])
        value = patch.add_op("Gather", [value, patch.add_op("Div", [steps, wanted])], axis=axis)
    value.type, value.shape = output.type, output.shape
    patch.replace(output, value)
    return True
