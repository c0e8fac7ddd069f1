"""Turing (sm75) as TensorRT for RTX compiles for it: it has no matrix product in float32, but convolutions."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir


def replace_gemms(model: ir.Model) -> ir.Model:
    """Turn each Gemm with constant float32 weights into a convolution of one pixel, in place. A MatMul stays, whatever
    it multiplies."""
    for node in list(model.graph):
        found = _read_weights(node)
        if found is None:
            continue
        weight, bias = found
        graph, name = model.graph, str(node.name or node.outputs[0].name)

        def add_constant(part: str, array: np.ndarray, graph: ir.Graph = graph, name: str = name) -> ir.Value:
            value = ir.Value(name=f"{name}.{part}", const_value=ir.tensor(np.ascontiguousarray(array)))
            value.dtype, value.shape = ir.DataType.from_numpy(array.dtype), ir.Shape(array.shape)
            graph.register_initializer(value)
            return value

        pixel = ir.node("Unsqueeze", [node.inputs[0], add_constant("axes", np.array([2, 3]))], name=f"{name}.pixel")
        inputs = [pixel.outputs[0], add_constant("kernel", weight[:, :, None, None])]
        if bias is not None:
            inputs.append(add_constant("bias", bias))
        product = ir.node("Conv", inputs, name=name)
        row = ir.node("Flatten", product.outputs, {"axis": 1}, name=f"{name}.row")
        made, old = row.outputs[0], node.outputs[0]
        graph.insert_before(node, [pixel, product, row])
        made.name, made.type, made.shape = old.name, old.type, old.shape
        ir.convenience.replace_all_uses_with([old], [made], replace_graph_outputs=True)
        graph.remove(node, safe=True)
    return model


def _read_weights(node: ir.Node) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Weight (out, in) and bias (out,) of a Gemm that multiplies rows by a constant; None for any other node."""
    if node.domain != "" or node.op_type != "Gemm":
        return None
    numbers = {name: attribute.value for name, attribute in node.attributes.items()}
    if numbers.get("transA", 0) or numbers.get("alpha", 1.0) != 1.0 or numbers.get("beta", 1.0) != 1.0:
        return None
    found = [None if value is None else ir.convenience.get_const_tensor(value) for value in node.inputs[1:]]
    if any(tensor is None or tensor.dtype != ir.DataType.FLOAT for tensor in found):
        return None
    weight, *biases = (tensor.numpy() for tensor in found if tensor is not None)
    weight = weight if numbers.get("transB", 0) else weight.T
    if any(bias.shape[:-1] not in ((), (1,)) or bias.size not in (1, len(weight)) for bias in biases):
        return None
    return weight, np.broadcast_to(biases[0].ravel(), len(weight)) if biases else None
