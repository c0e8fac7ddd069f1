"""What is decided over several operators: shared blobs, activations, sizes that are worked out in the graph; and the
text and the bytes of the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ncnn_format.test_operators import draw, evaluate, integers, run
from onnx import TensorProto, helper, numpy_helper

from ganrt.errors import BundleError
from ganrt.ncnn_format import Network, convert_graph
from ganrt.ncnn_format.network import Layer, Weights


def save_graph(
    folder: Path, nodes: list[Any], weights: dict[str, np.ndarray], shape: tuple[int | str, ...] = ("n", 4, "h", "w")
) -> onnx.ModelProto:
    """Write a graph from x to y to g.onnx."""
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / "g.onnx")
    return model


def check(model: onnx.ModelProto, folder: Path, *sizes: tuple[int, int]) -> Network:
    """Compare one network with the evaluator, at several picture sizes."""
    for height, width in sizes:
        x = draw(1, 4, height, width)
        expected = evaluate(model, {"x": x})
        found = run(folder / "g.onnx", {"x": x})
        assert found.shape == np.shape(expected)
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-4)
    return convert_graph(folder / "g.onnx")


def list_kinds(network: Network) -> list[str]:
    return [layer.kind for layer in network.layers]


def node(kind: str, inputs: str, output: str, **attributes: Any) -> Any:
    return helper.make_node(kind, inputs.split(), output.split(), name=output, **attributes)


KERNEL = {"k": draw(4, 4, 3, 3)}


@pytest.mark.parametrize(("activation", "settings"), [("Relu", {}), ("LeakyRelu", {"alpha": 0.3}), ("Sigmoid", {})])
def test_an_activation_is_computed_by_the_convolution(activation: str, settings: Any, tmp_path: Path) -> None:
    nodes = [node("Conv", "x k", "c", pads=[1] * 4), node(activation, "c", "y", **settings)]
    network = check(save_graph(tmp_path, nodes, KERNEL), tmp_path, (5, 7), (16, 12))
    assert list_kinds(network) == ["Input", "Convolution"]


def test_a_convolution_whose_own_output_is_needed_keeps_it(tmp_path: Path) -> None:
    nodes = [node("Conv", "x k", "c", pads=[1] * 4), node("Relu", "c", "r"), node("Add", "c r", "y")]
    network = check(save_graph(tmp_path, nodes, KERNEL), tmp_path, (5, 7))
    assert list_kinds(network) == ["Input", "Convolution", "ReLU", "BinaryOp"]


def test_a_value_that_is_used_often_is_split(tmp_path: Path) -> None:
    nodes = [node("Mul", "x x", "a"), node("Add", "a x", "b"), node("Sub", "b a", "y")]
    network = check(save_graph(tmp_path, nodes, {}), tmp_path, (5, 7))
    lines = network.write_param().splitlines()
    assert lines[:2] == ["7767517", "6 9"]
    assert "Split x#split 1 3 x x#1 x#2 x#3" in lines


def test_what_the_output_does_not_need_is_left_out(tmp_path: Path) -> None:
    nodes = [node("Erf", "x", "e"), node("Relu", "x", "y")]
    assert list_kinds(check(save_graph(tmp_path, nodes, {}), tmp_path, (5, 7))) == ["Input", "ReLU"]


UNSHUFFLE = [
    node("Shape", "x", "batch", start=0, end=1),
    node("Shape", "x", "h0", start=2, end=3),
    node("Shape", "x", "w0", start=3, end=4),
    node("Div", "h0 two", "h1"),
    node("Div", "w0 two", "w1"),
    node("Concat", "batch four h1 two w1 two", "split", axis=0),
    node("Reshape", "x split", "blocks"),
    node("Transpose", "blocks", "moved", perm=[0, 1, 3, 5, 2, 4]),
    node("Concat", "batch sixteen h1 w1", "joined", axis=0),
    node("Reshape", "moved joined", "y"),
]
SIZES = {"two": integers(2), "four": integers(4), "sixteen": integers(16)}


def test_pixels_that_move_into_channels_at_any_size(tmp_path: Path) -> None:
    network = check(save_graph(tmp_path, UNSHUFFLE, SIZES), tmp_path, (4, 6), (10, 8))
    assert list_kinds(network) == ["Input", "Reorg"]


@pytest.mark.parametrize("change", ["order", "blocks"])
def test_other_moves_of_pixels_are_rejected(change: str, tmp_path: Path) -> None:
    nodes = [onnx.NodeProto.FromString(each.SerializeToString()) for each in UNSHUFFLE]
    if change == "order":
        nodes[7].attribute[0].ints[:] = [0, 3, 5, 1, 2, 4]
    else:
        nodes[5].input[5] = "one"
    save_graph(tmp_path, nodes, {**SIZES, "one": integers(1)})
    with pytest.raises(BundleError, match="ncnn has no layer for Shape"):
        convert_graph(tmp_path / "g.onnx")


def test_sizes_that_are_known_are_worked_out(tmp_path: Path) -> None:
    network = check(save_graph(tmp_path, UNSHUFFLE, SIZES, ("n", 4, 4, 6)), tmp_path, (4, 6))
    assert list_kinds(network) == ["Input", "Reorg"]
    nodes = [node("Shape", "x", "s"), node("Gather", "s two", "h"), node("Concat", "one h rest", "to", axis=0)]
    nodes += [node("Reshape", "x to", "y")]
    weights = {"two": integers(2), "one": integers(1), "rest": integers(-1)}
    network = check(save_graph(tmp_path, nodes, weights, ("n", 4, 4, 6)), tmp_path, (4, 6))
    assert list_kinds(network) == ["Input", "Reshape"]


def test_one_side_of_a_reshape_may_depend_on_the_picture(tmp_path: Path) -> None:
    model = save_graph(tmp_path, [node("Reshape", "x to", "y")], {"to": integers(0, 4, -1)})
    check(model, tmp_path, (4, 6), (3, 5))
    save_graph(tmp_path, [node("Reshape", "x to", "y")], {"to": integers(0, 2, 2, 0, -1)})
    with pytest.raises(BundleError, match=r"Reshape \(y\): it makes the shape 1 x 2 x 2 x \? x \?"):
        convert_graph(tmp_path / "g.onnx")


def test_a_graph_that_contradicts_itself_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "g.onnx").write_bytes(b"no graph")
    with pytest.raises(Exception, match=r"parsing message|Protobuf|wire"):
        convert_graph(tmp_path / "g.onnx")


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_numbers_survive_the_text_that_ncnn_reads(value: float) -> None:
    """It reads 15 characters of each."""
    network = Network(layers=[Layer("Clip", "c", ("x",), ("y",), {0: value, 1: 7, 10: (value, 2)})])
    first, whole, array = network.write_param().splitlines()[2].split()[6:]
    assert whole == "1=7" and array.startswith("-23310=2,") and array.endswith(",2")
    for text in (first.removeprefix("0="), array.split(",")[1]):
        assert len(text) <= 15 and {"."} <= set(text)
        assert np.float32(text) == np.float32(value)


@pytest.mark.parametrize(("dtype", "tag", "size"), [("float32", 0, 4 * 3), ("float16", 0x01306B47, 2 * 3 + 2)])
def test_kernels_have_their_type_in_front_and_biases_have_not(dtype: Any, tag: int, size: int) -> None:
    kernel, bias = np.array([0.5, -2, 3], np.float32), np.array([1.5], np.float32)
    layer = Layer("InnerProduct", "p", ("x",), ("y",), {}, (Weights(kernel, tagged=True), Weights(bias)))
    content = Network(layers=[layer]).write_weights(dtype)
    assert len(content) == 4 + size + 4
    assert int.from_bytes(content[:4], "little") == tag
    assert np.array_equal(np.frombuffer(content[4 : 4 + 3 * np.dtype(dtype).itemsize], dtype), kernel)
    assert np.frombuffer(content[-4:], np.float32) == bias


def test_names_of_blobs_are_one_word_and_each_of_one_tensor(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "p"), node("Neg", "x", "q"), node("Sub", "p q", "y")]
    nodes[0].output[0] = nodes[2].input[0] = "a b#1"
    nodes[1].output[0] = nodes[2].input[1] = "a_b_1"
    network = check(save_graph(tmp_path, nodes, {}), tmp_path, (3, 5))
    assert [layer.outputs for layer in network.layers] == [("x",), ("a_b_1",), ("a_b_1_",), ("y",)]
