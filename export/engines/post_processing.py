"""The post-processing head of an engine. It makes uint8 pictures on the device, so that one byte a channel crosses the
bus."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ganrt.gpu import FINITENESS_TENSOR, PICTURES_TENSOR
from ganrt.levels import ChannelRanges, find_levels, split_bounds
from ganrt.spec import Spec


def add_post_processing_head(model: ir.Model, spec: Spec) -> ir.Model:
    """Return a copy of a graph with two outputs beside its float image (N, C, H, W).

    PICTURES_TENSOR, uint8 (N, H, W, C): the image clamped to the levels of the output and rounded to nearest, halves
    up, as `ganrt.images.to_uint8` does. TensorRT defines its cast to uint8 for 0 to 255 only, so the image is clamped
    and rounded before it.
    FINITENESS_TENSOR, float32 (N): the mean magnitude of each image, which is not finite if any of its values is not.
    """
    model = model.clone()
    graph = model.graph
    image = next(value for value in graph.outputs if value.name == spec.output.name)
    levels = find_levels(spec.output)
    low, high = split_bounds(levels)

    # Node names are part of an architecture's digest, by which engines to refit are found in users' caches.
    def add_constant(name: str, array: np.ndarray) -> ir.Value:
        value = ir.Value(name=f"ganrt_head_{name}", const_value=ir.tensor(array))
        value.dtype, value.shape = ir.DataType.from_numpy(array.dtype), ir.Shape(array.shape)
        graph.register_initializer(value)
        return value

    def add_node(kind: str, *inputs: ir.Value, **attributes: int | tuple[int, ...]) -> ir.Value:
        node = ir.node(kind, inputs, attributes, name=f"ganrt_head_{kind}_{len(graph)}")
        graph.append(node)
        return node.outputs[0]

    floats = add_node("Cast", image, to=ir.DataType.FLOAT)
    bottom, top = add_constant("low", np.array(low, np.float32)), add_constant("high", np.array(high, np.float32))
    scale = add_constant("scale", np.array(255.0 / (high - low), np.float32))
    if isinstance(levels, ChannelRanges):  # Clip takes the same bounds for all channels
        clamped = add_node("Min", add_node("Max", floats, bottom), top)
    else:
        clamped = add_node("Clip", floats, bottom, top)
    scaled = add_node("Mul", add_node("Sub", clamped, bottom), scale)
    rounded = add_node("Floor", add_node("Add", scaled, add_constant("half", np.array(0.5, np.float32))))
    if isinstance(levels, ChannelRanges):
        order = add_constant("order", np.argsort(levels.places))
        rounded = add_node("Gather", rounded, order, axis=1)
    pictures = add_node("Cast", add_node("Transpose", rounded, perm=(0, 2, 3, 1)), to=ir.DataType.UINT8)
    if model.opset_imports[""] >= 18:
        axes = add_constant("axes", np.array([1, 2, 3], np.int64))
        finiteness = add_node("ReduceMean", add_node("Abs", floats), axes, keepdims=0)
    else:
        finiteness = add_node("ReduceMean", add_node("Abs", floats), axes=(1, 2, 3), keepdims=0)
    batch, channels, *sides = image.shape or (None,) * 4
    _set_type(pictures, PICTURES_TENSOR, ir.DataType.UINT8, [batch, *sides, channels])
    _set_type(finiteness, FINITENESS_TENSOR, ir.DataType.FLOAT, [batch])
    graph.outputs.extend([pictures, finiteness])
    return model


def _set_type(value: ir.Value, name: str, dtype: ir.DataType, shape: list[object]) -> None:
    value.name, value.dtype = name, dtype
    value.shape = ir.Shape(shape)  # type: ignore[arg-type]
