"""Faults that show only in the traced graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnxscript.optimizer import fold_constants

from ganrt.spec import Image, Spec

from ..passes import find_module_path
from ..source_lines import quote_line
from . import tensorrt_parser
from .batch import SINGLE
from .circular_padding import replace_circular_pad
from .findings import Finding, join_paths
from .freezing import Place
from .nearest_resize import replace_computed_nearest_resize
from .rewrites import SIZES, find_rewrite

Rule = Callable[[ir.Model], Iterable[Finding]]

Freezing = Callable[[int, int], Place]
"""Finds what made a number of a side, which is given as the place of an input and an axis; asked only when
one did."""

_SIDES = {2: "height", 3: "width"}
_LARGEST = 2**31 - 1
"""Bytes of a protobuf message, and elements of a tensor in TensorRT (NVIDIA/TensorRT issue 3815; most layers take more
since 10.10, as its release notes say)."""
_SMALL = 2**20
"""Elements that a folded constant may have in any case."""


def check_graph(model: ir.Model, spec: Spec, freezing: Freezing) -> list[Finding]:
    """Apply all RULES to a graph whose nodes are named after their modules, and fix in place what can be fixed."""
    findings = [finding for rule in RULES for finding in rule(model)]
    frozen = [] if spec.single else list(check_frozen_batch(model, freezing))
    return [*frozen, *check_frozen_pictures(model, spec, freezing), *findings]


def check_frozen_batch(model: ir.Model, freezing: Freezing) -> Iterator[Finding]:
    """An output whose batch dimension is constant: the module read the batch size as a number during tracing."""
    for value in model.graph.outputs:
        if value.shape and isinstance(value.shape[0], int):
            found = freezing(0, 0)
            instead = find_rewrite(SIZES, found.line) or (
                "a loop over the batch, len(x) or int(x.shape[0]) fixes it, so use x.shape[0] as it is, or -1"
            )
            text = f"its traced graph works for a batch of {value.shape[0]} only: {instead}, {SINGLE}"
            yield Finding("frozen batch size", found.where, text, "rejected", quote_line(found.line))


def check_frozen_pictures(model: ir.Model, spec: Spec, freezing: Freezing) -> Iterator[Finding]:
    """A constant height or width where the Spec leaves it free."""
    rule = "frozen picture size"
    for place, (item, value) in enumerate(zip(spec.inputs, model.graph.inputs, strict=False)):
        fixed = _read_fixed_sides(value) if isinstance(item, Image) and item.size is None else {}
        for axis, side in fixed.items():
            found = freezing(place, axis)
            instead = find_rewrite(SIZES, found.line) or (
                "use x.shape and make no Python number of it (int, float, range)"
            )
            text = (
                f"its traced graph takes {item.name} with {side} only, and the Spec leaves it free: {instead}, or give "
                "the image a size in the Spec"
            )
            yield Finding(rule, found.where, text, "rejected", quote_line(found.line))
            return
    made = _read_fixed_sides(model.graph.outputs[0]) if spec.output.size is None else {}
    if made:
        text = f"makes pictures with {' and '.join(made.values())} whatever goes in; give the output a size in the Spec"
        yield Finding(rule, "forward", text, "rejected")


def _read_fixed_sides(value: ir.Value) -> dict[int, str]:
    """The axes of height and width that are numbers, and these."""
    shape = value.shape if value.shape is not None and len(value.shape) == 4 else ()
    return {
        axis: f"{_SIDES[axis]} {side}" for axis, side in enumerate(shape) if axis in _SIDES and isinstance(side, int)
    }


def fold_computed_weights(model: ir.Model) -> Iterator[Finding]:
    """Weights that the graph computes from other weights, again for each picture: a spectral norm or an equalised
    learning rate of the user's own, which the exporter leaves in the graph where the weights are large. To graph passes
    such weights are no constants."""
    known = set(model.graph.initializers.values())
    found: list[ir.Node] = []
    for node in model.graph:
        taken = [value for value in node.inputs if value is not None]
        if node.op_type == "Constant":
            known.update(node.outputs)
        elif taken and known.issuperset(taken) and _is_worth_folding(node):
            known.update(node.outputs)
            found.append(node)
    weights = [node for node in found if any(value.dtype == ir.DataType.FLOAT for value in node.outputs)]
    if not weights:
        return
    modules = list(dict.fromkeys(find_module_path(node) for node in weights))
    chosen = set(found)
    fold_constants(model, should_fold=lambda node: node in chosen, onnx_shape_inference=False)
    text = "weights that forward computes from other weights, as a spectral norm of one's own does, were computed once"
    yield Finding("computed weights", join_paths(modules), text, "fixed")


def _is_worth_folding(node: ir.Node) -> bool:
    """Not where constants would be much larger than what they are made of, nor what is slow to evaluate."""
    made, taken = (sum(map(_count_elements, values)) for values in (node.outputs, filter(None, node.inputs)))
    return made <= max(taken, _SMALL) and node.op_type not in ("Conv", "ConvTranspose")


def replace_circular_padding(model: ir.Model) -> Iterator[Finding]:
    """Padding that TensorRT rejects before 10.0, and that OpenVINO 2026.4 cannot load."""
    text = "circular padding became a concatenation of borders, the same function, which every backend has"
    yield from _replace_nodes(model, replace_circular_pad, "circular padding", text)


def replace_nearest_resizing(model: ir.Model) -> Iterator[Finding]:
    """Resizing whose picture may be one pixel off at some sizes."""
    text = "nearest-neighbour resizing to a computed size got indices in whole numbers, as PyTorch has them"
    yield from _replace_nodes(model, replace_computed_nearest_resize, "nearest resizing", text)


def _replace_nodes(model: ir.Model, replace: Callable[[ir.Node], bool], rule: str, text: str) -> Iterator[Finding]:
    """Replace nodes in place, with a finding that names them."""
    replaced = [describe_node(node) for node in list(model.graph) if replace(node)]
    if replaced:
        RemoveUnusedNodesPass()(model)
        yield Finding(rule, join_paths(replaced), text, "fixed")


def check_large_tensors(model: ir.Model) -> Iterator[Finding]:
    """Beyond what one protobuf message holds, and beyond what TensorRT counts."""
    weights = {name: value.const_value for name, value in model.graph.initializers.items()}
    heavy = [name for name, tensor in weights.items() if tensor is not None and tensor.nbytes > _LARGEST]
    if heavy:
        text = "more than 2 GiB in one tensor; the weights are in a file beside the graph, which must travel with it"
        yield Finding("large tensors", join_paths(heavy), text, "warning")
    many = [
        describe_node(node) for node in model.graph if any(_count_elements(value) > _LARGEST for value in node.outputs)
    ]
    if many:
        text = "makes more than 2^31 - 1 values of one sample, more than a tensor may have in TensorRT before 10.10"
        yield Finding("large tensors", join_paths(many), text, "warning")


def _count_elements(value: ir.Value) -> int:
    """Of one sample, as far as the sides are known."""
    return math.prod(side for side in value.shape or () if isinstance(side, int))


def check_tensorrt(model: ir.Model) -> Iterator[Finding]:
    """Operators that TensorRT's parser rejects, one finding for each operator and reason."""
    found: dict[str, list[str]] = {}
    opset = model.opset_imports[""]
    for node in model.graph:
        for text in tensorrt_parser.list_rejections(node, opset):
            found.setdefault(text, []).append(describe_node(node))
    yield from (Finding("TensorRT's parser", join_paths(nodes), text, "warning") for text, nodes in found.items())
    text = tensorrt_parser.describe_new_opset(opset)
    if text:
        yield Finding("TensorRT's parser", "the graph", text, "warning")


def describe_node(node: ir.Node) -> str:
    """The module that a node is of, or its name where that does not begin with a module, and its operator."""
    return f"{find_module_path(node) or node.name} ({node.op_type})"


RULES: tuple[Rule, ...] = (
    fold_computed_weights,
    replace_circular_padding,
    replace_nearest_resizing,
    check_large_tensors,
    check_tensorrt,
)
