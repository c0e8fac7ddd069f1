"""Nodes are named after the modules that they belong to, in the traced graph and in every form of it."""

import onnx_ir as ir
import torch
from torch import Tensor, nn

import ganrt
from ganrt.export.passes import find_module_path, name_nodes_by_module, optimize_graph
from ganrt.export.tracing import trace

SPEC = ganrt.Spec("named", (ganrt.Latent("z", (16,)),), ganrt.Output(3, (-1.0, 1.0), (8, 8)))


class Named(nn.Module):
    """Two layers of a block that is run twice, upsampling behind them, and operators of no module."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1))
        self.up = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(1, 3, 3, padding=1))

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.up(self.block(self.block(z.reshape(-1, 1, 4, 4)).sigmoid())))


def names(model: ir.Model) -> list[str]:
    return [str(made.name) for made in model.graph.all_nodes()]


def test_a_traced_graph_is_named_after_its_modules() -> None:
    model = trace(Named().eval().requires_grad_(False), SPEC)
    assert {"block.0/Conv", "block.0/Conv_1", "up.0/Resize", "up.1/Conv", "forward/Sigmoid", "forward/Tanh"} <= {
        *names(model)
    }
    assert len(set(names(model))) == len(names(model))
    assert [value.name for made in model.graph for value in made.outputs] == [*names(model)[:-1], "image"]
    assert all(not made.metadata_props for made in model.graph)


def test_what_passes_make_of_a_node_keeps_its_module() -> None:
    model = trace(Named().eval().requires_grad_(False), SPEC)
    form, passes = optimize_graph(model, "phases")
    assert "phases" in passes
    assert {name.rpartition("/")[0] for name in names(form)} <= {"block.0", "block.1", "up.0", "up.1", "forward"}
    assert any(name.startswith("up.1/Conv") for name in names(form))
    assert [value.name for made in form.graph for value in made.outputs] == [*names(form)[:-1], "image"]
    assert len(set(names(form))) == len(names(form))


def test_a_subgraph_shares_no_name_with_its_graph() -> None:
    inner, outer = ir.node("Relu", []), ir.node("If", [])
    for made in (inner, outer):
        made.metadata_props["pkg.torch.onnx.name_scopes"] = "['', 'head', 'op']"
    branch = ir.Graph((), inner.outputs, nodes=[inner])
    outer.attributes["then_branch"] = ir.AttrGraph("then_branch", branch)
    twin = ir.node("Relu", [])
    model = ir.Model(ir.Graph((), (), nodes=[twin, outer], opset_imports={"": 20}), ir_version=10)
    name_nodes_by_module(model)
    assert sorted(names(model)) == ["forward/Relu", "head/If", "head/Relu"]
    assert [find_module_path(made) for made in (inner, twin)] == ["head", "forward"]
