"""The list of what a plan launches, as the real compiler of TensorRT for RTX logs it for tiny graphs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ganrt.export.engines import Compiler, Launch, RtxEngineOptions, parse_layers
from ganrt.export.engines.inspection import count_precision_shares

TYPES = {"Float": (TensorProto.FLOAT, np.float32), "Half": (TensorProto.FLOAT16, np.float16)}


@pytest.fixture(scope="module")
def compiler() -> Iterator[Compiler]:
    with Compiler() as opened:
        yield opened


class Graph:
    """A graph from `x` to `y`, in the making."""

    def __init__(self, kind: str, x: list[int], y: list[int]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.type, self.dtype = TYPES[kind]
        self.inputs = [helper.make_tensor_value_info("x", self.type, ["N", *x])]
        self.output = helper.make_tensor_value_info("y", self.type, ["N", *y])

    def add(self, operator: str, inputs: str, output: str, **attributes: Any) -> None:
        self.nodes.append(
            helper.make_node(operator, inputs.split(), [output], name=f"{operator} {output}", **attributes)
        )

    def add_weight(self, name: str, *shape: int) -> None:
        values = np.random.default_rng(0).standard_normal(shape) / 10
        self.weights.append(numpy_helper.from_array(values.astype(self.dtype), name))

    def save(self, folder: Path) -> Path:
        graph = helper.make_graph(self.nodes, "tiny", self.inputs, [self.output], self.weights)
        file = folder / "model.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), file)
        return file


def launch_kernels(compiler: Compiler, graph: Graph, folder: Path, batches: tuple[int, ...]) -> list[list[Launch]]:
    return parse_layers(compiler.compile(graph.save(folder), RtxEngineOptions(batches)).layers)


def make_product(operator: str, kind: str, activation: str) -> Graph:
    """A convolution, transposed convolution or matrix product, and an activation."""
    shapes: dict[str, Any] = {
        "Conv": ([16, 8, 8], [32, 8, 8], (32, 16, 3, 3), {"pads": [1] * 4}),
        "ConvTranspose": ([16, 8, 8], [32, 16, 16], (16, 32, 4, 4), {"pads": [1] * 4, "strides": [2, 2]}),
        "Gemm": ([64], [32], (32, 64), {"transB": 1}),
        "MatMul": ([16, 64], [16, 32], (64, 32), {}),
    }
    x, y, weight, attributes = shapes[operator]
    graph = Graph(kind, x, y)
    graph.add_weight("w", *weight)
    graph.add(operator, "x w", "product", **attributes)
    graph.add(activation, "product", "y")
    return graph


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu"])
@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose", "Gemm", "MatMul"])
def test_each_product_is_counted_once_per_profile_in_its_type(
    compiler: Compiler, operator: str, activation: str, kind: str, tmp_path: Path
) -> None:
    """Whether it is one of the library's kernels, is generated with what follows it, or is a product of a single row.
    All targets run the same kernels."""
    profiles = launch_kernels(compiler, make_product(operator, kind, activation), tmp_path, (1, 8))
    assert len(profiles) == 2
    for launches in profiles:
        assert [launch.types for launch in launches if launch.is_product] == [f"{kind} -> {kind}"]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose"])
def test_a_product_that_is_generated_with_its_activation_is_one(
    compiler: Compiler, operator: str, kind: str, tmp_path: Path
) -> None:
    """Between convolutions the compiler generates a kernel for all but the most usual activations."""
    graph = Graph(kind, [16, 8, 8], [16, 8, 8])
    graph.add_weight("w", 16, 16, 3, 3)
    graph.add(operator, "x w", "first", pads=[1] * 4)
    graph.add("LeakyRelu", "first", "activated")
    graph.add("Conv", "activated w", "y", pads=[1] * 4)
    (launches,) = launch_kernels(compiler, graph, tmp_path, (4,))
    products = [launch for launch in launches if launch.is_product]
    assert [launch.kind for launch in products] == ["runtime_fusion", "correlation"]
    assert [launch.types for launch in products] == [f"{kind} -> {kind}"] * 2


def test_a_kernel_names_the_nodes_that_it_computes(compiler: Compiler, tmp_path: Path) -> None:
    (launches,) = launch_kernels(compiler, make_product("Conv", "Half", "Relu"), tmp_path, (4,))
    (product,) = (launch for launch in launches if launch.is_product)
    assert product.kind == "correlation"
    assert set(product.origin) == {"Conv product", "Relu y"}


def test_a_variance_is_no_product(compiler: Compiler, tmp_path: Path) -> None:
    """It multiplies and sums as well."""
    graph = Graph("Float", [16, 8, 8], [16, 1, 1])
    graph.weights.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    graph.add("ReduceMean", "x axes", "mean")
    graph.add("Sub", "x mean", "apart")
    graph.add("Mul", "apart apart", "square")
    graph.add("ReduceSum", "square axes", "y")
    (launches,) = launch_kernels(compiler, graph, tmp_path, (4,))
    assert [launch.name for launch in launches if "Sum" in launch.name or "Mean" in launch.name]
    assert [launch for launch in launches if launch.is_product] == []


def test_the_computation_of_shapes_on_the_host_is_no_launch(compiler: Compiler, tmp_path: Path) -> None:
    """With pictures of any size the compiler lists it among the layers, and in graphs of its own."""
    graph = Graph("Float", [16, 8, 8], [16, 8, 8])
    graph.inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 16, "H", "W"])]
    graph.output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 16, "H", "W"])
    graph.add_weight("w", 16, 16, 3, 3)
    graph.add("Conv", "x w", "y", pads=[1] * 4)
    compiled = compiler.compile(graph.save(tmp_path), RtxEngineOptions((1, 8), (32, 32)), [(16, 16)])
    assert "LayerType: shape_call" in compiled.layers
    kinds = [[launch.kind for launch in launches] for launches in parse_layers(compiled.layers)]
    assert kinds == [["kgen", "correlation", "kgen"]] * 2


LINE = "Name: {}, LayerType: {}, Inputs: [ {{ Name: a, Datatype: Half }}], Outputs: [ {{ Name: b, Datatype: Float }}]"


def test_a_profile_of_several_graphs_is_one_list() -> None:
    """Graphs are numbered through all profiles. Behind tensors of a later profile stands its number."""
    text = "\n".join(
        LINE.format(name, kind)
        for name, kind in [
            ("one_myl0_0", "gemm"),
            ("two_myl2_0", "gemm"),
            ("three [profile 1]_myl3_0", "gemm"),
            ("__myl_Move_myl3_1", "kgen"),
            ("four [profile 1]_myl5_0", "gemm"),
        ]
    )
    names = [[launch.name.rpartition("_myl")[0] for launch in launches] for launches in parse_layers(text)]
    assert names == [["one", "two"], ["three [profile 1]", "__myl_Move", "four [profile 1]"]]


def test_a_text_that_names_no_kernel_gives_no_profile() -> None:
    assert parse_layers("") == parse_layers("a new format\nName: x\n") == []


def test_precision_shares_are_of_products_if_there_are_any() -> None:
    product, cast = (Launch("", kind, (inputs,), (), (), ()) for kind, inputs in [("gemm", "Half"), ("kgen", "Float")])
    assert count_precision_shares([product, cast, cast]) == {"fp16": 1.0}
    assert count_precision_shares([cast]) == {"fp32": 1.0}
