"""Emulate an fp16 graph in float32, for processors without float16 arithmetic.

ONNX Runtime's CPU provider runs most operators of an fp16 graph in float32 and removes the casts that it inserted
between them, at every optimization level, so values beyond the float16 range do not overflow there (measured with 1.32;
see its `InsertedPrecisionFreeCast_`). It never removes casts of the graph itself. The emulation therefore casts every
tensor to float16 and back, which rounds and overflows exactly as on a GPU. Only sums inside an operator stay in
float32, as in the matrix units of GPUs.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

RULE = "every tensor is rounded to float16, sums inside an operator are float32"
"""Description for records."""
_TYPE_ATTRIBUTES = ("to", "dtype")
"""Attributes that set the type of an output."""


def emulate_fp16_file(path: Path) -> bytes:
    """Read an ONNX file with its external data; return the emulated graph, serialised. Raises the exceptions of onnx
    and protobuf for a file that is not a graph."""
    content: bytes = emulate_fp16(onnx.load(path)).SerializeToString()
    return content


def emulate_fp16(model: ModelProto) -> ModelProto:
    """Return a graph without float16 arithmetic whose float32 tensors have the float16 values of `model`.

    Inputs and outputs must not be float16; those of ganrt's graphs are float32. `model` is not changed; it is returned
    itself if it has no float16.
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
        _add_rounded_node(made.graph, node, half)
    return made


def _find_fp16_tensors(model: ModelProto) -> set[str]:
    """Names of the float16 outputs of all nodes."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    return {v.name for v in inferred.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT16}


def _add_rounded_node(graph: GraphProto, node: NodeProto, half: set[str]) -> None:
    """Append a node in float32, and casts that round its float16 outputs."""
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
    for index, name in enumerate(node.output):
        if name in half:
            added.output[index] = f"{name}.exact"
            graph.node.append(_cast(f"{name}.exact", f"{name}.float16", TensorProto.FLOAT16))
            graph.node.append(_cast(f"{name}.float16", name, TensorProto.FLOAT))


def _is_fp16(attribute: AttributeProto) -> bool:
    if attribute.type == AttributeProto.TENSOR:
        return bool(attribute.t.data_type == TensorProto.FLOAT16)
    return attribute.name in _TYPE_ATTRIBUTES and bool(attribute.i == TensorProto.FLOAT16)


def _cast(source: str, target: str, kind: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], to=kind)
