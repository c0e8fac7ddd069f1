"""int8 in the one form that TensorRT supports: signed, with zero points of 0."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir


def make_symmetric(model: ir.Model) -> ir.Model:
    """Turn uint8 quantization into int8 with zero points of 0, in place. Bundles quantize activations to uint8 with any
    zero point. The quantization range grows to both sides of 0; the proof of the engine decides whether the coarser
    steps are good enough."""
    for node in model.graph:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or len(node.inputs) < 3:
            continue
        _, scale, zero = node.inputs
        if scale is None or zero is None or zero.const_value is None or zero.dtype != ir.DataType.UINT8:
            continue
        steps = ir.convenience.get_const_tensor(scale)
        if steps is None:
            continue
        below = zero.const_value.numpy().astype(np.float32)
        amax = steps.numpy() * np.maximum(below, 255 - below)
        scale.const_value = ir.tensor((amax / 127).astype(np.float32), name=scale.name)
        zero.const_value = ir.tensor(np.zeros_like(below, np.int8), name=zero.name)
        zero.dtype = ir.DataType.INT8
        if node.op_type == "QuantizeLinear":
            node.outputs[0].dtype = ir.DataType.INT8
    return model
