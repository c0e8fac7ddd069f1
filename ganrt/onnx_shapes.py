"""Infer the shapes of an ONNX graph, however large its weights are."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, helper

Shape: TypeAlias = tuple[int | None, ...]
"""Sides of a tensor, that of the batch included; None for one that is not known."""

_SMALL_VALUES = 1024
"""Constants with more values are weights, of which shape inference needs the shape alone."""


def infer_shapes(model: ModelProto) -> dict[str, Shape]:
    """Return the shapes of inputs, outputs, weights and all tensors between, where the number of sides is known.

    onnx would copy the weights, and takes no more than 2 GiB, so their values are left out of what it is given. Raises
    the exceptions of onnx for shapes that contradict each other.
    """
    outline = helper.make_model(_without_weights(model), opset_imports=model.opset_import)
    inferred = onnx.shape_inference.infer_shapes(outline, data_prop=True).graph
    found: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        if value.type.tensor_type.HasField("shape"):
            sides = value.type.tensor_type.shape.dim
            found[value.name] = tuple(side.dim_value if side.HasField("dim_value") else None for side in sides)
    return found


def _without_weights(model: ModelProto) -> GraphProto:
    graph = GraphProto(name=model.graph.name)
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    for value in model.graph.output:
        graph.output.append(helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, None))
    for tensor in model.graph.initializer:
        if np.prod(tensor.dims, dtype=np.int64) > _SMALL_VALUES:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        else:
            graph.initializer.append(tensor)
    return graph
