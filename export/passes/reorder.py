"""Operations moved to where they cost less or are fused: before upsampling, and before a shuffle of pixels.

What works on every pixel by itself gives the same result before pixels are repeated, on a quarter of them. Activations
give the same result before depth-to-space, a crop or a concatenation as behind; in front, right behind the convolution,
backends fuse them with it.
"""

from __future__ import annotations

import onnx_ir as ir

from .base import Pass
from .graph import (
    Patch,
    find_producer,
    find_sole_user,
    is_nearest_2x,
    read_attribute,
    read_constant,
    read_padding,
    read_shape,
)

_ACTIVATIONS = ("Relu", "LeakyRelu", "PRelu", "Tanh", "Sigmoid", "Clip", "Elu", "Softplus", "HardSwish")
_ARITHMETIC = ("Mul", "Add", "Sub", "Div")
_SHUFFLES = ("DepthToSpace", "Slice", "Concat")
_FUSING = ("Conv", "ConvTranspose")


def move_before_upsampling(model: ir.Model) -> int:
    """Resize (nearest, 2) -> pointwise becomes pointwise -> Resize, as often as there is one."""
    count = 0
    for node in model.graph:  # in order: a moved operation may meet another upsampling later
        place = _find_upsampled_input(node)
        if place is None:
            continue
        resize = find_producer(node.inputs[place], "Resize")
        assert resize is not None
        patch = Patch(node)
        inputs = list(node.inputs)
        inputs[place] = resize.inputs[0]
        small = patch.add_copy(node, inputs)
        small.type = node.outputs[0].type
        patch.replace(node.outputs[0], patch.add_copy(resize, [small, *resize.inputs[1:]]))
        model.graph.remove(node, safe=True)
        count += 1
    return count


def _find_upsampled_input(node: ir.Node) -> int | None:
    """Index of the input of a pointwise node that is upsampled; None where moving is not possible or gains nothing."""
    if node.domain != "" or not node.inputs or len(node.outputs) != 1:
        return None
    for place, value in enumerate(node.inputs):
        resize = find_producer(value, "Resize")
        if resize is None or value is None or not is_nearest_2x(resize):
            continue
        if _is_1x1(node) and place == 0:
            return place
        alone = find_sole_user(value) is node
        others = [other for k, other in enumerate(node.inputs) if k != place and other is not None]
        pointwise = node.op_type in (*_ACTIVATIONS, *_ARITHMETIC, "BatchNormalization")
        if alone and pointwise and all(map(_is_per_channel, others)):
            return place
    return None


def _is_1x1(node: ir.Node) -> bool:
    weight = read_constant(node.inputs[1]) if node.op_type == "Conv" else None
    return (
        weight is not None
        and set(weight.shape[2:]) == {1}
        and not any(read_padding(node))
        and set(read_attribute(node, "strides", (1, 1))) == {1}
        and read_attribute(node, "auto_pad", "NOTSET") == "NOTSET"
    )


def _is_per_channel(value: ir.Value) -> bool:
    """Whether a value is the same for all pixels of NCHW pictures: a scalar, one per channel, or one per picture and
    channel. Vectors are the parameters of batch norm; broadcast over pictures they would run along the rows, so those
    of more than one value count only there."""
    shape = read_shape(value)
    if not shape:
        return value.shape is not None
    if len(shape) == 1:
        return shape[0] == 1 or all(node.op_type == "BatchNormalization" for node in value.consumers())
    return shape[-2:] == (1, 1) and len(shape) in (3, 4)


def move_before_shuffle(model: ir.Model) -> int:
    """Convolution -> depth-to-space, crop, concatenation -> activation: the activation comes right behind the first."""
    count = 0
    for node in list(model.graph):
        if node.domain != "" or node.op_type not in _ACTIVATIONS or not _is_uniform(node):
            continue
        source = node.inputs[0]
        if source is None or not _is_shuffled_conv(source):
            continue
        _activate_sources(source, node)
        Patch(node).replace(node.outputs[0], source)
        model.graph.remove(node, safe=True)
        count += 1
    return count


def _is_uniform(node: ir.Node) -> bool:
    """Whether the activation is the same for all channels, with parameters that are constant."""
    parameters = (value for value in node.inputs[1:] if value is not None)
    return all(found is not None and found.size == 1 for found in map(read_constant, parameters))


def _is_shuffled_conv(value: ir.Value) -> bool:
    """Whether a value is nothing but outputs of convolutions with their pixels in another order, and serves nothing
    else than the activation that asks."""
    node = value.producer()
    if node is None or node.op_type not in _SHUFFLES or find_sole_user(value) is None:
        return False
    parts = node.inputs if node.op_type == "Concat" else node.inputs[:1]
    return all(
        part is not None
        and find_sole_user(part) is node
        and (part.producer() is not None)
        and (part.producer().op_type in _FUSING or _is_shuffled_conv(part))  # type: ignore[union-attr]
        for part in parts
    )


def _activate_sources(value: ir.Value, activation: ir.Node) -> None:
    """Put copies of an activation behind the convolutions that a value comes from."""
    shuffle = value.producer()
    assert shuffle is not None
    for place, part in enumerate(shuffle.inputs if shuffle.op_type == "Concat" else shuffle.inputs[:1]):
        assert part is not None
        maker = part.producer()
        assert maker is not None
        if maker.op_type in _SHUFFLES:
            _activate_sources(part, activation)
        else:
            active = Patch(shuffle).add_copy(activation, [part, *activation.inputs[1:]])
            active.type, active.shape = part.type, part.shape
            shuffle.replace_input_with(place, active)


BEFORE_UPSAMPLING = Pass(
    "before-upsampling",
    "1 x 1 convolutions, norms and activations move in front of nearest up-sampling",
    move_before_upsampling,
)
BEFORE_SHUFFLING = Pass(
    "before-shuffling",
    "activations move in front of depth-to-space, to the convolutions",
    move_before_shuffle,
)
