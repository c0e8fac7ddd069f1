"""Graph passes: the same function with less work, proven in float64 on random shapes and weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from helpers.graphs import CHANNELS, NEAREST, graph, same, types
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from ganrt.errors import VerificationError
from ganrt.export.passes.base import Pass, apply_passes
from ganrt.export.passes.graph import Patch
from ganrt.export.passes.matrix import MATRIX
from ganrt.export.passes.pipeline import optimize_graph
from ganrt.export.passes.reorder import BEFORE_SHUFFLING, BEFORE_UPSAMPLING
from ganrt.export.passes.upsampling import find_conv_after_nearest, find_transposed_conv
from ganrt.export.passes.upsampling_forms import FORMS


def enlarging(
    kernel: tuple[int, int], groups: int, bias: bool, reflect: bool, seed: int, dtype: type = np.float64
) -> ir.Model:
    """Nearest up-sampling, perhaps a reflection, a convolution that keeps the size, and an activation."""
    random = np.random.default_rng(seed)
    weights = {"w": random.normal(size=(6 if groups == 1 else 8, CHANNELS // groups, *kernel))}
    if bias:
        weights["b"] = random.normal(size=len(weights["w"]))
    high, wide = ((side - 1) // 2 for side in kernel)
    pads = [high, wide, kernel[0] - 1 - high, kernel[1] - 1 - wide]
    nodes = [helper.make_node("Resize", ["x", "", "scales"], ["u"], **NEAREST)]
    if reflect:
        weights["pads"] = np.array([0, 0, 1, 1, 0, 0, 1, 1])
        nodes.append(helper.make_node("Pad", ["u", "pads"], ["p"], mode="reflect"))
    inputs = ["p" if reflect else "u", "w", *(["b"] if bias else [])]
    nodes.append(helper.make_node("Conv", inputs, ["c"], pads=[0] * 4 if reflect else pads, group=groups))
    nodes.append(helper.make_node("LeakyRelu", ["c"], ["y"], alpha=0.2))
    return graph(nodes, weights, dtype)


KERNELS = st.tuples(st.integers(2, 9), st.integers(2, 9))


@pytest.mark.parametrize("form", FORMS)
@given(kernel=KERNELS, groups=st.sampled_from([1, 2]), bias=st.booleans(), seed=st.integers(0, 99))
def test_up_sampling_in_every_form(form: str, kernel: tuple[int, int], groups: int, bias: bool, seed: int) -> None:
    groups = 1 if form == "transposed" else groups  # the reference evaluator cannot do grouped transposed ones
    before = enlarging(kernel, groups, bias, False, seed)
    after, applied = apply_passes(before, [FORMS[form]])
    assert applied == (form,) and "Resize" not in types(after)
    same(before, after, seed)


@pytest.mark.parametrize("form", FORMS)
@given(bias=st.booleans(), seed=st.integers(0, 99))
def test_a_reflected_border_becomes_a_repeated_one(form: str, bias: bool, seed: int) -> None:
    before = enlarging((3, 3), 1, bias, True, seed)
    after, applied = apply_passes(before, [FORMS[form]])
    assert applied == (form,) and "Resize" not in types(after)
    same(before, after, seed)


@pytest.mark.parametrize("form", ["phases", "subpixel"])
@given(
    shape=st.sampled_from([(4, 1, 0), (2, 0, 0), (3, 1, 1), (5, 2, 1), (6, 2, 0), (8, 3, 0)]),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_transposed_convolutions(form: str, shape: tuple[int, int, int], bias: bool, seed: int) -> None:
    kernel, pads, extra = shape
    random = np.random.default_rng(seed)
    weights = {"w": random.normal(size=(CHANNELS, 3, kernel, kernel))} | ({"b": random.normal(size=3)} if bias else {})
    attributes: dict[str, Any] = {"strides": [2, 2], "pads": [pads] * 4, "output_padding": [extra] * 2}
    before = graph([helper.make_node("ConvTranspose", ["x", *weights], ["y"], **attributes)], weights)
    after, applied = apply_passes(before, [FORMS[form]])
    assert applied == (form,) and "ConvTranspose" not in types(after)
    same(before, after, seed)


@pytest.mark.parametrize("form", FORMS)
def test_float32_on_onnx_runtime(form: str) -> None:
    before = enlarging((3, 3), 2, True, False, 1, np.float32)
    after, _ = optimize_graph(before, form)
    x = np.random.default_rng(0).normal(size=(2, CHANNELS, 6, 7)).astype(np.float32)
    wanted, found = (
        ort.InferenceSession(ir.to_proto(m).SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
        for m in (before, after)
    )
    np.testing.assert_allclose(found[0], wanted[0], rtol=0, atol=1e-5 * np.abs(wanted[0]).max())


OTHERS = {
    "linear up-sampling": [helper.make_node("Resize", ["x", "", "scales"], ["u"], mode="linear")],
    "nearest with another rule": [
        helper.make_node("Resize", ["x", "", "scales"], ["u"], mode="nearest", nearest_mode="ceil")
    ],
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("form", FORMS)
def test_other_up_sampling_comes_out_as_it_went_in(name: str, form: str) -> None:
    weights = {"w": np.ones((2, CHANNELS, 3, 3))}
    conv = helper.make_node("Conv", ["u", "w"], ["y"], pads=[1, 1, 1, 1])
    before = graph([*OTHERS[name], conv], weights)
    after, applied = optimize_graph(before, form)
    assert applied == () and ir.to_proto(after) == ir.to_proto(before)


@pytest.mark.parametrize("change", [{"strides": [2, 2]}, {"dilations": [2, 2]}, {"pads": [0, 0, 0, 0]}])
def test_a_convolution_of_another_kind_is_left_alone(change: dict[str, Any]) -> None:
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["u"], **NEAREST),
        helper.make_node("Conv", ["u", "w"], ["y"], **{"pads": [1, 1, 1, 1], **change}),
    ]
    model = graph(nodes, {"w": np.ones((2, CHANNELS, 3, 3))})
    assert all(find_conv_after_nearest(node) is None and find_transposed_conv(node) is None for node in model.graph)


def test_an_enlarged_picture_that_others_need_stays() -> None:
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["u"], **NEAREST),
        helper.make_node("Conv", ["u", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "u"], ["y"]),
    ]
    before = graph(nodes, {"w": np.random.default_rng(0).normal(size=(CHANNELS, CHANNELS, 3, 3))})
    after, applied = apply_passes(before, [FORMS["phases"]])
    assert applied == ("phases",) and types(after).count("Resize") == 1
    same(before, after, 0)


@given(seed=st.integers(0, 99))
def test_pointwise_work_moves_in_front_of_enlarging(seed: int) -> None:
    random = np.random.default_rng(seed)
    weights = {
        "w": random.normal(size=(CHANNELS, CHANNELS, 1, 1)),
        "shift": random.normal(size=(CHANNELS, 1, 1)),
        **{name: random.uniform(0.5, 2, CHANNELS) for name in ("gain", "bias", "mean", "variance")},
    }
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["u"], **NEAREST),
        helper.make_node("Conv", ["u", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "gain", "bias", "mean", "variance"], ["n"]),
        helper.make_node("Add", ["n", "shift"], ["s"]),
        helper.make_node("Relu", ["s"], ["y"]),
    ]
    before = graph(nodes, weights)
    after, applied = apply_passes(before, [BEFORE_UPSAMPLING])
    assert applied == ("before-upsampling",)
    assert types(after) == ["Conv", "BatchNormalization", "Add", "Relu", "Resize"]
    same(before, after, seed)


def test_what_varies_along_a_row_does_not_move() -> None:
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["u"], **NEAREST),
        helper.make_node("Mul", ["u", "row"], ["y"]),
    ]
    before = graph(nodes, {"row": np.arange(1.0, 11.0)})
    after, applied = apply_passes(before, [BEFORE_UPSAMPLING])
    assert applied == () and types(after) == types(before)


@pytest.mark.parametrize("form", ["phases", "subpixel"])
def test_activations_come_right_behind_the_convolutions(form: str) -> None:
    before = enlarging((3, 3), 1, True, False, 0)
    after, applied = apply_passes(before, [FORMS[form], BEFORE_SHUFFLING])
    assert applied == (form, "before-shuffling")
    behind = {use.node.op_type for node in after.graph if node.op_type == "Conv" for use in node.outputs[0].uses()}
    assert behind == {"LeakyRelu"}
    same(before, after, 0)


@given(kernel=st.integers(1, 5), pads=st.integers(0, 1), bias=st.booleans(), seed=st.integers(0, 99))
def test_a_single_pixel_becomes_a_matrix_product(kernel: int, pads: int, bias: bool, seed: int) -> None:
    pads = pads if kernel > 2 else 0
    random = np.random.default_rng(seed)
    weights = {"w": random.normal(size=(CHANNELS, 3, kernel, kernel))} | ({"b": random.normal(size=3)} if bias else {})
    before = graph([helper.make_node("ConvTranspose", ["x", *weights], ["y"], pads=[pads] * 4)], weights, size=(1, 1))
    after, applied = apply_passes(before, [MATRIX])
    assert applied == ("matrix",) and types(after) == ["Flatten", "Gemm", "Reshape"]
    same(before, after, seed, (1, 1))


def _lies(model: ir.Model) -> int:
    next(iter(model.graph)).name = "renamed"
    node = list(model.graph)[-1]
    Patch(node).replace(node.outputs[0], Patch(node).add_op("Relu", node.outputs))
    return 0


def _renames(model: ir.Model) -> int:
    model.graph.outputs[0].name = "other"
    return 1


@pytest.mark.parametrize(
    ("rewrite", "message"),
    [(_lies, "reported no change, but changed the graph"), (_renames, "changed the inputs or outputs")],
)
def test_a_pass_that_breaks_its_promise_is_found(rewrite: Any, message: str) -> None:
    with pytest.raises(VerificationError, match=f"the pass bad {message}; please report this"):
        apply_passes(enlarging((3, 3), 1, True, False, 0), [Pass("bad", "", rewrite)])


def test_a_pass_that_leaves_an_invalid_graph_is_found() -> None:
    def rewrite(model: ir.Model) -> int:
        list(model.graph)[-1].op_type = "NoSuchOperator"
        return 1

    with pytest.raises(VerificationError, match="the passes bad made a graph that is not valid ONNX"):
        apply_passes(enlarging((3, 3), 1, True, False, 0), [Pass("bad", "", rewrite)])
