"""The end of an engine: pictures as uint8 NHWC, made on the device, so that one byte a channel crosses the bus."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ganrt.engine_cache import LEVEL, PICTURES
from ganrt.spec import Spec


def with_head(model: ir.Model, spec: Spec) -> ir.Model:
    """A copy of a graph with two more outputs beside its float image (N, C, H, W).

    PICTURES, uint8 (N, H, W, C): what `ganrt.images.to_uint8` makes of the image, clamped to the range of the output
    and rounded to nearest, halves up. Nothing but whole numbers from 0 to 255 reaches the cast, which TensorRT leaves
    undefined for others.
    LEVEL, float32 (N): the mean magnitude of each image, which is not finite where a value of it is not; uint8 could
    not tell.
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
    axes = constant("axes", np.array([1, 2, 3], np.int64))
    level = op("ReduceMean", op("Abs", floats), axes, keepdims=0)
    batch, channels, *sides = image.shape or (None,) * 4
    _declare(pictures, PICTURES, ir.DataType.UINT8, [batch, *sides, channels])
    _declare(level, LEVEL, ir.DataType.FLOAT, [batch])
    graph.outputs.extend([pictures, level])
    return model


def _scale(low: float, high: float) -> np.ndarray:
    return np.array(255.0 / (high - low), np.float32)


def _declare(value: ir.Value, name: str, dtype: ir.DataType, shape: list[object]) -> None:
    value.name, value.dtype = name, dtype
    value.shape = ir.Shape(shape)  # type: ignore[arg-type]
