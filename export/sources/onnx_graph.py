"""Bring the graph of an ONNX file into the form of a traced one: the inputs of the Spec, any batch, a current operator
set, known shapes, and a name of its own for each node."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import numpy as np
import onnx
import onnx_ir as ir
import onnxscript.optimizer
from onnx_ir.passes.common import LiftConstantsToInitializersPass, ShapeInferencePass

from ganrt.backend import first_line
from ganrt.errors import RequestError
from ganrt.spec import Spec

from ..passes import Patch, hide_small_constants, read_attribute, read_constant, set_node_name
from ..tracing import finish_graph
from .onnx_file import GraphFile, read_batch
from .onnx_interface import fit_interface

_RESIZE_WITH_COORDINATES = 11
"""The first operator set in which Resize says which pixel it takes."""
_WHOLE = "forward"
"""Module of nodes without a name."""
_FEW = 256
"""More than the sides of anything."""


def adopt_graph(
    file: GraphFile, output: str, spec: Spec, opset: int, inspect_raw: Callable[[ir.Model], None] = lambda _: None
) -> ir.Model:
    """Return a graph that computes what the file does, for any batch.

    Args:
        output: name of the output that is the image.
        spec: one input for each of the graph's, in its order.
        opset: operator set of the result; that of the file where it is newer.
        inspect_raw: as for `trace`.

    Raises RequestError if the operators cannot be converted or the graph contradicts itself; VerificationError when the
    result does not have the shapes of the Spec.
    """
    batch = read_batch(file)
    model = fit_interface(file.model, output, spec, 1 if spec.single else None)
    model.metadata_props.clear()
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    if batch is not None and not spec.single:
        free_batch(model, batch)
    model = _convert_version(model, file, opset)
    with hide_small_constants(model):
        onnxscript.optimizer.fold_constants(model, should_fold=_is_small_filling)
        onnxscript.optimizer.optimize(model)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    _name_nodes(model)
    ShapeInferencePass()(model)
    _complete_shape(model.graph.outputs[0], spec)
    finish_graph(model, spec, inspect_raw)
    return model


def _is_small_filling(node: ir.Node) -> bool | None:
    """True for a ConstantOfShape of a few elements, None (for the optimizer's own rule) for other nodes. The optimizer
    keeps it because it could be large; PyTorch's older exporter writes the amounts of a Pad with it, and backends such
    as TensorRT and ncnn want to know these."""
    shape = read_constant(node.inputs[0]) if node.op_type == "ConstantOfShape" and node.domain == "" else None
    return True if shape is not None and min(shape, default=0) >= 0 and math.prod(shape.tolist()) <= _FEW else None


def _complete_shape(image: ir.Value, spec: Spec) -> None:
    """Say what shape inference could not of the output. The proof compares it with what the graph makes."""
    size = spec.output.size or ("height", "width")
    known = list(image.shape) if image.shape is not None and len(image.shape) == 4 else [None] * 4
    wanted = [1 if spec.single else "batch", spec.output.channels, *size]
    image.shape = ir.Shape([a if isinstance(a, int) else b for a, b in zip(known, wanted, strict=True)])
    image.dtype = image.dtype or ir.DataType.FLOAT


def free_batch(model: ir.Model, batch: int) -> None:
    """Let reshapes to a constant shape whose first side is the batch of the file take any batch: the side becomes the
    one that is inferred, or that of what is reshaped. Only nodes that depend on an input are changed."""
    fed = set(model.graph.inputs)
    for node in model.graph:
        if not fed.isdisjoint(node.inputs):
            fed.update(node.outputs)
        shape = read_constant(node.inputs[1]) if node.op_type == "Reshape" and node.inputs[0] in fed else None
        if shape is None or shape.ndim != 1 or not len(shape) or shape[0] != batch:
            continue
        if -1 in shape and read_attribute(node, "allowzero", 0):
            continue
        freed = np.concatenate([[0 if -1 in shape else -1], shape[1:]]).astype(np.int64)
        node.replace_input_with(1, Patch(node).add_constant(freed, f"{node.name or node.op_type}.shape"))


def _convert_version(model: ir.Model, file: GraphFile, opset: int) -> ir.Model:
    """A model of at least this operator set."""
    found = model.opset_imports.pop("ai.onnx", None) or model.opset_imports.get("", 0)
    model.opset_imports[""] = found
    if found >= opset:
        return model
    try:
        converted = ir.from_proto(onnx.version_converter.convert_version(ir.to_proto(model), opset))
    except Exception as error:  # ONNX's converter raises whatever its C++ code throws
        raise RequestError(
            f"{file.path} is of operator set {found}, and cannot be converted to {opset} ({first_line(error)}); export "
            "it with operator set 18 or later"
        ) from error
    if found < _RESIZE_WITH_COORDINATES:
        _keep_old_resizes(converted)
    return converted


def _keep_old_resizes(model: ir.Model) -> None:
    """Resizes of operator set 10 and before (Upsample among them) take the pixel at `place / scale`; the present ones
    do so only where they say it, and ONNX's converter leaves that out."""
    for node in model.graph.all_nodes():
        if node.op_type == "Resize":
            node.attributes["coordinate_transformation_mode"] = ir.AttrString(
                "coordinate_transformation_mode", "asymmetric"
            )
            node.attributes["nearest_mode"] = ir.AttrString("nearest_mode", "floor")


def _name_nodes(model: ir.Model) -> None:
    """Give every node a name that no other has; names that other exporters derive from modules, such as /up/conv/Conv,
    are kept."""
    used = {str(value.name) for value in (*model.graph.inputs, *model.graph.outputs)} | set(model.graph.initializers)
    for node in model.graph.all_nodes():
        name = _find_free_name((node.name or "").strip("/") or f"{_WHOLE}/{node.op_type}", used)
        used.add(name)
        set_node_name(node, name)


def _find_free_name(name: str, used: Collection[str]) -> str:
    """The name, with a number where it is used already."""
    count, free = 0, name
    while free in used:
        count += 1
        free = f"{name}_{count}"
    return free
