"""MACs of graphs against counts by hand and by PyTorch, and the roofline peaks of the machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper
from torch.utils.flop_counter import FlopCounterMode

from ganrt import feeds
from ganrt.bench import roofline
from ganrt.bench.arithmetic import count_macs, count_traffic
from ganrt.bench.context import MatrixProduct
from ganrt.bench.roofline import measure_matrix_products, merge_products
from ganrt.bundle import Bundle
from ganrt.errors import ArtifactError
from ganrt.export.tracing import trace
from ganrt.models import build_generator, get_family
from ganrt.onnx_macs import count_graph_macs
from ganrt.spec import Latent, Output, Spec


def make_graph(
    nodes: Sequence[onnx.NodeProto],
    weights: dict[str, tuple[int, ...]],
    inputs: dict[str, tuple[int | str | None, ...]],
) -> onnx.ModelProto:
    """A graph whose last node makes `y`, with zeros as weights."""
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            helper.make_tensor(name, TensorProto.FLOAT, shape, [0.0] * torch.Size(shape).numel())
            for name, shape in weights.items()
        ],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)])


@pytest.mark.parametrize(
    ("node", "weights", "shape", "by_hand"),
    [
        # 8 filters of 3 x 5 x 5 at each of 16 x 16 positions
        (helper.make_node("Conv", ["x", "w"], ["y"], pads=[2] * 4), {"w": (8, 3, 5, 5)}, (1, 3, 16, 16), 8 * 75 * 256),
        # stride 2; each of 6 filters sees the 2 channels of its group
        (
            helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4, strides=[2, 2], group=3),
            {"w": (6, 2, 3, 3)},
            (2, 6, 8, 8),
            2 * 6 * 18 * 16,
        ),
        # each of 4 x 5 x 5 values is spread over 4 x 4 positions of 7 channels
        (
            helper.make_node("ConvTranspose", ["x", "w"], ["y"], pads=[1] * 4, strides=[2, 2]),
            {"w": (4, 7, 4, 4)},
            (1, 4, 5, 5),
            100 * 7 * 16,
        ),
        (helper.make_node("MatMul", ["x", "w"], ["y"]), {"w": (5, 6)}, (2, 3, 4, 5), 2 * 3 * 4 * 5 * 6),
        (helper.make_node("Gemm", ["x", "w"], ["y"], transB=1), {"w": (7, 5)}, (3, 5), 3 * 5 * 7),
        (helper.make_node("Gemm", ["x", "w"], ["y"], transA=1), {"w": (5, 7)}, (5, 3), 3 * 5 * 7),
        (helper.make_node("Relu", ["x"], ["y"]), {}, (1, 3, 16, 16), 0),
    ],
)
def test_one_operator(
    node: onnx.NodeProto, weights: dict[str, tuple[int, ...]], shape: tuple[int, ...], by_hand: int
) -> None:
    free: tuple[int | str | None, ...] = ("batch", *shape[1:-1], "width")  # the inputs bind what the graph leaves open
    assert count_graph_macs(make_graph([node], weights, {"x": free}), {"x": shape}) == by_hand


def test_sizes_that_the_graph_computes_are_inferred() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], start=2, end=4),
        helper.make_node("Constant", [], ["two"], value=helper.make_tensor("t", TensorProto.INT64, [1], [2])),
        helper.make_node("Mul", ["s", "two"], ["twice"]),
        helper.make_node("Shape", ["x"], ["head"], start=0, end=2),
        helper.make_node("Concat", ["head", "twice"], ["sizes"], axis=0),
        helper.make_node("Resize", ["x", "", "", "sizes"], ["large"], mode="nearest"),
        helper.make_node("Conv", ["large", "w"], ["y"]),
    ]
    made = make_graph(nodes, {"w": (1, 3, 1, 1)}, {"x": ("batch", 3, "height", "width")})
    assert count_graph_macs(made, {"x": (1, 3, 4, 6)}) == 3 * 8 * 12


def test_a_shape_that_cannot_be_inferred_is_an_error_and_not_zero() -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["places"]),
        helper.make_node("Cast", ["places"], ["p"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["w", "p"], ["y"]),
    ]
    with pytest.raises(ArtifactError, match="the shape of p cannot be inferred"):
        count_graph_macs(make_graph(nodes, {"w": (3, 4)}, {"x": ("batch", 2, 2, 2)}), {"x": (1, 2, 2, 2)})


@pytest.mark.parametrize(
    ("family", "values"),
    [
        ("resnet", {"size": 32, "width": 4, "latent": 8, "classes": 3, "attention": (16,)}),
        ("transformer_net", {"width": 4, "blocks": 1}),
    ],
)
def test_a_traced_network_has_the_macs_that_pytorch_counts(family: str, values: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, size = build_generator(family, values).eval(), (24, 32)
    spec = get_family(family).spec(get_family(family).configure(values))
    ir.save(trace(module, spec), tmp_path / "model.onnx")
    drawn = feeds.draw_feeds(spec, 0, 0, 1, size=size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*(torch.from_numpy(drawn[item.name]) for item in spec.inputs))
    assert 2 * count_macs(tmp_path / "model.onnx", spec, size) == counter.get_total_flops()


def test_traffic_is_as_counted_by_hand(tmp_path: Path) -> None:
    """A convolution of 2 to 3 channels at 4 x 4 with 18 weights each, and a product of a tensor with itself."""
    nodes = [
        helper.make_node("Conv", ["z", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("MatMul", ["c", "c"], ["y"]),
    ]
    made = make_graph(nodes, {"w": (3, 2, 3, 3)}, {"z": ("n", 2, 4, 4)})
    onnx.save(made, tmp_path / "x.onnx")
    spec = Spec("by_hand", (Latent("z", (2, 4, 4)),), Output(3, (0.0, 1.0), (4, 4)))
    assert count_traffic(tmp_path / "x.onnx", spec, None) == ((32 + 48) + (48 + 48), 54)


def test_phases_have_nearly_the_macs_of_transposed_convolutions(bundle: Bundle) -> None:
    counted = [count_macs(bundle.onnx(name), bundle.spec, None) for name in bundle.variants]
    assert (
        len(counted) > 1 and 1 <= max(counted) / min(counted) < 1.5
    )  # a border is computed and cropped: a large share of 8 pixels


def test_matrix_products_are_timed_in_every_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "_SIDE", 16)
    products = measure_matrix_products()
    assert list(products) == ["fp32", "bf16", "int8"]
    both = merge_products(products, products)["int8"]
    assert (both.side, len(both.nanoseconds)) == (16, 20) and both.peak > 0


def test_the_peak_is_that_of_the_fastest_product() -> None:
    assert MatrixProduct(100, (2_000_000, 1_000_000, 9_000_000)).peak == pytest.approx(1e9)
    for side, taken in ((0, (1,)), (2, ()), (2, (0,))):
        with pytest.raises(ArtifactError, match="matrix product"):
            MatrixProduct(side, taken)
