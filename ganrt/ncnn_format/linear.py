"""Convolutions and matrix products."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ganrt.ncnn_format.builder import Builder, Converter, reject
from ganrt.ncnn_format.network import Parameter, Weights
from ganrt.ncnn_format.nodes import Node

_PADDINGS = ("NOTSET", "VALID")
_ACTIVATIONS = {"Relu": 1, "LeakyRelu": 2, "Sigmoid": 4}
"""Operator -> the activation that a convolution computes in the same pass."""


def convert_convolution(builder: Builder, node: Node) -> None:
    """`Convolution`, and `ConvolutionDepthWise` for groups."""
    kernel, groups = builder.weights(node, 1, "kernel"), int(node.attributes.get("group", 1))
    window = _read_window(node, kernel)
    builder.check_channels(node, kernel.shape[1] * groups)
    parameters = {0: kernel.shape[0], **window, **_read_bias(builder, node, kernel.shape[0]), 6: kernel.size}
    if groups > 1:
        parameters[7] = groups
    kind = "ConvolutionDepthWise" if groups > 1 else "Convolution"
    _add(builder, kind, node, parameters, Weights(kernel, tagged=True), *_list_biases(builder, node, 2))


def convert_transposed_convolution(builder: Builder, node: Node) -> None:
    """`Deconvolution`, whose kernels are ordered (output, input, height, width) as those of a convolution."""
    kernel, groups = builder.weights(node, 1, "kernel"), int(node.attributes.get("group", 1))
    if groups > 1 or "output_shape" in node.attributes:
        raise reject(node, "it has groups or an output shape")
    bottom, right = node.attributes.get("output_padding", (0, 0))
    window = _read_window(node, kernel)
    builder.check_channels(node, kernel.shape[0])
    parameters = {0: kernel.shape[1], **window, **_read_bias(builder, node, kernel.shape[1]), 6: kernel.size}
    parameters |= {18: int(right), 19: int(bottom)}
    swapped = Weights(kernel.swapaxes(0, 1), tagged=True)
    _add(builder, "Deconvolution", node, parameters, swapped, *_list_biases(builder, node, 2))


def convert_gemm(builder: Builder, node: Node) -> None:
    """`InnerProduct`, whose kernel is ordered (output, input)."""
    matrix = builder.weights(node, 1, "matrix")
    if node.attributes.get("transA", 0):
        raise reject(node, "its first matrix is transposed")
    matrix = matrix * np.float32(node.attributes.get("alpha", 1.0))
    bias = builder.constant(node, 2)
    factor = np.float32(node.attributes.get("beta", 1.0))
    if len(node.inputs) > 2 and node.inputs[2] and bias is None:
        raise reject(node, "its bias is computed in the graph")
    matrix = matrix if node.attributes.get("transB", 0) else matrix.T
    builder.check_channels(node, matrix.shape[1])
    biases = [] if bias is None else [np.broadcast_to(bias.astype(np.float32) * factor, (1, len(matrix))).ravel()]
    _add_product(builder, node, matrix, biases)


def convert_matrix_product(builder: Builder, node: Node) -> None:
    """`InnerProduct` with a constant matrix, else `MatMul`."""
    matrix = builder.constant(node, 1)
    if matrix is not None and matrix.ndim == 2 and builder.shape(node.inputs[0])[-1] == len(matrix):
        _add_product(builder, node, matrix.astype(np.float32).T, [])
    elif matrix is None and builder.constant(node, 0) is None and builder.sides(node.inputs[0]) > 2:
        builder.add("MatMul", node, node.inputs)
    else:
        raise reject(node, "it multiplies other shapes than rows by a matrix")


def convert_embedding(builder: Builder, node: Node) -> None:
    """`Embed` looks up the row of a table for a label."""
    table = builder.constant(node, 0)
    if table is None or table.ndim != 2 or node.attributes.get("axis", 0) != 0 or builder.sides(node.inputs[1]) != 1:
        raise reject(node, "it gathers something else than the row of a constant table for a label")
    classes, width = table.shape
    rows = f"{node.output}.rows"
    parameters = {0: width, 1: classes, 3: table.size}
    builder.add("Embed", node, [node.inputs[1]], parameters, Weights(table, tagged=True), outputs=[rows])
    builder.add("Reshape", node, [rows], {0: width})


def _add_product(builder: Builder, node: Node, matrix: Any, biases: list[Any]) -> None:
    parameters = {0: len(matrix), 1: len(biases), 2: matrix.size}
    _add(builder, "InnerProduct", node, parameters, Weights(matrix, tagged=True), *map(Weights, biases))


def _add(builder: Builder, kind: str, node: Node, parameters: Mapping[int, Parameter], *weights: Weights) -> None:
    """Add a layer, with the activation that follows it, if nothing else needs its own output."""
    users = builder.graph.users.get(node.output, ())
    activation = users[0] if len(users) == 1 and users[0].kind in _ACTIVATIONS else None
    if activation is None:
        builder.add(kind, node, node.inputs[:1], parameters, *weights)
        return
    parameters = {**parameters, 9: _ACTIVATIONS[activation.kind]}
    if activation.kind == "LeakyRelu":
        parameters[10] = (float(activation.attributes.get("alpha", 0.01)),)
    builder.add(kind, activation, node.inputs[:1], parameters, *weights)
    builder.fused.add(activation.output)


def _read_window(node: Node, kernel: Any) -> dict[int, Parameter]:
    """Return the parameters for the window of a convolution over two axes."""
    if kernel.ndim != 4:
        raise reject(node, f"it convolves along {kernel.ndim - 2} axes")
    padding = node.attributes.get("auto_pad", b"NOTSET")
    padding = padding.decode() if isinstance(padding, bytes) else padding
    if padding not in _PADDINGS:
        raise reject(node, f"its padding is {padding}")
    top, left, bottom, right = node.attributes.get("pads", (0, 0, 0, 0)) if padding == "NOTSET" else (0, 0, 0, 0)
    (height, width), (down, across) = kernel.shape[2:], node.attributes.get("strides", (1, 1))
    dilation_down, dilation_across = node.attributes.get("dilations", (1, 1))
    return {
        1: width,
        11: height,
        2: dilation_across,
        12: dilation_down,
        3: across,
        13: down,
        4: left,
        14: top,
        15: right,
        16: bottom,
    }


def _read_bias(builder: Builder, node: Node, channels: int) -> dict[int, Parameter]:
    biases = _list_biases(builder, node, 2)
    if any(bias.array.size != channels for bias in biases):
        raise reject(node, f"it has {channels} channels, and its bias another number")
    return {5: len(biases)}


def _list_biases(builder: Builder, node: Node, number: int) -> list[Weights]:
    given = number < len(node.inputs) and node.inputs[number]
    return [Weights(builder.weights(node, number, "bias"))] if given else []


LINEAR: dict[str, Converter] = {
    "Conv": convert_convolution,
    "ConvTranspose": convert_transposed_convolution,
    "Gather": convert_embedding,
    "Gemm": convert_gemm,
    "MatMul": convert_matrix_product,
}
