"""Norms, scales and biases folded or merged, and narrow convolutions packed: the same function, proven in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from helpers.graphs import CHANNELS, NEAREST, graph, same, types
from helpers.optional import unwrap
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from ganrt.export.passes.affine import AFFINE
from ganrt.export.passes.base import apply_passes
from ganrt.export.passes.folding import FOLD_BACKWARD, FOLD_FORWARD
from ganrt.export.passes.packing import PACKING

SEEDS = st.integers(0, 99)
NORM = ["gain", "bias", "mean", "variance"]


def norm(random: np.random.Generator, channels: int = CHANNELS) -> dict[str, np.ndarray]:
    return {name: random.uniform(0.5, 2, channels) for name in NORM}


def layer(kind: str, random: np.random.Generator, groups: int, bias: bool) -> tuple[Any, dict[str, np.ndarray], int]:
    """A node x -> c, its weights, and how many channels it makes."""
    out = 6 if kind == "Conv" else 8
    shape = (out, CHANNELS // groups, 3, 3) if kind == "Conv" else (CHANNELS, out // groups, 3, 3)
    weights = {"w": random.normal(size=shape)} | ({"b": random.normal(size=out)} if bias else {})
    return helper.make_node(kind, ["x", *weights], ["c"], pads=[1] * 4, group=groups), weights, out


@given(kind=st.sampled_from(["Conv", "ConvTranspose"]), groups=st.sampled_from([1, 2]), bias=st.booleans(), seed=SEEDS)
def test_a_batch_norm_behind_a_layer(kind: str, groups: int, bias: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    groups = 1 if kind == "ConvTranspose" else groups  # the reference evaluator cannot do grouped transposed ones
    first, weights, out = layer(kind, random, groups, bias)
    before = graph([first, helper.make_node("BatchNormalization", ["c", *NORM], ["y"])], weights | norm(random, out))
    after, applied = apply_passes(before, [FOLD_BACKWARD])
    assert applied == ("fold-backward",) and types(after) == [kind]
    same(before, after, seed)


BETWEEN = {
    "up-sampling": (helper.make_node("Resize", ["c", "", "scales"], ["m"], **NEAREST), 8),
    "depth-to-space DCR": (helper.make_node("DepthToSpace", ["c"], ["m"], blocksize=2, mode="DCR"), 2),
    "depth-to-space CRD": (helper.make_node("DepthToSpace", ["c"], ["m"], blocksize=2, mode="CRD"), 2),
}


@pytest.mark.parametrize("between", BETWEEN)
@given(seed=SEEDS)
def test_a_scale_and_a_shift_across_what_moves_pixels(between: str, seed: int) -> None:
    node, channels = BETWEEN[between]
    random = np.random.default_rng(seed)
    weights = {
        "w": random.normal(size=(8, CHANNELS, 3, 3)),
        "scale": random.normal(size=(channels, 1, 1)),
        "shift": random.normal(size=(1, channels, 1, 1)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
        node,
        helper.make_node("Mul", ["m", "scale"], ["s"]),
        helper.make_node("Sub", ["s", "shift"], ["y"]),
    ]
    before = graph(nodes, weights)
    after, applied = apply_passes(before, [FOLD_BACKWARD])
    assert applied == ("fold-backward",) and types(after) == ["Conv", node.op_type]
    same(before, after, seed)


@given(turned=st.booleans(), seed=SEEDS)
def test_a_norm_behind_a_vector_that_becomes_a_picture(turned: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    weight = random.normal(size=(CHANNELS, 12))
    weights = {"w": weight.T if turned else weight, "shape": np.array([-1, 3, 2, 2]), **norm(random, 3)}
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["g"], transB=int(turned)),
        helper.make_node("Reshape", ["g", "shape"], ["r"]),
        helper.make_node("BatchNormalization", ["r", *NORM], ["y"]),
    ]
    before = graph(nodes, weights)
    after, applied = apply_passes(before, [FOLD_BACKWARD])
    assert applied == ("fold-backward",) and types(after) == ["Flatten", "Gemm", "Reshape"]
    same(before, after, seed, (1, 1))


def test_what_others_need_unscaled_is_not_folded() -> None:
    random = np.random.default_rng(0)
    first, weights, out = layer("Conv", random, 1, True)
    nodes = [
        first,
        helper.make_node("BatchNormalization", ["c", *NORM], ["n"]),
        helper.make_node("Add", ["n", "c"], ["y"]),
    ]
    before = graph(nodes, weights | norm(random, out))
    assert apply_passes(before, [FOLD_BACKWARD])[1] == ()


@given(kind=st.sampled_from(["Conv", "ConvTranspose"]), groups=st.sampled_from([1, 2]), bias=st.booleans(), seed=SEEDS)
def test_a_scale_before_a_layer(kind: str, groups: int, bias: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    groups = 1 if kind == "ConvTranspose" else groups
    last, weights, _ = layer(kind, random, groups, bias)
    last.input[0], last.output[0] = "s", "y"
    weights["scale"] = random.normal(size=(CHANNELS, 1, 1))
    before = graph([helper.make_node("Div", ["x", "scale"], ["s"]), last], weights)
    after, applied = apply_passes(before, [FOLD_FORWARD])
    assert applied == ("fold-forward",) and types(after) == [kind]
    same(before, after, seed)


@given(groups=st.sampled_from([1, 2]), seed=SEEDS)
def test_a_norm_before_layers_without_padding(groups: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    weights = {"v": random.normal(size=(2, CHANNELS, 3, 3)), "w": random.normal(size=(2, CHANNELS // groups, 3, 3))}
    nodes = [
        helper.make_node("BatchNormalization", ["x", *NORM], ["n"]),
        helper.make_node("Conv", ["n", "v"], ["c"]),
        helper.make_node("Conv", ["n", "w"], ["d"], group=groups),
        helper.make_node("Add", ["c", "d"], ["y"]),
    ]
    before = graph(nodes, weights | norm(random))
    after, applied = apply_passes(before, [FOLD_FORWARD])
    assert applied == ("fold-forward",) and types(after) == ["Conv", "Conv", "Add"]
    same(before, after, seed, (5, 6))


@pytest.mark.parametrize("padding", [{"pads": [1] * 4}, {"auto_pad": "SAME_UPPER"}])
def test_a_shift_before_zero_padding_stays(padding: dict[str, Any]) -> None:
    random = np.random.default_rng(0)
    weights = {"w": random.normal(size=(6, CHANNELS, 3, 3))}
    last = helper.make_node("Conv", ["n", "w"], ["y"], **padding)
    before = graph([helper.make_node("BatchNormalization", ["x", *NORM], ["n"]), last], weights | norm(random))
    assert apply_passes(before, [FOLD_FORWARD])[1] == ()


def conditional(seed: int) -> ir.Model:
    """Batch norm, then a gain (about 1) and a bias that are linear in the first pixel of the picture."""
    random = np.random.default_rng(seed)
    weights = {
        "slice": np.array([0, 0]),
        "ones": np.array([1, 1]),
        "hw": np.array([2, 3]),
        "G": random.normal(size=(CHANNELS, CHANNELS)),
        "B": random.normal(size=(CHANNELS, CHANNELS)),
        "h": random.normal(size=CHANNELS),
        "one": np.array(1.0),
        **norm(random),
    }
    nodes = [
        helper.make_node("Slice", ["x", "slice", "ones", "hw"], ["p"]),
        helper.make_node("Flatten", ["p"], ["e"]),
        helper.make_node("Gemm", ["e", "G"], ["g0"], transB=1),
        helper.make_node("Add", ["g0", "one"], ["g1"]),
        helper.make_node("Unsqueeze", ["g1", "hw"], ["g"]),
        helper.make_node("Gemm", ["e", "B", "h"], ["b1"]),
        helper.make_node("Unsqueeze", ["b1", "hw"], ["b"]),
        helper.make_node("BatchNormalization", ["x", *NORM], ["n"]),
        helper.make_node("Mul", ["n", "g"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["a"]),
        helper.make_node("Relu", ["a"], ["y"]),
    ]
    return graph(nodes, weights)


@given(seed=SEEDS)
def test_a_conditional_norm_is_one_multiplication_and_one_addition(seed: int) -> None:
    before = conditional(seed)
    after, applied = apply_passes(before, [FOLD_BACKWARD, AFFINE])
    assert applied == ("fold-backward", "affine")
    assert types(after) == ["Slice", "Flatten", "Unsqueeze", "Conv", "Mul", "Conv", "Add", "Relu"]
    same(before, after, seed)


@given(seed=SEEDS)
def test_gains_that_are_no_linear_function_are_multiplied_when_the_model_runs(seed: int) -> None:
    random = np.random.default_rng(seed)
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["g"]),
        helper.make_node("BatchNormalization", ["x", *NORM], ["n"]),
        helper.make_node("Mul", ["n", "g"], ["m"]),
        helper.make_node("Add", ["m", "shift"], ["s"]),
        helper.make_node("Mul", ["g", "s"], ["y"]),
    ]
    before = graph(nodes, {"shift": random.normal(size=(CHANNELS, 1, 1)), **norm(random)})
    after, applied = apply_passes(before, [AFFINE])
    pictures = [
        node for node in after.graph if node.op_type != "GlobalAveragePool" and unwrap(node.outputs[0].shape)[2] != 1
    ]
    assert applied == ("affine",) and [node.op_type for node in pictures] == ["Mul", "Add"]
    same(before, after, seed)


def test_a_lone_multiplication_comes_out_as_it_went_in() -> None:
    nodes = [
        helper.make_node("Mul", ["x", "scale"], ["s"]),
        helper.make_node("Relu", ["s"], ["y"]),
    ]
    before = graph(nodes, {"scale": np.ones((CHANNELS, 1, 1))})
    assert apply_passes(before, [FOLD_BACKWARD, AFFINE, FOLD_FORWARD])[1] == ()


@given(
    kernel=st.tuples(st.integers(1, 9), st.integers(2, 9)),
    channels=st.integers(1, 4),
    bias=st.booleans(),
    reflect=st.booleans(),
    seed=SEEDS,
)
def test_a_narrow_convolution_makes_four_pixels_at_a_time(
    kernel: tuple[int, int], channels: int, bias: bool, reflect: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)
    weights = {"w": random.normal(size=(channels, CHANNELS, *kernel)), "pads": np.array([0, 0, 1, 3, 0, 0, 1, 1])}
    pads = [kernel[0] // 2, kernel[1] // 2, (kernel[0] - 1) // 2, (kernel[1] - 1) // 2]
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["u"], **NEAREST),
        helper.make_node("Relu", ["u"], ["r"]),
        *([helper.make_node("Pad", ["r", "pads"], ["p"], mode="reflect")] if reflect else []),
        helper.make_node("Conv", ["p" if reflect else "r", "w", *(["b"] if bias else [])], ["y"], pads=pads),
    ]
    before = graph(nodes, weights | ({"b": random.normal(size=channels)} if bias else {}))
    after, applied = apply_passes(before, [PACKING])
    assert applied == ("packing",) and types(after)[-2:] == ["Conv", "DepthToSpace"]
    same(before, after, seed, (4, 5))


@pytest.mark.parametrize(
    "change",
    [{"pads": [1, 1, 1, 0]}, {"strides": [2, 2]}, {"dilations": [2, 2]}, {"auto_pad": "SAME_UPPER"}],
)
def test_narrow_convolutions_of_another_kind_or_parity_stay(change: dict[str, Any]) -> None:
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["u"], **NEAREST),
        helper.make_node("Conv", ["u", "w"], ["y"], **({} if "auto_pad" in change else {"pads": [1] * 4}) | change),
    ]
    before = graph(nodes, {"w": np.ones((3, CHANNELS, 3, 3))})
    assert apply_passes(before, [PACKING])[1] == ()


def test_pictures_that_may_be_odd_stay() -> None:
    before = graph([helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4)], {"w": np.ones((3, CHANNELS, 3, 3))})
    assert apply_passes(before, [PACKING])[1] == ()


@given(blocksize=st.integers(1, 4), seed=SEEDS)
def test_depth_to_space_makes_an_even_size_if_its_block_is_even(blocksize: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["c"]),
        helper.make_node("DepthToSpace", ["c"], ["d"], blocksize=blocksize),
        helper.make_node("Conv", ["d", "second"], ["y"], pads=[1] * 4),
    ]
    weights = {"first": random.normal(size=(blocksize**2, CHANNELS, 1, 1)), "second": random.normal(size=(3, 1, 3, 3))}
    before = graph(nodes, weights)
    after, applied = apply_passes(before, [PACKING])
    assert applied == (("packing",) if blocksize % 2 == 0 else ())
    same(before, after, seed)


def test_a_narrow_convolution_with_a_computed_bias_stays() -> None:
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["u"], **NEAREST),
        helper.make_node("ReduceMean", ["x", "axes"], ["b"], keepdims=0),
        helper.make_node("Conv", ["u", "w", "b"], ["y"], pads=[1] * 4),
    ]
    before = graph(nodes, {"w": np.ones((CHANNELS, CHANNELS, 3, 3)), "axes": np.array([0, 2, 3])})
    assert apply_passes(before, [PACKING])[1] == ()


@given(output=st.booleans(), constant=st.booleans(), seed=SEEDS)
def test_a_scale_is_folded_forward_if_it_is_constant_and_no_output(output: bool, constant: bool, seed: int) -> None:
    """A scaled value that is an output of the graph must stay, and so must a scale that depends on the input."""
    random = np.random.default_rng(seed)
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["g"]),
        helper.make_node("Mul", ["x", "scale" if constant else "g"], ["s"]),
        helper.make_node("Conv", ["s", "w"], ["y"]),
    ]
    weights = {"scale": random.normal(size=(CHANNELS, 1, 1)), "w": random.normal(size=(5, CHANNELS, 1, 1))}
    before = graph(nodes, weights)
    if output:
        before.graph.outputs.append(next(node.outputs[0] for node in before.graph if node.op_type == "Mul"))
    after, applied = apply_passes(before, [FOLD_FORWARD])
    assert applied == (("fold-forward",) if constant and not output else ())
    assert len(after.graph.outputs) == 1 + output
    same(before, after, seed)
