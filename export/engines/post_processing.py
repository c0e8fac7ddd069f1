"""What a graph gets before TensorRT sees it: an end that makes pictures as uint8 NHWC on the device, so that one byte a
channel crosses the bus, and int8 in the one form that TensorRT has."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ganrt.gpu import FINITENESS_TENSOR, PICTURES_TENSOR
from ganrt.spec import Spec


def with_head(model: ir.Model, spec: Spec) -> ir.Model:
    """A copy of a graph with two more outputs beside its float image (N, C, H, W).

    PICTURES_TENSOR, uint8 (N, H, W, C): the image clamped to the range of the output and rounded to nearest, halves up,
    as `ganrt.images.to_uint8` does. TensorRT defines its cast to uint8 for 0 to 255 only, so the image is clamped and
    rounded before it.
    FINITENESS_TENSOR, float32 (N): the mean magnitude of each image, which is not finite if any of its values is not.
    """
    model = model.clone()
    graph = model.graph
    image = next(value for value in graph.outputs if value.name == spec.output.name)
    low, high = spec.output.range

    def constant(name: str, value: np.ndarray) -> ir.Value:
        made = ir.Value(name=f"ganrt_head_{name}", const_value=ir.tensor(value))
        made.dtype, made.shape = ir.DataType.from_numpy(value.dtype), ir.Shape(value.shape)
        graph.register_initializer(made)
        return made

    def op(kind: str, *inputs: ir.Value, **attributes: int | tuple[int, ...]) -> ir.Value:
        node = ir.node(kind, inputs, attributes, name=f"ganrt_head_{kind}_{len(graph)}")
        graph.append(node)
        return node.outputs[0]

    floats = op("Cast", image, to=ir.DataType.FLOAT)
    bottom, top = constant("low", np.array(low, np.float32)), constant("high", np.array(high, np.float32))
    scaled = op("Mul", op("Sub", op("Clip", floats, bottom, top), bottom), constant("scale", _scale(low, high)))
    whole = op("Floor", op("Add", scaled, constant("half", np.array(0.5, np.float32))))
    pictures = op("Cast", op("Transpose", whole, perm=(0, 2, 3, 1)), to=ir.DataType.UINT8)
    if model.opset_imports[""] >= 18:
        level = op("ReduceMean", op("Abs", floats), constant("axes", np.array([1, 2, 3], np.int64)), keepdims=0)
    else:
        level = op("ReduceMean", op("Abs", floats), axes=(1, 2, 3), keepdims=0)
    batch, channels, *sides = image.shape or (None,) * 4
    _declare(pictures, PICTURES_TENSOR, ir.DataType.UINT8, [batch, *sides, channels])
    _declare(level, FINITENESS_TENSOR, ir.DataType.FLOAT, [batch])
    graph.outputs.extend([pictures, level])
    return model


def with_signed_steps(model: ir.Model) -> ir.Model:
    """A graph whose quantised tensors are all int8 with zero points of 0, in place. In a bundle activations are uint8
    and may have others, neither of which TensorRT takes. They keep their reach; the proof of the engine judges what
    they lose in steps."""
    for node in model.graph:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or len(node.inputs) < 3:
            continue
        _, scale, zero = node.inputs
        if scale is None or zero is None or zero.const_value is None or zero.dtype != ir.DataType.UINT8:
            continue
        steps = ir.convenience.get_const_tensor(scale)
        if steps is None:
            continue
        below = zero.const_value.numpy().astype(np.float32)
        reach = steps.numpy() * np.maximum(below, 255 - below)
        scale.const_value = ir.tensor((reach / 127).astype(np.float32), name=scale.name)
        none = np.zeros_like(below, np.int8)
        zero.const_value, zero.dtype = ir.tensor(none, name=zero.name), ir.DataType.INT8
        if node.op_type == "QuantizeLinear":
            node.outputs[0].dtype = ir.DataType.INT8
    return model


def _scale(low: float, high: float) -> np.ndarray:
    return np.array(255.0 / (high - low), np.float32)


def _declare(value: ir.Value, name: str, dtype: ir.DataType, shape: list[object]) -> None:
    value.name, value.dtype = name, dtype
    value.shape = ir.Shape(shape)  # type: ignore[arg-type]
