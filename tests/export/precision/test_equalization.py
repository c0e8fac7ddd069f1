"""Equalized channels: the same function, and less lost in 8 bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from helpers.optional import unwrap
from onnx import TensorProto, helper, numpy_helper, shape_inference

from ganrt.export.passes.graph import read_constant
from ganrt.export.precision import calibration, int8
from ganrt.export.precision.calibration import Evaluator, draw_samples, measure_ranges
from ganrt.export.precision.equalization import equalize_channels
from ganrt.feeds import Array
from ganrt.spec import Latent, Output, Spec

SPEC = Spec("small", (Latent("z", (3, 8, 8)),), Output(3, (-1.0, 1.0), (8, 8)))
PADS = {"border": [0, 0, 1, 1, 0, 0, 1, 1], "more": [0, 1, 0, 0, 0, -1, 0, 0]}
SIZES = {"scales": np.array([1, 1, 2, 2], np.float32)}
SLOPE = np.linspace(-0.5, 1.5, 6)[:, None, None]


def network(
    between: Sequence[tuple[str, list[str], dict[str, Any]]], output: Sequence[str] = ("image",), groups: int = 1
) -> ir.Model:
    """z -> convolution to 6 channels of very different sizes -> the operators -> convolution that evens them out."""
    random, sizes = np.random.default_rng(0), 10.0 ** np.linspace(-1, 1, 6)
    weights: dict[str, Array] = {
        "w1": random.normal(0, 0.2, (6, 3, 3, 3)) * sizes[:, None, None, None],
        "b1": random.normal(0, 0.2, 6) * sizes,
        "w2": random.normal(0, 0.2, (3, 6 // groups, 3, 3)) / (sizes[None, :, None, None] if groups == 1 else 1),
        "slope": SLOPE,
    }
    if any(kind == "Pad" for kind, _, _ in between):
        weights |= {"one": np.ones(()), "zero": np.zeros(())}
    weights |= {"gain": sizes, **SIZES}
    nodes = [helper.make_node("Conv", ["z", "w1", "b1"], ["c0"], pads=[1, 1, 1, 1])]
    for number, (kind, others, attributes) in enumerate(between):
        nodes.append(helper.make_node(kind, [f"c{number}", *others], [f"c{number + 1}"], **attributes))
    nodes.append(helper.make_node("Conv", [f"c{len(between)}", "w2"], ["image"], pads=[1, 1, 1, 1], group=groups))
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", None, 8, 8]) for name in output],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
        + [numpy_helper.from_array(np.array(value), name) for name, value in PADS.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return ir.from_proto(shape_inference.infer_shapes(model))


def equalize(model: ir.Model) -> ir.Model:
    names = [layer.name for layer in int8.find_layers(model)]
    return equalize_channels(model, measure_ranges(model, names, draw_samples(SPEC, 8)))


def measure_loss(model: ir.Model, original: ir.Model) -> float:
    """Mean squared error of the graph in int8, of the variance of the original's image."""
    samples = draw_samples(SPEC, 8)
    names = [layer.name for layer in int8.find_layers(model)]
    found = Evaluator(int8.quantize(model, measure_ranges(model, names, samples), names))(samples.given[0])[0]
    wanted = Evaluator(original)(samples.given[0])[0]
    return float(np.square(found - wanted).mean() / wanted.var())


PASSING: list[tuple[str, list[tuple[str, list[str], dict[str, Any]]]]] = [
    ("nothing", []),
    ("a sum", [("Add", ["c0"], {})]),
    ("reflection", [("Relu", [], {}), ("Pad", ["border"], {"mode": "reflect"})]),
    ("zeros", [("Pad", ["border"], {})]),
    ("written zeros", [("Pad", ["border", "zero"], {})]),
    ("pooling", [("MaxPool", [], {"kernel_shape": [2, 2]}), ("AveragePool", [], {"kernel_shape": [2, 2]})]),
    ("linear", [("Resize", ["", "scales"], {"mode": "linear"})]),
    ("rows", [("Concat", ["c0"], {"axis": 2})]),
    ("a norm", [("InstanceNormalization", ["gain", "b1"], {})]),
]
RECTIFIERS: list[tuple[str, list[str], dict[str, Any]]] = [
    ("Relu", [], {}),
    ("LeakyRelu", [], {"alpha": 0.2}),
    ("PRelu", ["slope"], {}),
]


@pytest.mark.parametrize("rectifier", RECTIFIERS, ids=lambda rectifier: rectifier[0])
def test_the_function_stays_and_int8_loses_much_less(rectifier: tuple[str, list[str], dict[str, Any]]) -> None:
    model = network([rectifier])
    made = equalize(model)
    given = draw_samples(SPEC, 4).given[0]
    wanted = Evaluator(model)(given)[0]
    np.testing.assert_allclose(Evaluator(made)(given)[0], wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    peaks = measure_ranges(made, ["c1"], draw_samples(SPEC, 8))["c1"].peaks
    assert peaks.max() / peaks.min() < 10  # it was a hundred
    assert measure_loss(made, model) < 0.05 * measure_loss(model, model)


@pytest.mark.parametrize(
    ("between", "output", "groups"),
    [
        ([("Tanh", [], {})], ["image"], 1),
        ([("Relu", [], {}), ("Sigmoid", [], {})], ["image"], 1),
        ([("Relu", [], {})], ["image", "c1"], 1),
        ([("Relu", [], {})], ["image", "c0"], 1),
        ([("Relu", [], {})], ["image"], 3),
        ([("Add", ["slope"], {})], ["image"], 1),
        ([("Pad", ["border", "one"], {"mode": "constant"})], ["image"], 1),
        ([("Pad", ["more", "zero"], {"mode": "constant"})], ["image"], 1),
        ([("Concat", ["c0"], {"axis": 0})], ["image"], 1),
    ],
    ids=[
        *("no rectifier", "another operator", "read elsewhere", "read before", "groups", "a constant is added"),
        *("a border of ones", "more channels", "batches are joined"),
    ],
)
def test_other_graphs_stay_as_they_are(
    between: list[tuple[str, list[str], dict[str, Any]]], output: list[str], groups: int
) -> None:
    model = network(between, output, groups)
    assert equalize(model) is model


def test_a_channel_that_is_never_used_gets_no_factor() -> None:
    model = network([RECTIFIERS[0]])
    for name, rows in (("w1", np.s_[2]), ("b1", np.s_[2]), ("w2", np.s_[:, 4])):
        value = model.graph.initializers[name]
        array = unwrap(value.const_value).numpy().copy()
        array[rows] = 0
        value.const_value = ir.tensor(array, name=name)
    first = next(node for node in equalize(model).graph if node.op_type == "Conv")
    weight = unwrap(read_constant(first.inputs[1]))
    assert np.isfinite(weight).all() and not weight[2].any()
    np.testing.assert_array_equal(weight[4], unwrap(model.graph.initializers["w1"].const_value).numpy()[4])


def test_photographs_get_headroom_and_inputs_none() -> None:
    samples = draw_samples(SPEC, 4)
    plain = measure_ranges(network([RECTIFIERS[1]]), ["z", "c1"], samples._replace(headroom=1.0))
    wide = measure_ranges(network([RECTIFIERS[1]]), ["z", "c1"], samples._replace(headroom=1.5))
    clipped = measure_ranges(network([RECTIFIERS[1]]), ["z", "c1"], samples)
    assert wide["z"][:2] == plain["z"][:2] == clipped["z"][:2]
    assert wide["c1"].high == pytest.approx(1.5 * plain["c1"].high) and wide["c1"].low < plain["c1"].low < 0
    assert plain["c1"].high == pytest.approx(plain["c1"].peaks.max()) and clipped["c1"].high <= plain["c1"].high
    assert calibration._HEADROOM > 1


@pytest.mark.parametrize("between", [entry[1] for entry in PASSING], ids=[entry[0] for entry in PASSING])
def test_factors_pass_through_what_scales_with_its_input(between: list[tuple[str, list[str], dict[str, Any]]]) -> None:
    model = network(between)
    made = equalize(model)
    given = draw_samples(SPEC, 4).given[0]
    wanted = Evaluator(model)(given)[0]
    np.testing.assert_allclose(Evaluator(made)(given)[0], wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())
    name = f"c{len(between)}"
    peaks = [measure_ranges(graph, [name], draw_samples(SPEC, 8))[name].peaks for graph in (model, made)]
    assert peaks[0].max() / peaks[0].min() > 20 > 10 > peaks[1].max() / peaks[1].min()


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_channels_that_are_shuffled_or_joined_keep_their_factors(mode: str) -> None:
    """z -> two convolutions to 4 and 4 channels -> one tensor of 8 -> 2 at twice the size -> convolution."""
    random = np.random.default_rng(0)
    order = np.array([0, 1] * 4 if mode == "DCR" else [0] * 4 + [1] * 4)  # channel behind the shuffle
    sizes = 10.0 ** (2 * order)[:, None, None, None]
    weights = {"w": random.normal(0, 0.2, (8, 3, 3, 3)) * sizes, "last": random.normal(0, 0.2, (3, 2, 3, 3))}
    weights = {
        "w1": weights["w"][:4],
        "w2": weights["w"][4:],
        "last": weights["last"] / np.array([1, 100])[:, None, None],
    }
    nodes = [
        helper.make_node("Conv", ["z", "w1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["z", "w2"], ["c2"], pads=[1, 1, 1, 1]),
        helper.make_node("Concat", ["c1", "c2"], ["c"], axis=1),
        helper.make_node("DepthToSpace", ["c"], ["d"], blocksize=2, mode=mode),
        helper.make_node("Conv", ["d", "last"], ["image"], pads=[1, 1, 1, 1]),
    ]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    model = ir.from_proto(shape_inference.infer_shapes(proto))
    equal, given = equalize(model), draw_samples(SPEC, 4).given[0]
    np.testing.assert_allclose(Evaluator(equal)(given)[0], Evaluator(model)(given)[0], rtol=0, atol=1e-5)
    before, after = (measure_ranges(graph, ["d"], draw_samples(SPEC, 8))["d"].peaks for graph in (model, equal))
    assert before[1] / before[0] > 30 and 0.2 < after[1] / after[0] < 5
