"""What ruins exports and can be seen only in the traced graph, while its nodes still tell which module they are of."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterable, Iterator

import onnx_ir as ir

from . import tensorrt_parser
from .findings import Finding, places

Rule = Callable[[ir.Model], Iterable[Finding]]

_SCOPES = "pkg.torch.onnx.name_scopes"
"""Metadata of torch.onnx.export: the paths of the modules that a node is in, outermost first, and the operator."""
_LARGEST = 2**31 - 1
"""Bytes of a protobuf message, and elements of a tensor in TensorRT (NVIDIA/TensorRT issue 3815)."""


def check_graph(model: ir.Model) -> list[Finding]:
    """Apply all RULES to a graph with the metadata of torch.onnx.export. The graph stays as it is."""
    return [finding for rule in RULES for finding in rule(model)]


def frozen_batch(model: ir.Model) -> Iterator[Finding]:
    """An output with a number where the batch should be: while it was traced, the module read the batch as a number."""
    for value in model.graph.outputs:
        if value.shape and isinstance(value.shape[0], int):
            text = (
                f"the traced graph works for a batch of {value.shape[0]} only; a loop over the batch, len(x) or "
                "int(x.shape[0]) fixes it: use x.shape[0] as it is, or -1"
            )
            yield Finding("frozen batch size", "forward", text, "refused")


def large_tensors(model: ir.Model) -> Iterator[Finding]:
    """Beyond what one protobuf message holds, and beyond what TensorRT counts."""
    weights = {name: value.const_value for name, value in model.graph.initializers.items()}
    heavy = [name for name, tensor in weights.items() if tensor is not None and tensor.nbytes > _LARGEST]
    if heavy:
        text = "more than 2 GiB in one tensor; the weights are in a file beside the graph, which must travel with it"
        yield Finding("large tensors", places(heavy), text, "named")
    many = [where(node) for node in model.graph if any(_elements(value) > _LARGEST for value in node.outputs)]
    if many:
        text = "makes more than 2^31 - 1 values of one sample, more than a tensor may have in TensorRT"
        yield Finding("large tensors", places(many), text, "named")


def _elements(value: ir.Value) -> int:
    """Of one sample, as far as the sides are known."""
    return math.prod(side for side in value.shape or () if isinstance(side, int))


def tensorrt(model: ir.Model) -> Iterator[Finding]:
    """Operators that TensorRT's parser refuses, one finding for each kind and reason."""
    found: dict[str, list[str]] = {}
    for node in model.graph:
        for text in tensorrt_parser.refusals(node):
            found.setdefault(text, []).append(where(node))
    yield from (Finding("TensorRT's parser", places(nodes), text, "named") for text, nodes in found.items())
    text = tensorrt_parser.opset(model.opset_imports[""])
    if text:
        yield Finding("TensorRT's parser", "the graph", text, "named")


def where(node: ir.Node) -> str:
    """The module that a node is of, and its operator; the node's name when torch did not say."""
    scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
    path = scopes[-2] if len(scopes) > 1 else ""
    return f"{path} ({node.op_type})" if path else f"{node.name} ({node.op_type})"


RULES: tuple[Rule, ...] = (frozen_batch, large_tensors, tensorrt)
