"""Constant scales and shifts, such as those of batch norm, folded into the weights of a layer before or behind them.

Behind a layer also across nearest up-sampling, which repeats pixels, depth-to-space, which moves channels to pixels,
and the reshaping of a vector to a picture. Before a layer a shift can be folded only where no zeros are padded: the
border would need another bias. New weights are computed in float64 and rounded once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from .affine import Vector, read_affine, read_constant_terms
from .base import Pass
from .graph import Array, Patch, find_sole_user, read_attribute, read_constant, read_gemm, read_padding, read_shape

_LAYERS = ("Conv", "ConvTranspose", "Gemm")


class _Layer(NamedTuple):
    """A layer with constant weights, as output channels x input channels x the rest."""

    node: ir.Node
    weight: Array
    """(groups, out / groups, in / groups, ...), float64."""
    bias: Array
    """(out,), float64."""


def fold_backward(model: ir.Model) -> int:
    """Layer -> scale and shift becomes a layer."""
    count = 0
    for node in list(model.graph):
        found = read_affine(node)
        pair = None if found is None else read_constant_terms(found)
        if found is None or pair is None:
            continue
        behind = _find_layer_before(found.source, *pair)
        if behind is None:
            continue
        layer, scale, shift = behind
        per_channel = np.broadcast_to(scale, layer.bias.shape).reshape(len(layer.weight), -1)
        weight = layer.weight * per_channel.reshape(*per_channel.shape, *[1] * (layer.weight.ndim - 2))
        _write_layer(layer, weight, layer.bias * scale + shift)
        Patch(node).replace(node.outputs[0], found.source)
        model.graph.remove(node, safe=True)
        count += 1
    return count


def fold_forward(model: ir.Model) -> int:
    """Scale and shift -> layers becomes layers."""
    count = 0
    for node in list(model.graph):
        found = read_affine(node)
        pair = None if found is None else read_constant_terms(found)
        if found is None or pair is None or node.outputs[0].is_graph_output():
            continue
        scale, shift = pair
        layers = [_read_layer(user) for user in node.outputs[0].consumers()]
        if not layers or any(layer is None or not _can_take(layer, node.outputs[0], shift) for layer in layers):
            continue
        for layer in layers:
            assert layer is not None
            groups, _, inner = layer.weight.shape[:3]
            channels = groups * inner
            per_channel = np.broadcast_to(scale, channels).reshape(groups, 1, inner, *[1] * (layer.weight.ndim - 3))
            added = np.broadcast_to(shift, channels).reshape(per_channel.shape) * layer.weight
            bias = added.reshape(groups, layer.weight.shape[1], -1).sum(axis=2).ravel()
            _write_layer(layer, layer.weight * per_channel, layer.bias + bias)
            layer.node.replace_input_with(0, found.source)
        model.graph.remove(node, safe=True)
        count += 1
    return count


def _can_take(layer: _Layer, value: ir.Value, shift: Vector) -> bool:
    """Whether a layer can take over what is added to its input, which must be this value alone."""
    if [value is given for given in layer.node.inputs].count(True) != 1 or layer.node.inputs[0] is not value:
        return False
    node = layer.node
    unpadded = not any(read_padding(node)) and read_attribute(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID")
    return node.op_type == "Gemm" or (node.op_type == "Conv" and unpadded) or not shift.any()


def _find_layer_before(value: ir.Value, scale: Vector, shift: Vector) -> tuple[_Layer, Vector, Vector] | None:
    """The layer that makes a value for one user alone, perhaps with its pixels repeated or its channels moved; with
    scale and shift for its own channels."""
    node = value.producer()
    if node is None or node.domain != "" or find_sole_user(value) is None:
        return None
    if node.op_type in _LAYERS:
        layer = _read_layer(node)
        return None if layer is None else (layer, scale, shift)
    source, shape = node.inputs[0], read_shape(value)
    if source is None:
        return None
    if node.op_type == "Resize" and read_attribute(node, "mode", "nearest") == "nearest" and len(shape) == 4:
        return _find_layer_before(source, scale, shift) if read_shape(source)[1] == shape[1] else None
    if node.op_type == "DepthToSpace":
        moved = [_undo_depth_to_space(node, vector) for vector in (scale, shift)]
        return _find_layer_before(source, *moved)
    if node.op_type == "Reshape" and len(read_shape(source)) == 2 and len(shape) > 2 and None not in shape[1:]:
        pixels = int(np.prod(shape[2:]))  # type: ignore[arg-type]
        return _find_layer_before(source, *(v if len(v) == 1 else np.repeat(v, pixels) for v in (scale, shift)))
    return None


def _undo_depth_to_space(node: ir.Node, vector: Vector) -> Vector:
    """One number for each channel of its input, which becomes several pixels of one channel."""
    pixels = int(read_attribute(node, "blocksize")) ** 2
    if len(vector) == 1:
        return vector
    return np.repeat(vector, pixels) if read_attribute(node, "mode", "DCR") == "CRD" else np.tile(vector, pixels)


def _read_layer(node: ir.Node | None) -> _Layer | None:
    if node is None or node.domain != "" or node.op_type not in _LAYERS:
        return None
    if node.op_type == "Gemm":
        found = read_gemm(node)
        return None if found is None else _Layer(node, found[0].astype(np.float64)[None], found[1].astype(np.float64))
    weight, given = read_constant(node.inputs[1]), node.inputs[2] if len(node.inputs) > 2 else None
    bias, groups = read_constant(given), read_attribute(node, "group", 1)
    if weight is None or (given is not None and bias is None):
        return None
    grouped = weight.astype(np.float64).reshape(groups, -1, *weight.shape[1:])
    if node.op_type == "ConvTranspose":
        grouped = grouped.swapaxes(1, 2)
    out = groups * grouped.shape[1]
    return _Layer(node, grouped, np.zeros(out) if bias is None else bias.astype(np.float64))


def _write_layer(layer: _Layer, weight: Array, bias: Array) -> None:
    """Give a layer new weights of the same shape, and a bias where it is not zero."""
    node, old = layer.node, layer.node.inputs[1]
    kept = read_constant(old)
    assert old is not None and kept is not None
    if node.op_type == "ConvTranspose":
        weight = weight.swapaxes(1, 2)
    flat = weight.reshape(-1, *weight.shape[2:])
    if node.op_type == "Gemm" and not read_attribute(node, "transB", 0):
        flat = flat.T
    patch = Patch(node)
    node.replace_input_with(1, patch.add_constant(flat.astype(kept.dtype), f"{old.name}.folded"))
    if len(node.inputs) > 2 or bias.any():
        node.resize_inputs(3)
        node.replace_input_with(2, patch.add_constant(bias.astype(kept.dtype), f"{old.name}.folded.bias"))


FOLD_BACKWARD = Pass("fold-backward", "a constant scale or shift is folded into the layer before it", fold_backward)
FOLD_FORWARD = Pass("fold-forward", "a constant scale or shift is folded into the layers behind it", fold_forward)
