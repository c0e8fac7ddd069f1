"""The module whose graph computes something else is named."""

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

import ganrt
from ganrt.export.lint import find_first_difference, make_backend_runner
from ganrt.export.lint.difference import extract_value, map_modules, run_on_onnxruntime
from ganrt.export.tracing import trace
from ganrt.feeds import draw_feeds
from ganrt.session_config import SessionConfig

SPEC = ganrt.Spec("net", (ganrt.Latent("z", (3, 8, 8)),), ganrt.Output(3, (-1.0, 1.0), (8, 8)))


class Block(nn.Module):
    """Two convolutions with code between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)) * 2.0)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.Sequential(Block(), Block(), Block())

    def forward(self, z: Tensor) -> Tensor:
        return self.blocks(z).clamp(-1.0, 1.0)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return Net().eval().requires_grad_(False)


@pytest.fixture
def model(net: nn.Module) -> ir.Model:
    return trace(net, SPEC)


GIVEN = draw_feeds(SPEC, 0, 0, 4)


def find_node(model: ir.Model, name: str) -> ir.Node:
    return next(node for node in model.graph if node.name == name)


def change_weight(model: ir.Model, name: str) -> None:
    value = find_node(model, name).inputs[1]
    assert value is not None and value.const_value is not None
    value.const_value = ir.tensor(value.const_value.numpy() * np.float32(1.5))


def test_a_graph_that_is_right_has_no_module_to_name(net: nn.Module, model: ir.Model) -> None:
    assert find_first_difference(net, model, GIVEN).startswith("forward of the module itself behind blocks")


@pytest.mark.parametrize("name", ["blocks.0.first", "blocks.1.second", "blocks.2.first"])
@pytest.mark.parametrize("backend", [None, "openvino"])
def test_a_wrong_layer_is_named(net: nn.Module, model: ir.Model, name: str, backend: str | None) -> None:
    change_weight(model, f"{name}/Conv")
    run = None if backend is None else make_backend_runner(SPEC, SessionConfig(backend))
    assert find_first_difference(net, model, GIVEN, run) == name


def test_wrong_code_between_layers_is_named(net: nn.Module, model: ir.Model) -> None:
    find_node(model, "blocks.1/Tanh").op_type = "Sigmoid"
    assert find_first_difference(net, model, GIVEN) == "forward of blocks.1 before blocks.1.second"


def test_wrong_code_behind_the_last_module_is_named(net: nn.Module, model: ir.Model) -> None:
    node = find_node(model, "forward/Clip")
    node.replace_input_with(2, find_node(model, "blocks.2.second/Conv").inputs[2])
    assert find_first_difference(net, model, GIVEN).startswith("forward of the module itself behind blocks")


def test_what_cannot_be_computed_differs(net: nn.Module, model: ir.Model) -> None:
    find_node(model, "blocks.2.first/Conv").attributes["pads"] = ir.AttrInt64s("pads", [0, 0, 0, 0])
    find_node(model, "blocks.1.first/Conv").op_type = "Unknown"
    assert find_first_difference(net, model, GIVEN) == "blocks.1.first"


def test_a_graph_that_is_right_for_the_traced_batch_alone_gets_a_hint(net: nn.Module, model: ir.Model) -> None:
    def run(graph: ir.Model, given: Any) -> Any:
        made = run_on_onnxruntime(graph, given)
        return made if len(made) == 2 or "blocks.1" not in str(graph.graph) else made * 0

    found = find_first_difference(net, model, GIVEN, run)
    assert found.startswith("blocks.1.first; 2 samples are right") and "take the batch size from the input" in found
    assert find_first_difference(net, model, {"z": GIVEN["z"][:2]}, run).endswith("behind blocks")


def test_a_larger_tolerance_looks_past_rounding(net: nn.Module, model: ir.Model) -> None:
    change_weight(model, "blocks.1.first/Conv")
    assert find_first_difference(net, model, GIVEN, tolerance=1e-3) == "blocks.1.first"
    assert find_first_difference(net, model, GIVEN, tolerance=10.0).startswith("forward of the module itself behind")


def test_the_values_of_modules_are_found(model: ir.Model) -> None:
    found = {values.path: (values.takes, values.returns) for values in map_modules(model)}
    assert found["blocks.1.first"] == ("blocks.0.second/Conv", "blocks.1.first/Conv")
    assert found["blocks.1"] == ("blocks.0.second/Conv", "blocks.1.second/Conv")
    assert found["blocks"] == ("z", "blocks.2.second/Conv")


def test_one_value_is_extracted(model: ir.Model) -> None:
    part = extract_value(model, "blocks.0.first/Conv")
    assert [node.op_type for node in part.graph] == ["Conv", "Identity"]
    assert [value.name for value in part.graph.outputs] == ["image"]
    assert len(list(model.graph)) > 2
