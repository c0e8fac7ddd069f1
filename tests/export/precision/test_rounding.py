"""Weights that are rounded with feedback: less error on inputs like those that were measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper, shape_inference

from ganrt.export.precision import draw_samples
from ganrt.export.precision.calibration import Evaluator, measure_ranges
from ganrt.export.precision.int8 import quantize
from ganrt.export.precision.rounding import _Moments, round_weights, round_with_feedback
from ganrt.spec import Image, Output, Spec

SPEC = Spec("small", (Image("x", "content", 3, (0.0, 1.0)),), Output(3, (-1.0, 1.0), None))


def network(groups: int = 1, operator: str = "Conv", dilation: int = 1) -> ir.Model:
    """Pictures -> two convolutions of the same tensor, with other borders, added."""
    random = np.random.default_rng(0)
    shape = (3, 3 // groups, 3, 3)
    weights = {name: random.normal(0, 0.3, shape).astype(np.float32) for name in ("w1", "w2")}
    shared: dict[str, Any] = {"group": groups, "dilations": [dilation] * 2}
    nodes = [
        helper.make_node(operator, ["x", "w1"], ["c1"], pads=[dilation] * 4, **shared),
        helper.make_node(operator, ["x", "w2"], ["c2"], pads=[0, 0, 2 * dilation, 2 * dilation], **shared),
        helper.make_node("Add", ["c1", "c2"], ["image"]),
    ]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, None, None])],
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", None, None, None])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return ir.from_proto(shape_inference.infer_shapes(model))


@pytest.mark.parametrize("dilation", [1, 2])
def test_correlated_inputs_lose_less(dilation: int) -> None:
    model, samples = network(dilation=dilation), draw_samples(SPEC, 12)
    ranges = measure_ranges(model, ["x"], samples)
    steps = round_weights(model, ranges, samples)
    assert {name: (array.dtype, array.shape) for name, array in steps.items()} == {
        name: (np.dtype(np.int8), (3, 3, 3, 3)) for name in ("c1", "c2")
    }
    other = draw_samples(SPEC, 4, start=100).given[0]
    wanted = Evaluator(model)(other)[0]
    nearest, fed = (
        np.square(Evaluator(quantize(model, ranges, ["x"], given))(other)[0] - wanted).mean() for given in ({}, steps)
    )
    assert fed < 0.8 * nearest


@pytest.mark.parametrize(("groups", "operator"), [(3, "Conv"), (1, "ConvTranspose")])
def test_other_layers_are_rounded_to_the_nearest(groups: int, operator: str) -> None:
    model, samples = network(groups, operator), draw_samples(SPEC, 4)
    assert round_weights(model, measure_ranges(model, ["x"], samples), samples) == {}


def test_values_that_do_not_depend_on_each_other_get_the_nearest_steps() -> None:
    rows = np.random.default_rng(0).uniform(-130, 130, (5, 100))
    steps = round_with_feedback(rows, np.diag(np.linspace(0.1, 2, 100)))
    np.testing.assert_array_equal(steps, np.clip(np.rint(rows), -127, 127))


def test_of_equal_values_only_the_sum_of_the_weights_counts() -> None:
    rows = np.full((1, 100), 0.3)  # more columns than a block has
    steps = round_with_feedback(rows, np.ones((100, 100)) + 1e-6 * np.eye(100))
    assert abs(int(steps.sum()) - 30) <= 1


def test_the_covariance_is_that_of_all_pixels() -> None:
    pixels = np.random.default_rng(0).normal(2.0, 1.0, (500, 4)).astype(np.float32)
    moments = _Moments()
    moments.add(pixels[:200])
    moments.add(pixels[200:])
    assert moments.pixels == 500
    np.testing.assert_allclose(moments.covariance, np.cov(pixels.T, bias=True), atol=1e-4)
