"""Matrix products for Turing, as convolutions."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from ganrt.export.engines import Compiler, RtxEngineOptions
from ganrt.export.engines.turing import replace_gemms
from ganrt.export.precision import Evaluator


def make_gemm(bias: tuple[int, ...] | None, kind: type = np.float32, **attributes: Any) -> ir.Model:
    """x (N, 5) -> Gemm -> y (N, 7)."""
    random = np.random.default_rng(0)
    shape = (7, 5) if attributes.get("transB") else (5, 7)
    weights: dict[str, np.ndarray] = {"w": random.normal(size=shape).astype(kind)}
    if bias is not None:
        weights["b"] = random.normal(size=bias).astype(kind)
    node = helper.make_node("Gemm", ["x", *weights], ["y"], name="head/Gemm", **attributes)
    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    graph = helper.make_graph(
        [node],
        "gemm",
        [helper.make_tensor_value_info("x", dtype, ["N", 5])],
        [helper.make_tensor_value_info("y", dtype, ["N", 7])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))


def list_operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


@given(st.sampled_from([None, (7,), (1, 7), (1,), ()]), st.sampled_from([0, 1]))
def test_the_convolution_computes_the_product(bias: tuple[int, ...] | None, turned: int) -> None:
    rows = {"x": np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)}
    model = make_gemm(bias, transB=turned)
    wanted = Evaluator(model)(rows)[0]
    made = replace_gemms(model)
    assert list_operators(made) == ["Unsqueeze", "Conv", "Flatten"]
    np.testing.assert_allclose(Evaluator(made)(rows, ["y"])[0], wanted, atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        make_gemm((7,), alpha=2.0),
        make_gemm((7,), beta=0.5),
        make_gemm((3, 7)),
        make_gemm((7, 1)),
        make_gemm((7,), np.float16),
    ],
    ids=["alpha", "beta", "matrix", "column", "half"],
)
def test_other_products_stay(model: ir.Model) -> None:
    assert list_operators(replace_gemms(model)) == ["Gemm"]


def test_turing_takes_the_convolution(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    ir.save(replace_gemms(make_gemm((7,))), file)
    with Compiler() as compiler:
        assert compiler.compile(file, RtxEngineOptions((1, 8), targets=("sm75",))).plan
