"""What an fp16 graph computes, spelled out in float32 for processors without float16 arithmetic.

ONNX Runtime's CPU provider runs most operators of an fp16 graph on float32 values and drops the casts that it put
between them, whatever the level of optimisation: a tensor that no float16 can hold passes through such a chain unharmed
(measured with 1.32; its `InsertedPrecisionFreeCast_`). Casts that are in the graph are never dropped. So here every
tensor is cast to float16 and back, which rounds it and makes it infinite exactly where a GPU would. What is left in
float32 are the sums inside one operator, as in the matrix units of GPUs.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

RULE = "every tensor is rounded to float16, sums inside an operator are float32"
"""For records."""
_TYPE_ATTRIBUTES = ("to", "dtype")
"""Attributes that name the type of an output."""


def read_emulated(path: Path) -> bytes:
    """A graph of a file, with external data beside it, spelled out and serialised. Raises what onnx and protobuf raise
    for a file that is not a graph."""
    content: bytes = emulate_fp16(onnx.load(path)).SerializeToString()
    return content


def emulate_fp16(model: ModelProto) -> ModelProto:
    """A graph without float16 arithmetic whose tensors have the values of `model` in float16, held in float32.

    Inputs and outputs must not be float16 (those of ganrt's graphs are float32). A model that has no float16 in it is
    returned as it is; others are left as they were.
    """
    graph = model.graph
    if not any(tensor.data_type == TensorProto.FLOAT16 for tensor in graph.initializer) and not any(
        _is_fp16(attribute) for node in graph.node for attribute in node.attribute
    ):
        return model
    half = _find_fp16_tensors(model)
    made = ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:], made.graph.value_info[:]
    for tensor in made.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            name, tensor.name = tensor.name, f"{tensor.name}.float16"
            made.graph.node.append(_cast(tensor.name, name, TensorProto.FLOAT))
    for node in graph.node:
        _add_rounded(made.graph, node, half)
    return made


def _find_fp16_tensors(model: ModelProto) -> set[str]:
    """Names of what the nodes make in float16."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    return {v.name for v in inferred.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT16}


def _add_rounded(graph: GraphProto, node: NodeProto, half: set[str]) -> None:
    """Append a node, and the rounding of what it makes."""
    added = graph.node.add()
    added.CopyFrom(node)
    for attribute in added.attribute:
        if not _is_fp16(attribute):
            continue
        if attribute.type == AttributeProto.TENSOR:
            values = numpy_helper.to_array(attribute.t).astype("float32")
            attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))
        else:
            attribute.i = TensorProto.FLOAT
    for place, name in enumerate(node.output):
        if name in half:
            added.output[place] = f"{name}.exact"
            graph.node.append(_cast(f"{name}.exact", f"{name}.float16", TensorProto.FLOAT16))
            graph.node.append(_cast(f"{name}.float16", name, TensorProto.FLOAT))


def _is_fp16(attribute: AttributeProto) -> bool:
    if attribute.type == AttributeProto.TENSOR:
        return bool(attribute.t.data_type == TensorProto.FLOAT16)
    return attribute.name in _TYPE_ATTRIBUTES and bool(attribute.i == TensorProto.FLOAT16)


def _cast(source: str, target: str, kind: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], to=kind)
