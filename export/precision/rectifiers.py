"""Rectifiers between layers in 8 bits that are computed in 8 bits too.

ONNX Runtime 1.32 computes a convolution on integers only if what it makes is quantized right behind it. Behind a
convolution with a leaky rectifier, that is the rectifier's input; without a pair there, the convolution is computed in
float32 and takes longer than in a float32 graph. OpenVINO fuses the rectifier into the convolution either way. The
pair costs about 2 dB, so it is for graphs that ONNX Runtime alone runs, where the pictures allow it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir

from ..passes import Patch, find_sole_user, read_constant
from .calibration import QuantizationRange, Samples, measure_ranges
from .int8 import find_layers, quantize_tensor
from .judge import Judge

_RECTIFIERS = ("LeakyRelu", "PRelu")
"""A Relu needs no pair: it only clips."""


def choose_rectifiers(
    quantized: ir.Model, original: ir.Model, names: Collection[str], samples: Samples, judge: Judge
) -> tuple[ir.Model, int]:
    """Compute rectifiers in 8 bits if the pictures stay within what is allowed.

    Args:
        quantized: `original` with the layers of these names in 8 bits.
        samples: to calibrate on.

    Returns the graph and how many rectifiers of it are in 8 bits.
    """
    rectifiers = find_rectifiers(original, names)
    if not rectifiers:
        return quantized, 0
    made = quantize_rectifiers(quantized, rectifiers, measure_ranges(original, list(rectifiers), samples))
    return (made, len(rectifiers)) if judge.measure(made).error <= 1.0 else (quantized, 0)


def find_rectifiers(model: ir.Model, names: Collection[str]) -> dict[str, ir.Node]:
    """Name of what a convolution in 8 bits makes -> the rectifier that alone reads it, and that convolutions in 8 bits
    alone read.

    Args:
        names: of the layers in 8 bits.
    """
    found = {}
    lowered = {node for layer in find_layers(model) if layer.name in names for node in layer.nodes}
    for node in model.graph:
        source = node.inputs[0] if node.op_type in _RECTIFIERS and node.domain == "" else None
        if source is None or source.name is None or find_sole_user(source) is not node:
            continue
        users = {user for user, _ in node.outputs[0].uses()}
        if source.producer() in lowered and users and users <= lowered and not node.outputs[0].is_graph_output():
            found[source.name] = node
    return found


def quantize_rectifiers(
    quantized: ir.Model, rectifiers: Mapping[str, ir.Node], ranges: Mapping[str, QuantizationRange]
) -> ir.Model:
    """Return a copy of a quantized graph with a pair in front of rectifiers. A PRelu with one slope becomes a
    LeakyRelu, which ONNX Runtime computes on integers.

    Args:
        rectifiers: from `find_rectifiers` of the graph that was quantized.
        ranges: name of what a rectifier reads -> its quantization range.
    """
    copy = quantized.clone()
    for node in list(copy.graph):
        source = node.inputs[0] if node.inputs else None
        if source is None or source.name not in rectifiers or node.op_type not in _RECTIFIERS:
            continue
        quantize_tensor(source, (node,), str(source.name), ranges[str(source.name)])
        slope = read_constant(node.inputs[1]) if node.op_type == "PRelu" else None
        if slope is not None and np.ptp(slope) == 0:
            patch = Patch(node)
            patch.replace(node.outputs[0], patch.add_op("LeakyRelu", [node.inputs[0]], alpha=float(slope.flat[0])))
            copy.graph.remove(node, safe=True)
    copy.graph.sort()
    return copy
