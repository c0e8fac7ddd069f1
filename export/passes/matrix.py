"""A transposed convolution of a single pixel is a matrix product: how a DCGAN makes its first 4 x 4 pixels."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .base import Pass
from .graph import Patch, attribute, constant, sides
from .upsampling import padding


def as_matrix(model: ir.Model) -> int:
    """(N, C, 1, 1) -> ConvTranspose becomes Flatten -> Gemm -> Reshape."""
    count = 0
    for node in list(model.graph):
        if node.domain != "" or node.op_type != "ConvTranspose" or sides(node.inputs[0])[2:] != (1, 1):
            continue
        weight, bias = constant(node.inputs[1]), constant(node.inputs[2]) if len(node.inputs) > 2 else None
        if weight is None or not _whole_kernel(node) or (bias is None and len(node.inputs) > 2):
            continue
        top, left, bottom, right = padding(node)
        kernel = weight[:, :, top : weight.shape[2] - bottom, left : weight.shape[3] - right]
        patch, name = Patch(node), str(node.inputs[1].name)  # type: ignore[union-attr]
        inputs = [patch.op("Flatten", node.inputs[:1], axis=1)]
        inputs.append(patch.constant(kernel.reshape(len(kernel), -1), name))
        if bias is not None:
            inputs.append(patch.constant(np.repeat(bias, kernel[0, 0].size), f"{name}.bias"))
        shape = patch.constant(np.array([-1, *kernel.shape[1:]]), f"{name}.shape")
        patch.replace(node.outputs[0], patch.op("Reshape", [patch.op("Gemm", inputs), shape]))
        model.graph.remove(node, safe=True)
        count += 1
    return count


def _whole_kernel(node: ir.Node) -> bool:
    """Whether the output is the kernel times the pixel, cut by the padding: whatever the strides."""
    return (
        attribute(node, "group", 1) == 1
        and set(attribute(node, "dilations", (1, 1))) == {1}
        and not any(attribute(node, "output_padding", (0, 0)))
        and attribute(node, "output_shape") is None
        and attribute(node, "auto_pad", "NOTSET") == "NOTSET"
    )


MATRIX = Pass("matrix", "a transposed convolution of a single pixel becomes a matrix product", as_matrix)
