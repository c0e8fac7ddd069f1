"""Operators that work value by value, or with a scale and a shift per channel, and norms."""

from __future__ import annotations

from functools import partial

import numpy as np

from ganrt.feeds import Array
from ganrt.ncnn_format.builder import Builder, Converter, reject
from ganrt.ncnn_format.network import Weights
from ganrt.ncnn_format.nodes import Node

_UNARY = {
    "Abs": 0,
    "Neg": 1,
    "Floor": 2,
    "Ceil": 3,
    "Sqrt": 5,
    "Exp": 7,
    "Log": 8,
    "Sin": 9,
    "Cos": 10,
    "Tan": 11,
    "Reciprocal": 15,
    "Round": 18,
    "Sign": 20,
}
_BINARY = {"Add": 0, "Sub": 1, "Mul": 2, "Div": 3, "Max": 4, "Min": 5, "Pow": 6}
_REVERSED = {"Sub": 7, "Div": 8, "Pow": 9}
"""With the first operand as the constant."""
_SQUARE = 4
_FLOAT_MAX = float(np.finfo(np.float32).max)
_FLOAT, _FLOAT16 = 1, 10
"""ONNX's numbers of types."""


def convert_unary(builder: Builder, node: Node) -> None:
    """`UnaryOp`."""
    builder.add("UnaryOp", node, node.inputs, {0: _UNARY[node.kind]})


def convert_layer(builder: Builder, node: Node, kind: str) -> None:
    """A layer without parameters."""
    builder.add(kind, node, node.inputs)


def convert_binary(builder: Builder, node: Node) -> None:
    """`BinaryOp`; with a constant per channel, `Scale`."""
    if len(node.inputs) != 2:
        raise reject(node, f"it has {len(node.inputs)} inputs")
    left, right = (builder.constant(node, number) for number in (0, 1))
    if left is None and right is None:
        shapes = [builder.shape(name) for name in node.inputs]
        if len(shapes[0]) != len(shapes[1]):
            raise reject(node, "its inputs have a different number of sides")
        if any(None not in pair and 1 not in pair and len(set(pair)) > 1 for pair in zip(*shapes, strict=True)):
            raise reject(node, "its inputs have sides of different lengths")
        builder.add("BinaryOp", node, node.inputs, {0: _BINARY[node.kind]})
    elif right is not None:
        _add_constant_operand(builder, node, node.inputs[0], right, _BINARY[node.kind])
    elif left is not None:
        operation = _REVERSED.get(node.kind, _BINARY[node.kind])
        _add_constant_operand(builder, node, node.inputs[1], left, operation)


def _add_constant_operand(builder: Builder, node: Node, name: str, constant: Array, operation: int) -> None:
    values = constant.astype(np.float32)
    if values.size == 1:
        value = float(values.ravel()[0])
        if node.kind == "Pow" and operation == _BINARY["Pow"] and value == 2.0:
            builder.add("UnaryOp", node, [name], {0: _SQUARE})
        else:
            builder.add("BinaryOp", node, [name], {0: operation, 1: 1, 2: value})
        return
    sides = builder.sides(name)
    values = values.reshape((1,) * (sides - values.ndim) + values.shape) if values.ndim <= sides else values
    shape = builder.shape(name)
    fits = values.ndim == sides and all(side in (1, other) for side, other in zip(values.shape, shape, strict=True))
    if not fits:
        raise reject(node, f"its constant has the shape {constant.shape}")
    per_channel = sides == 4 and values.shape[1] == values.size == shape[1]
    if per_channel and node.kind in ("Add", "Mul"):
        _add_scale(builder, node, name, *((values, None) if node.kind == "Mul" else (np.ones_like(values), values)))
        return
    blob = builder.add_constant(values[0] if sides > 1 else values)
    builder.add("BinaryOp", node, [name, blob], {0: operation})


def _add_scale(builder: Builder, node: Node, name: str, scale: Array, shift: Array | None) -> None:
    """Add a layer that computes x * scale + shift, one of each per channel."""
    weights = [Weights(scale.ravel())] + ([] if shift is None else [Weights(shift.ravel())])
    builder.add("Scale", node, [name], {0: scale.size, 1: int(shift is not None)}, *weights)


def convert_batch_norm(builder: Builder, node: Node) -> None:
    """A batch norm with kept statistics is a scale and a shift per channel; they are worked out in float64."""
    gamma, beta, mean, variance = (builder.weights(node, number, "statistics").astype(float) for number in range(1, 5))
    for part in (gamma, beta, mean, variance):
        builder.check_channels(node, part.size)
    scale = gamma / np.sqrt(variance + float(node.attributes.get("epsilon", 1e-5)))
    _add_scale(builder, node, node.inputs[0], scale, beta - mean * scale)


def convert_instance_norm(builder: Builder, node: Node) -> None:
    """`InstanceNorm`."""
    gamma, beta = (builder.weights(node, number, "scale and shift") for number in (1, 2))
    for part in (gamma, beta):
        builder.check_channels(node, part.size)
    parameters = {0: gamma.size, 1: float(node.attributes.get("epsilon", 1e-5)), 2: 1}
    builder.add("InstanceNorm", node, node.inputs[:1], parameters, Weights(gamma), Weights(beta))


def convert_relu(builder: Builder, node: Node) -> None:
    """`ReLU`, which takes the slope of a leaky one."""
    slope = float(node.attributes.get("alpha", 0.01)) if node.kind == "LeakyRelu" else 0.0
    builder.add("ReLU", node, node.inputs, {0: slope})


def convert_prelu(builder: Builder, node: Node) -> None:
    """`PReLU`, with one slope or one per channel."""
    slopes = builder.weights(node, 1, "slope")
    channels = builder.shape(node.inputs[0])[1]
    if slopes.size > 1 and (slopes.size != channels or slopes.shape[-3:] != (channels, 1, 1)):
        raise reject(node, f"its slopes have the shape {slopes.shape}")
    builder.add("PReLU", node, node.inputs[:1], {0: slopes.size}, Weights(slopes.ravel()))


def convert_clip(builder: Builder, node: Node) -> None:
    """`Clip`."""
    bounds = [-_FLOAT_MAX, _FLOAT_MAX]
    for number in (1, 2):
        if number < len(node.inputs) and node.inputs[number]:
            bounds[number - 1] = float(builder.weights(node, number, "bound"))
    builder.add("Clip", node, node.inputs[:1], dict(enumerate(bounds)))


def convert_cast(builder: Builder, node: Node) -> None:
    """Between floats: ncnn keeps all values in the type that it computes in."""
    if node.attributes["to"] not in (_FLOAT, _FLOAT16):
        raise reject(node, "it makes integers")
    builder.pass_on(node, node.inputs[0])


POINTWISE: dict[str, Converter] = {
    **dict.fromkeys(_UNARY, convert_unary),
    **dict.fromkeys(_BINARY, convert_binary),
    **dict.fromkeys(("Relu", "LeakyRelu"), convert_relu),
    "BatchNormalization": convert_batch_norm,
    "Cast": convert_cast,
    "Clip": convert_clip,
    "InstanceNormalization": convert_instance_norm,
    "PRelu": convert_prelu,
    "Sigmoid": partial(convert_layer, kind="Sigmoid"),
    "Tanh": partial(convert_layer, kind="TanH"),
}
