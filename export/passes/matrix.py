"""A transposed convolution of a single pixel is a matrix product: how a DCGAN makes its first 4 x 4 pixels."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .base import Pass
from .graph import Patch, read_attribute, read_constant, read_padding, read_shape


def replace_by_gemm(model: ir.Model) -> int:
    """(N, C, 1, 1) -> ConvTranspose becomes Flatten -> Gemm -> Reshape."""
    count = 0
    for node in list(model.graph):
        if node.domain != "" or node.op_type != "ConvTranspose" or read_shape(node.inputs[0])[2:] != (1, 1):
            continue
        weight, bias = read_constant(node.inputs[1]), read_constant(node.inputs[2]) if len(node.inputs) > 2 else None
        if weight is None or not _outputs_whole_kernel(node) or (bias is None and len(node.inputs) > 2):
            continue
        top, left, bottom, right = read_padding(node)
        kernel = weight[:, :, top : weight.shape[2] - bottom, left : weight.shape[3] - right]
        patch, name = Patch(node), str(node.inputs[1].name)  # type: ignore[union-attr]
        inputs = [patch.add_op("Flatten", node.inputs[:1], axis=1)]
        inputs.append(patch.add_constant(kernel.reshape(len(kernel), -1), name))
        if bias is not None:
            inputs.append(patch.add_constant(np.repeat(bias, kernel[0, 0].size), f"{name}.bias"))
        shape = patch.add_constant(np.array([-1, *kernel.shape[1:]]), f"{name}.shape")
        patch.replace(node.outputs[0], patch.add_op("Reshape", [patch.add_op("Gemm", inputs), shape]))
        model.graph.remove(node, safe=True)
        count += 1
    return count


def _outputs_whole_kernel(node: ir.Node) -> bool:
    """Whether the output is the kernel times the pixel, cut by the padding: whatever the strides."""
    return (
        read_attribute(node, "group", 1) == 1
        and set(read_attribute(node, "dilations", (1, 1))) == {1}
        and not any(read_attribute(node, "output_padding", (0, 0)))
        and read_attribute(node, "output_shape") is None
        and read_attribute(node, "auto_pad", "NOTSET") == "NOTSET"
    )


MATRIX = Pass("matrix", "a transposed convolution of a single pixel becomes a matrix product", replace_by_gemm)
