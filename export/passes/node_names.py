"""Names of nodes that begin with the module that they belong to, such as `body.0.conv/Conv`. Inference libraries name
the node that they fail on, and some of them the value that it makes, which therefore has the same name."""

from __future__ import annotations

import ast
from collections import Counter

import onnx_ir as ir

_SCOPES = "pkg.torch.onnx.name_scopes"
"""Metadata of torch.onnx.export: the paths of the modules that a node is in, outermost first, and the operator."""
_WHOLE = "forward"
"""Stands for the path of the whole module, which is empty."""


def name_nodes_by_module(model: ir.Model) -> None:
    """Rename every node, and what it makes, to `<module>/<operator>`, with a number where that is not unique. Nodes
    without metadata of torch.onnx.export count to the whole module; outputs of the graph keep their names."""
    counts: Counter[str] = Counter()
    for node in model.graph.all_nodes():
        name = f"{_read_scope(node) or _WHOLE}/{node.op_type}"
        set_node_name(node, f"{name}_{counts[name]}" if counts[name] else name)
        counts[name] += 1


def set_node_name(node: ir.Node, name: str) -> None:
    """Rename a node and the values that it makes, but for outputs of the graph."""
    node.name = name
    for place, value in enumerate(node.outputs):
        if not value.is_graph_output():
            value.name = f"{name}.{place}" if place else name


def find_module_path(node: ir.Node) -> str:
    """The path of the module that a node belongs to, read from its name; `forward` for the whole module, and empty for
    a node that has no such name."""
    return (node.name or "").rpartition("/")[0]


def _read_scope(node: ir.Node) -> str:
    scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
    return str(scopes[-2]) if len(scopes) > 1 else ""
