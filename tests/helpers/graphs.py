"""Small graphs for the tests of graph passes: made, run in float64, and compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx_ir.passes.common import ShapeInferencePass

CHANNELS = 4
SCALES = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def graph(
    nodes: list[Any],
    weights: dict[str, np.ndarray],
    dtype: type = np.float64,
    size: tuple[int | str, int | str] = ("h", "w"),
) -> ir.Model:
    """x (N, CHANNELS, *size) -> y."""
    kind = TensorProto.DOUBLE if dtype is np.float64 else TensorProto.FLOAT
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, ["n", CHANNELS, *size])],
        [helper.make_tensor_value_info("y", kind, None)],
        [
            numpy_helper.from_array(value.astype(dtype) if value.dtype.kind == "f" else value, name)
            for name, value in weights.items()
        ]
        + [SCALES],
    )
    model = ir.from_proto(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    ShapeInferencePass()(model)  # a traced graph knows its shapes
    return model


def types(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def run(model: ir.Model, x: np.ndarray) -> np.ndarray:
    found: Any = ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": x})
    return found[0]


def same(before: ir.Model, after: ir.Model, seed: int, size: tuple[int, int] = (3, 5)) -> None:
    """In float64, to 1e-9 of the largest value."""
    x = np.random.default_rng(seed).normal(size=(2, CHANNELS, *size))
    wanted, found = run(before, x), run(after, x)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9 * np.abs(wanted).max())
