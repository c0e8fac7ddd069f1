"""uint8 quantization becomes the symmetric int8 that TensorRT supports."""

import numpy as np
import onnx_ir as ir
import pytest
from helpers.optional import unwrap
from onnx.reference import ReferenceEvaluator

from ganrt.export.engines.quantization import make_symmetric


@pytest.mark.parametrize("below", [0, 64, 200])
def test_the_symmetric_range_covers_the_unsigned_one(below: int) -> None:
    x = ir.val("x", ir.DataType.FLOAT, [5])
    scale = ir.Value(name="s", const_value=ir.tensor(np.float32(2 / 255)))
    zero = ir.Value(name="z", const_value=ir.tensor(np.uint8(below)))
    scale.dtype, zero.dtype = ir.DataType.FLOAT, ir.DataType.UINT8
    steps = ir.node("QuantizeLinear", [x, scale, zero])
    back = ir.node("DequantizeLinear", [steps.outputs[0], scale, zero])
    back.outputs[0].name, back.outputs[0].dtype, back.outputs[0].shape = "y", ir.DataType.FLOAT, ir.Shape([5])
    graph = ir.Graph([x], back.outputs, nodes=[steps, back], initializers=[scale, zero], opset_imports={"": 20})
    graph.name = "quantized"
    model = make_symmetric(ir.Model(graph, ir_version=10))
    given = np.array([0.0, 0.5, 1.0, 2.0, 3.0], np.float32)
    (made,) = ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": given})
    assert zero.dtype == ir.DataType.INT8 and not unwrap(zero.const_value).numpy().any()
    amax = max(below, 255 - below) * 2 / 255
    assert np.abs(made - np.minimum(given, amax)).max() <= amax / 127 and made[-1] == pytest.approx(amax)
