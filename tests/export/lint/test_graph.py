"""What the linter says of traced graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from helpers.tiny_generators import Apply, in_graph, only, ready, tiny
from helpers.tiny_generators import spec as tiny_spec
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

import ganrt
from ganrt.export.lint.circular_padding import replace_circular_pad
from ganrt.export.lint.dry_run import check_dry_run
from ganrt.export.lint.findings import Finding
from ganrt.export.lint.freezing import Place
from ganrt.export.lint.graph import check_graph, describe_node
from ganrt.export.tracing import trace


def value(*shape: int | str, name: str = "x") -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))


def node(op_type: str, *inputs: ir.Value | None, domain: str = "", outputs: int = 1, **attributes: Any) -> ir.Node:
    return ir.node(op_type, inputs or [value("n", 3, 8, 8)], attributes, domain=domain, num_outputs=outputs, name="it")


SPEC = ganrt.Spec("made", (ganrt.Latent("z", (16,)),), ganrt.Output(1, (-1.0, 1.0), (2, 2)))


def nobody(place: int, axis: int) -> Place:
    pytest.fail("no side is frozen")


class Awkward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.LayerNorm(4), nn.LayerNorm(4))

    def forward(self, z: Tensor) -> Tensor:
        x = self.inner(z.reshape(-1, 1, 4, 4))
        return F.interpolate(x, size=(2, 2), mode="bilinear", antialias=True)


def test_nodes_are_named_by_their_modules() -> None:
    found: list[Finding] = []
    model = trace(
        Awkward().eval().requires_grad_(False),
        SPEC,
        inspect_raw=lambda raw: found.extend(check_graph(raw, SPEC, nobody)),
    )
    assert {(f.where, f.severity) for f in found} == {
        ("inner.0 (LayerNormalization), inner.1 (LayerNormalization)", "warning"),
        ("forward (Resize)", "warning"),  # of no module but the whole
    }
    assert all(not made.metadata_props for made in model.graph)  # the bundle has nothing of it


def test_a_node_without_a_module_has_its_own_name() -> None:
    assert describe_node(node("Conv")) == "it (Conv)"


def graph(nodes: list[ir.Node], inputs: list[ir.Value], weights: list[ir.Value]) -> ir.Model:
    made = ir.Graph(inputs, nodes[-1].outputs, nodes=nodes, initializers=weights, opset_imports={"": 20})
    return ir.Model(made, ir_version=10)


def test_large_tensors_are_named() -> None:
    heavy = ir.LazyTensor(lambda: pytest.fail("nobody reads it"), ir.DataType.FLOAT, ir.Shape([2**29, 1]), name="w")
    weight = ir.Value(name="w", const_value=heavy, shape=ir.Shape([2**29, 1]), type=ir.TensorType(ir.DataType.FLOAT))
    x = value("batch", 1, name="z")
    product = node("MatMul", x, weight)
    product.outputs[0].shape = ir.Shape(["batch", 2**31])
    total = node("ReduceSum", product.outputs[0])
    total.outputs[0].shape = ir.Shape(["batch", 1])
    found = check_graph(graph([product, total], [x], [weight]), SPEC, nobody)
    assert [(f.rule, f.where) for f in found] == [("large tensors", "w"), ("large tensors", "it (MatMul)")]
    assert "file beside the graph" in found[0].text
    assert "more than a tensor may have in TensorRT" in found[1].text


def test_constants_are_not_folded_into_larger_ones() -> None:
    """A picture-sized constant that is made of a small one stays an operator."""
    small = ir.Value(name="w", const_value=ir.tensor(np.ones((1, 1), np.float32), name="w"))
    small.shape, small.type = ir.Shape([1, 1]), ir.TensorType(ir.DataType.FLOAT)
    sides = ir.Value(name="s", const_value=ir.tensor(np.array([2**11, 2**11]), name="s"))
    sides.shape, sides.type = ir.Shape([2]), ir.TensorType(ir.DataType.INT64)
    wide = node("Expand", small, sides)
    wide.outputs[0].shape, wide.outputs[0].type = ir.Shape([2**11, 2**11]), ir.TensorType(ir.DataType.FLOAT)
    x = value("batch", 2**11, name="z")
    model = graph([wide, node("MatMul", x, wide.outputs[0])], [x], [small, sides])
    assert check_graph(model, SPEC, nobody) == []
    assert [made.op_type for made in model.graph] == ["Expand", "MatMul"]


def test_a_batch_that_is_a_number_is_rejected() -> None:
    x = value(2, 4, name="z")
    made = node("Relu", x)
    made.outputs[0].shape = ir.Shape([2, 4])
    (found,) = check_graph(graph([made], [x], []), SPEC, lambda place, axis: Place(f"middle {place} {axis}"))
    assert (found.rule, found.severity, found.where) == ("frozen batch size", "rejected", "middle 0 0")
    assert "works for a batch of 2 only" in found.text


@pytest.mark.parametrize("pads", [(1, 2, 3, 1), (0, 2, 0, 0)])
def test_circular_padding_becomes_a_concatenation(pads: tuple[int, ...]) -> None:
    class Tiled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.pad(x, pads, mode="circular")

    free = ganrt.Spec("tiled", (ganrt.Image("x", "content", 1, (0.0, 1.0)),), ganrt.Output(1, (0.0, 1.0), None))
    found: list[Finding] = []
    model = trace(Tiled().eval(), free, inspect_raw=lambda raw: found.extend(check_graph(raw, free, nobody)))
    assert [(f.rule, f.severity) for f in found] == [("circular padding", "fixed")]
    assert {made.op_type for made in model.graph} <= {"Slice", "Concat"}
    x = torch.rand(2, 1, 5, 6)
    (padded,) = ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": x.numpy()})
    assert np.array_equal(padded, Tiled()(x).numpy())


@pytest.mark.parametrize(
    ("mode", "pads", "axes"),
    [
        ("wrap", [0, 0, 0, 0, 0, 0, -1, 1], None),
        ("wrap", [0, 0, -1, 1], [2, 3]),
        ("wrap", [1, 1, 1, 1], None),
        ("reflect", [0, 0, 1, 1, 0, 0, 1, 1], None),
    ],
)
def test_other_padding_than_circular_of_constant_size_stays(mode: str, pads: list[int], axes: list[int] | None) -> None:
    """Wrapping cuts where a size is negative; sizes that are not two for each axis are no Pad's."""
    given = [value("n", 3, 8, 8, name="z"), *map(constant, [pads, *([axes] if axes else [])], ("pads", "axes"))]
    inputs = [*given[:2], None, *given[2:]] if axes else given
    assert not replace_circular_pad(node("Pad", *inputs, mode=mode))


def constant(numbers: list[int], name: str) -> ir.Value:
    return ir.Value(name=name, const_value=ir.tensor(np.array(numbers, np.int64), name=name))


def test_circular_padding_of_computed_size_stays() -> None:
    x, pads = value("n", 3, 8, 8, name="z"), value(8, name="pads")
    made = node("Pad", x, pads, mode="wrap")
    found = check_graph(graph([made], [x, pads], []), SPEC, nobody)
    assert [f.text for f in found] == ["TensorRT's parser rejects circular Pad before version 10.0"]


@pytest.mark.parametrize(
    "freezes", [lambda x: torch.stack([row * 2 for row in x]), lambda x: x + torch.zeros(len(x), 4, 4, 4)]
)
def test_a_batch_that_only_tracing_freezes_is_rejected(freezes: Callable[[Tensor], Tensor]) -> None:
    module = tiny(nn.Sequential(nn.ReLU(), Apply(freezes)))
    assert check_dry_run(module, tiny_spec()).findings == []
    found = in_graph(module)[1]
    only(found, "frozen batch size", "rejected", "middle.1", "a batch of 2 only: write ")


@pytest.mark.parametrize(
    ("freezes", "where", "words"),
    [
        (lambda x: x + torch.zeros(1, 1, int(x.shape[2]), 1), "1", "takes x with height 48 only"),
        (lambda x: x.reshape(-1, 1, x.shape[2], 64), "forward", "makes pictures with width 64 whatever"),
        (lambda x: F.interpolate(x, size=(40, 40)), "forward", "makes pictures with height 40 and width 40 whatever"),
    ],
)
def test_a_frozen_picture_size_is_rejected(freezes: Callable[[Tensor], Tensor], where: str, words: str) -> None:
    free = ganrt.Spec("tiny", (ganrt.Image("x", "content", 1, (0.0, 1.0)),), ganrt.Output(1, (0.0, 1.0), None))
    module = ready(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), Apply(freezes)))
    assert check_dry_run(module, free).findings == []
    rejected = [finding for finding in in_graph(module, free)[1] if finding.severity != "fixed"]
    only(rejected, "frozen picture size", "rejected", where, words)


class OwnNorm(nn.Conv2d):
    """A spectral norm as training code has it that does not use PyTorch's."""

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.flatten(1)
        u = flat @ F.normalize(flat.sum(0), dim=0)
        return F.conv2d(x, self.weight / u.norm(), self.bias, padding=1)


def test_weights_that_the_graph_would_compute_become_plain_ones() -> None:
    module = tiny(nn.Sequential(OwnNorm(4, 40, 3), OwnNorm(40, 40, 3), OwnNorm(40, 4, 3)))
    model, found = in_graph(module)
    # The exporter does the small ones by itself.
    only(found, "computed weights", "fixed", "middle.1", "computed once")
    assert [node.op_type for node in model.graph if node.op_type != "Reshape"] == [
        "Gemm",
        *["Conv"] * 3,
        "ConvTranspose",
        "Tanh",
    ]
    z = torch.randn(3, 6)
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"z": z.numpy()})[0], module(z).numpy(), atol=1e-5)
