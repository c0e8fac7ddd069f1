"""Weights that are computed with in float, stored in fewer bits: which, how exactly, and that backends restore them
when they load the graph."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from helpers.optional import unwrap
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, load, numpy_helper
from onnx_ir.passes.common import ShapeInferencePass

from ganrt.backend import open_session
from ganrt.bundle import Bundle, Variant
from ganrt.export.passes import optimize_graph
from ganrt.export.passes.graph import read_constant
from ganrt.export.precision import convert_to_int8, describe_storage, draw_samples
from ganrt.export.precision.calibration import Evaluator
from ganrt.export.precision.judge import Judge
from ganrt.export.precision.sensitivity import choose_by_halves
from ganrt.export.precision.stored_weights import (
    choose_stored_bits,
    find_stored_weights,
    round_to_8_bits,
    store_weights,
)
from ganrt.export.tracing import trace
from ganrt.feeds import draw_feeds
from ganrt.models import build_generator, get_family
from ganrt.session_config import SessionConfig
from ganrt.spec import Label, Latent, Output, Spec
from ganrt.stores import FolderStore

SPEC = Spec("small", (Latent("z", (40,)), Label("label", 300)), Output(3, (-1.0, 1.0), (8, 8)))
EVERY = {"matrix", "table", "pointwise", "product"}


def network(seed: int = 0, **changed: np.ndarray) -> ir.Model:
    """A table of classes, a Gemm, a MatMul, a convolution of one pixel, and one of 8 x 8 pixels."""
    random = np.random.default_rng(seed)
    weights: dict[str, Any] = {
        "matrix": random.normal(0, 0.2, (128, 40)),
        "bias": random.normal(0, 0.2, 128),
        "table": random.normal(0, 0.5, (300, 128)),
        "product": random.normal(0, 0.1, (128, 128)),
        "pointwise": random.normal(0, 0.1, (64, 128, 1, 1)),
        "enlarge": random.normal(0, 0.1, (64, 16, 8, 8)),
        "last": random.normal(0, 0.1, (3, 16, 3, 3)),
        "sides": np.array([0, -1, 1, 1], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["table", "label"], ["row"], name="gather"),
        helper.make_node("Gemm", ["z", "matrix", "bias"], ["first"], transB=1),
        helper.make_node("Add", ["row", "first"], ["both"]),
        helper.make_node("MatMul", ["both", "product"], ["mixed"]),
        helper.make_node("Reshape", ["mixed", "sides"], ["pixel"], allowzero=0),
        helper.make_node("Conv", ["pixel", "pointwise"], ["narrow"]),
        helper.make_node("ConvTranspose", ["narrow", "enlarge"], ["wide"]),
        helper.make_node("Relu", ["wide"], ["positive"]),
        helper.make_node("Conv", ["positive", "last"], ["sum"], pads=[1, 1, 1, 1]),
        helper.make_node("Tanh", ["sum"], ["image"]),
    ]
    made = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 40]),
            helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
        ],
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [
            numpy_helper.from_array(value if value.dtype == np.int64 else value.astype(np.float32), name)
            for name, value in (weights | changed).items()
        ],
    )
    model = ir.from_proto(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    ShapeInferencePass()(model)  # a traced graph knows its shapes
    return model


def run(model: ir.Model) -> np.ndarray:
    return Evaluator(model)(draw_feeds(SPEC, 3, 0, 5))[0]


def test_matrices_and_tables_and_convolutions_are_found_and_vectors_are_not() -> None:
    found = find_stored_weights(network())
    assert {name: weight.axis for name, weight in found.items()} == {
        "table": 1,
        "matrix": 0,
        "product": 1,
        "pointwise": 0,
        "enlarge": 1,
    }
    assert [name for name, weight in found.items() if weight.is_table] == ["table"]


@given(seed=st.integers(0, 99), axis=st.integers(0, 2), offset=st.sampled_from([0.0, 3.0, -1e-3]))
def test_each_value_is_within_half_a_step_of_its_channel(seed: int, axis: int, offset: float) -> None:
    random = np.random.default_rng(seed)
    scales = 10.0 ** random.integers(-3, 3, 5)
    weight = (np.moveaxis(random.normal(size=(5, 4, 6)).T * scales, -1, axis) + offset).astype(np.float32)
    steps, scale, low = round_to_8_bits(weight, axis)
    assert steps.dtype == np.uint8 and scale.shape == low.shape and scale.size == weight.shape[axis] == 5
    assert (np.abs(steps * scale + low - weight) <= 0.501 * scale + 1e-6 * np.abs(weight)).all()


def test_channels_of_one_value_are_exact() -> None:
    weight = np.repeat(np.array([[0.0], [0.1], [-7.0]], np.float32), 5, axis=1)
    steps, scale, low = round_to_8_bits(weight, 0)
    np.testing.assert_array_equal(steps * scale + low, weight)


@pytest.mark.parametrize(("names", "most"), [(EVERY | {"enlarge"}, 0.08), ((), 0.004)])
def test_the_images_stay_nearly_the_same(names: Collection[str], most: float) -> None:
    apart = np.abs(run(store_weights(network(), names)) - run(network())).max()
    assert 0 < apart < most


def test_a_table_is_looked_up_before_it_is_converted() -> None:
    for names, kind in ((["table"], np.uint8), ([], np.float16)):
        made = store_weights(network(), names)
        gather = next(node for node in made.graph if node.op_type == "Gather")
        assert unwrap(read_constant(gather.inputs[0])).dtype == kind
        assert [use.node.op_type for use in gather.outputs[0].uses()] == ["Cast"]


def test_float32_weights_are_gone() -> None:
    made = store_weights(network(), EVERY)
    left = [value for value in made.graph.initializers.values() if unwrap(read_constant(value)).dtype == np.float32]
    assert max(unwrap(read_constant(value)).size for value in left) == 432  # of the last convolution, which is small
    assert describe_storage(made) == "uint8 50.4 %, float16 48.5 %, float32 1.08 %"


def test_onnx_runtime_restores_weights_when_it_loads_them(tmp_path: Path) -> None:
    """No operator of a batch works on a whole weight."""
    options = ort.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "x.onnx"), 4
    content = ir.to_proto(store_weights(network(), EVERY)).SerializeToString()
    ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    graph = load(tmp_path / "x.onnx").graph
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.initializer}
    converted = [node for node in graph.node if node.op_type in ("Cast", "Mul", "DequantizeLinear")]
    assert [node.op_type for node in converted] == ["Cast", "Mul"]  # of rows of the table
    assert max(sizes.get(name, 0) for node in converted for name in node.input) == 128


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "reference"])
@pytest.mark.parametrize("names", [EVERY, ()], ids=["8 bits", "16 bits"])
def test_backends_compute_with_the_stored_values(backend: str, names: Collection[str], tmp_path: Path) -> None:
    """OpenVINO would round the other factor to 8 bits too for weights in other forms."""
    made = store_weights(network(), names)
    ir.save(made, tmp_path / "model.onnx")
    bundle = Bundle(FolderStore(tmp_path), SPEC, {"fp32": Variant("model.onnx", 20, "fp32")}, {})
    rows = draw_feeds(SPEC, 3, 0, 5)
    with open_session(bundle.with_files("model.onnx"), SessionConfig(backend, "fp32", "cpu")) as session:
        found = session.submit({**rows}).wait()["image"] if not session.batch_sizes else None
        if found is None:
            found = np.concatenate(
                [session.submit({k: v[i : i + 1] for k, v in rows.items()}).wait()["image"] for i in range(5)]
            )
    np.testing.assert_allclose(found, run(made), atol=2e-5)


def change_users(model: ir.Model, change: str) -> ir.Model:
    node = {n.op_type: n for n in model.graph}
    table, matrix = (model.graph.initializers[name] for name in ("table", "matrix"))
    if change == "read as a table and as a matrix":
        node["MatMul"].replace_input_with(1, table)
    if change == "read along both axes":
        model.graph.append(ir.node("MatMul", [node["Gemm"].outputs[0], matrix]))
    if change == "added":
        model.graph.append(ir.node("Add", [table, table]))
    if change == "looked up along the other axis":
        node["Gather"].attributes["axis"] = ir.AttrInt64("axis", 1)
    return model


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ("read as a table and as a matrix", "table"),
        ("read along both axes", "matrix"),
        ("added", "table"),
        ("looked up along the other axis", "table"),
    ],
)
def test_weights_that_are_used_in_other_ways_stay_as_they_are(change: str, name: str) -> None:
    assert name in find_stored_weights(network())
    assert name not in find_stored_weights(change_users(network(), change))


@pytest.mark.parametrize("value", [65536.0, -1e6, np.nan, np.inf])
def test_values_beyond_float16_stay_in_float32(value: float) -> None:
    product = np.zeros((128, 128), np.float32)
    product[3, 5] = value
    assert "product" not in find_stored_weights(network(product=product))


def test_small_weights_are_not_worth_it() -> None:
    assert "product" not in find_stored_weights(network(product=np.ones((128, 31), np.float32)))
    assert "product" in find_stored_weights(network(product=np.ones((128, 32), np.float32)))


def test_a_weight_that_two_nodes_read_is_stored_once() -> None:
    model = network()
    gemm = next(node for node in model.graph if node.op_type == "Gemm")
    model.graph.insert_after(gemm, ir.node("Gemm", list(gemm.inputs), {"transB": 1}))
    second = next(node for node in model.graph if node.op_type == "Gemm" and node is not gemm)
    add = next(node for node in model.graph if node.op_type == "Add")
    add.replace_input_with(0, second.outputs[0])
    made = store_weights(model, EVERY)
    assert [name for name in made.graph.initializers if name.startswith("matrix")] == [
        "matrix.uint8",
        "matrix.scale",
        "matrix.low",
    ]
    assert np.abs(run(made) - run(model)).max() < 0.1


def test_what_costs_too_much_in_8_bits_is_stored_in_16() -> None:
    """One row of the table is a thousand times larger than the others, which 8 bits then round to one value."""
    table = np.random.default_rng(1).normal(0, 0.5, (300, 128)).astype(np.float32)
    table[299] = 3e3
    model = network(table=table)
    samples = draw_samples(SPEC, 8)
    made, notes, measured = choose_stored_bits(model, Judge(model, SPEC, samples, 40.0))
    assert measured == Judge(model, SPEC, samples, 40.0).measure(made) and unwrap(measured).error <= 1.0
    assert notes["other weights stored in 8 bits"] == 4
    assert notes["other weights stored in 16 bits"] == ["table"]
    assert "table.float16" in made.graph.initializers and "matrix.uint8" in made.graph.initializers


class _Room:
    """Fits what sums up to at most `room`, and counts the calls."""

    def __init__(self, room: int) -> None:
        self.room, self.calls = room, 0

    def __call__(self, names: Collection[str]) -> bool:
        self.calls += 1
        return sum(map(int, names)) <= self.room


@pytest.mark.parametrize(
    ("room", "chosen", "calls"),
    [(36, "1 2 3 4 5 6 7 8", 1), (35, "1 2 3 4 5 6 7", 7), (11, "1 2 3 4", 9), (3, "1 2", 12), (0, "", 12)],
)
def test_of_what_does_not_fit_halves_are_tried(room: int, chosen: str, calls: int) -> None:
    fits = _Room(room)
    assert choose_by_halves([str(size) for size in range(1, 9)], fits) == chosen.split() and fits.calls == calls


def test_weights_that_fit_on_the_worst_sample_alone_are_judged_on_all() -> None:
    """The judge of one sample lets everything pass."""

    class Careless(Judge):
        def narrow(self, sample: int) -> Judge:
            return Judge(network(), SPEC, draw_samples(SPEC, 1), -100.0)

    table = np.random.default_rng(1).normal(0, 0.5, (300, 128)).astype(np.float32)
    table[299] = 3e3
    samples = draw_samples(SPEC, 8)
    _, notes, measured = choose_stored_bits(network(table=table), Careless(network(table=table), SPEC, samples, 40.0))
    assert "table" in notes["other weights stored in 16 bits"] and unwrap(measured).error <= 1.0


def test_a_graph_with_nothing_to_store_is_left_alone() -> None:
    made, _, _ = choose_stored_bits(network(), Judge(network(), SPEC, draw_samples(SPEC, 4), 40.0))
    again, notes, measured = choose_stored_bits(made, Judge(network(), SPEC, draw_samples(SPEC, 4), 40.0))
    assert again is made and notes == {} and measured is None


def test_int8_says_how_all_weights_are_stored() -> None:
    made, notes = convert_to_int8(network(), SPEC, draw_samples(SPEC, 8), 30.0)
    assert notes["layers in int8"] == 1 and notes["convolutions kept in float"] == {}
    assert notes["other weights stored in 8 bits"] == 5
    stored = describe_storage(made)
    assert stored.startswith("uint8 9") and "int8 0." in stored and "float16" not in stored


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("dcgan", {"size": 32, "channels": 1, "width": 16}),  # as `ganrt demo` trains it
        ("resnet", {"size": 32, "width": 16, "latent": 64, "classes": 300}),
    ],
    ids=["dcgan", "conditional"],
)
def test_int8_is_smaller_than_fp16(family: str, config: dict[str, Any]) -> None:
    """The first layer and the tables of classes hold most numbers of a small GAN. fp16 takes two bytes for each."""
    found = get_family(family)
    spec = found.spec(found.configure(config))
    traced = trace(build_generator(family, config).eval(), spec, 20)
    samples = draw_samples(spec, 4)
    made, notes = convert_to_int8(optimize_graph(traced, "phases")[0], spec, samples, 32.0)
    numbers = sum(unwrap(read_constant(value)).size for value in traced.graph.initializers.values())
    assert len(ir.to_proto(made).SerializeToString()) < 0.9 * 2 * numbers
    assert notes["convolutions kept in float"] == {} and "other weights stored in 16 bits" not in notes


def test_openvino_says_that_products_of_stored_weights_are_computed_in_float(tmp_path: Path) -> None:
    ir.save(convert_to_int8(network(), SPEC, draw_samples(SPEC, 8), 30.0)[0], tmp_path / "model.onnx")
    bundle = Bundle(FolderStore(tmp_path), SPEC, {"int8": Variant("model.onnx", 20, "int8")}, {})
    with open_session(bundle.with_files("model.onnx"), SessionConfig("openvino", "int8", "cpu")) as session:
        shares = session.details["computed in"]
    assert re.fullmatch(r"(f32|bf16) 80%, [iu]8 20%", shares)  # of five products one is a convolution in 8 bits
