"""Leaky rectifiers between layers in 8 bits: computed in 8 bits for ONNX Runtime, where the pictures allow it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, shape_inference

from ganrt.export.precision import convert_to_int8, draw_samples
from ganrt.export.precision.calibration import Evaluator, measure_ranges
from ganrt.export.precision.int8 import find_layers, quantize
from ganrt.export.precision.judge import Judge
from ganrt.export.precision.rectifiers import choose_rectifiers, find_rectifiers
from ganrt.spec import Image, Output, Spec

SPEC = Spec("small", (Image("x", "content", 3, (0.0, 1.0)),), Output(3, (-1.0, 1.0), None))
SLOPES = {"one": np.full((1, 1, 1), 0.2), "each": np.linspace(-0.5, 0.5, 8).reshape(8, 1, 1)}


def network(kind: str, outputs: tuple[str, ...] = ("image",)) -> ir.Model:
    """Convolution -> rectifier -> convolution -> rectifier -> convolution."""
    random = np.random.default_rng(0)
    nodes, weights, source = [], {}, "x"
    for number, (before, after) in enumerate([(3, 8), (8, 8), (8, 3)]):
        weights[f"w{number}"] = random.normal(0, 1 / np.sqrt(9 * before), (after, before, 3, 3))
        name = "image" if number == 2 else f"c{number}"
        nodes.append(helper.make_node("Conv", [source, f"w{number}"], [name], pads=[1] * 4))
        source = f"r{number}"
        if number < 2 and kind == "LeakyRelu":
            nodes.append(helper.make_node(kind, [name], [source], alpha=0.2))
        elif number < 2:
            nodes.append(helper.make_node("PRelu", [name, kind], [source]))
    constants = {**weights, **({kind: SLOPES[kind]} if kind in SLOPES else {})}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", None, "h", "w"]) for name in outputs],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return ir.from_proto(shape_inference.infer_shapes(model))


def list_operators(model: ir.Model, folder: Path) -> list[str]:
    """What ONNX Runtime makes of a graph."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(folder / "m.onnx"), 4
    onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "m.onnx").graph.node]


@pytest.mark.parametrize(
    ("kind", "rectifier"), [("LeakyRelu", "QLinearLeakyRelu"), ("one", "QLinearLeakyRelu"), ("each", "PRelu")]
)
def test_onnxruntime_then_computes_on_integers(kind: str, rectifier: str, tmp_path: Path) -> None:
    model, samples = network(kind), draw_samples(SPEC, 8)
    names = [layer.name for layer in find_layers(model)]
    plain = quantize(model, measure_ranges(model, names, samples), names)
    made, count = choose_rectifiers(plain, model, names, samples, Judge(model, SPEC, samples, 20.0))
    assert count == 2
    assert "QLinearConv" not in list_operators(plain, tmp_path)
    operators = list_operators(made, tmp_path)
    assert operators.count("QLinearConv") == 2 and operators.count(rectifier) == 2
    given = samples.given[0]
    wanted, *found = (Evaluator(graph)(given)[0] for graph in (model, plain, made))
    errors = [float(np.square(images - wanted).mean()) for images in found]
    assert errors[0] < errors[1] < 10 * errors[0]


def test_pairs_are_left_out_where_the_pictures_do_not_allow_them() -> None:
    model, samples = network("each"), draw_samples(SPEC, 8)
    names = [layer.name for layer in find_layers(model)]
    plain = quantize(model, measure_ranges(model, names, samples), names)
    made, count = choose_rectifiers(plain, model, names, samples, Judge(model, SPEC, samples, 100.0))
    assert made is plain and count == 0


def test_only_rectifiers_between_layers_in_8_bits_are_found() -> None:
    model = network("each")
    assert list(find_rectifiers(model, ["x", "r0", "r1"])) == ["c0", "c1"]
    assert list(find_rectifiers(model, ["x", "r0"])) == ["c0"]  # what reads the other one is in float
    assert list(find_rectifiers(model, ["r0", "r1"])) == ["c1"]  # what makes it is
    for read_elsewhere in ("c0", "r0"):
        assert list(find_rectifiers(network("each", ("image", read_elsewhere)), ["x", "r0", "r1"])) == ["c1"]


def test_they_are_for_graphs_that_onnxruntime_alone_runs() -> None:
    samples = draw_samples(SPEC, 4)
    alone, both = (
        convert_to_int8(network("each"), SPEC, samples, 20.0, backends)[1]
        for backends in (("onnxruntime",), ("onnxruntime", "openvino"))
    )
    assert alone["rectifiers in int8"] == 2 and "rectifiers in int8" not in both
