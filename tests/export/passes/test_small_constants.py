"""Constants that the exporter's optimiser would take for zero stay in the graph."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from torch import Tensor, nn

from ganrt.export.passes import hide_small_constants
from ganrt.export.tracing import run_original, trace
from ganrt.models.progan import pixel_norm
from ganrt.spec import Latent, Output, Spec

SPEC = Spec("norm", (Latent("z", (1, 4, 4)),), Output(1, (-1.0, 1.0), (4, 4)))


class Normal(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return pixel_norm(z)


class Small(nn.Module):
    def __init__(self, constant: float) -> None:
        super().__init__()
        self.constant = constant

    def forward(self, z: Tensor) -> Tensor:
        return (z * 0 + self.constant) * 1e8


def run(module: nn.Module, z: np.ndarray) -> np.ndarray:
    graph = ir.to_proto(trace(module, SPEC)).SerializeToString()
    return ort.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(None, {"z": z})[0]


def test_a_pixel_norm_of_zeros_is_zero() -> None:
    z = np.random.default_rng(0).normal(size=(3, 1, 4, 4)).astype(np.float32)
    z[1], z[2] = 0, 1e-5
    np.testing.assert_allclose(run(Normal().eval(), z), run_original(Normal(), {"z": z}), rtol=1e-6)


@pytest.mark.parametrize("constant", [1e-8, -1e-8, 1e-12, 2e-7])
def test_a_small_constant_is_still_there(constant: float) -> None:
    found = run(Small(constant).eval(), np.ones((2, 1, 4, 4), np.float32))
    np.testing.assert_allclose(found, constant * 1e8, rtol=1e-6)


def test_nothing_is_left_over() -> None:
    assert [value.name for value in trace(Normal().eval(), SPEC).graph.inputs] == ["z"]


def test_what_an_optimiser_drops_is_not_put_back() -> None:
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1]))
    small = ir.node("Constant", [], {"value": ir.tensor(np.float32(1e-9))})
    added = ir.node("Add", [x, small.outputs[0]])
    model = ir.Model(ir.Graph([x], [], nodes=[small, added]), ir_version=10)
    with hide_small_constants(model):
        assert len(model.graph.inputs) == 2
        model.graph.remove(added, safe=True)
    assert list(model.graph.inputs) == [x] and not model.graph.initializers
