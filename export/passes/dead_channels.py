"""Dead-channel elimination: channels that are sliced away, and biases that an instance norm subtracts again."""

from __future__ import annotations

import onnx_ir as ir

from .base import Pass
from .graph import Patch, find_producer, find_sole_user, read_attribute, read_constant, read_shape


def remove_dead_channels(model: ir.Model) -> int:
    """Conv -> Slice of its channels becomes a Conv that makes these alone."""
    count = 0
    for node in list(model.graph):
        kept = _kept_channels(node)
        source = node.inputs[0] if node.inputs else None
        conv = None if kept is None or source is None else find_producer(source, "Conv")
        if (
            conv is None
            or source is None
            or find_sole_user(source) is not node
            or read_attribute(conv, "group", 1) != 1
        ):
            continue
        given = [read_constant(value) for value in conv.inputs[1:]]
        if any(value is None for value in given):
            continue
        patch = Patch(conv)
        for place, weight in enumerate(given, start=1):
            assert weight is not None
            old = conv.inputs[place]
            assert old is not None
            conv.replace_input_with(place, patch.add_constant(weight[kept], f"{old.name}.cut"))
        cut = node.outputs[0]
        source.shape = cut.shape
        Patch(node).replace(cut, source)
        model.graph.remove(node, safe=True)
        count += 1
    return count


def _kept_channels(node: ir.Node) -> slice | None:
    """The channels that a Slice keeps, if it cuts these only."""
    if node.op_type != "Slice" or node.domain != "" or len(node.inputs) < 4:
        return None
    first, last, axes, *steps = (read_constant(value) for value in node.inputs[1:])
    known = read_shape(node.inputs[0])
    if first is None or last is None or axes is None or axes.tolist() != [1] or len(known) != 4 or known[1] is None:
        return None
    if steps and (steps[0] is None or steps[0].tolist() != [1]):
        return None
    return slice(*slice(int(first[0]), int(last[0])).indices(known[1])[:2])


def remove_dead_biases(model: ir.Model) -> int:
    """Conv with a bias -> InstanceNormalization becomes Conv without one: the norm subtracts the mean."""
    count = 0
    for node in model.graph:
        conv = find_producer(node.inputs[0], "Conv") if node.op_type == "InstanceNormalization" else None
        if conv is None or len(conv.inputs) < 3 or find_sole_user(conv.outputs[0]) is not node:
            continue
        conv.resize_inputs(2)
        count += 1
    return count


DEAD_CHANNELS = Pass(
    "dead-channels", "channels of a convolution that are cut away are not computed", remove_dead_channels
)
DEAD_BIASES = Pass("dead-biases", "a bias that an instance norm subtracts again is not added", remove_dead_biases)
