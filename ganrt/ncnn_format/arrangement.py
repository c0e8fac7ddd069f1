"""Operators that move values, and those that combine neighbours: padding, resizing, pooling, reductions."""

from __future__ import annotations

from ganrt.ncnn_format.builder import Builder, Converter, reject
from ganrt.ncnn_format.network import Parameter
from ganrt.ncnn_format.nodes import Node
from ganrt.ncnn_format.pixel_unshuffle import PIXEL_UNSHUFFLE
from ganrt.onnx_shapes import Shape

_REDUCTIONS = {"ReduceSum": 0, "ReduceMean": 3, "ReduceMax": 4, "ReduceMin": 5}
_PADDINGS = {"constant": 0, "edge": 1, "reflect": 2}
_RESIZES = {"nearest": 1, "linear": 2}
_PERMUTATIONS = {
    (0, 1): 0, (1, 0): 1,
    (0, 1, 2): 0, (0, 2, 1): 1, (1, 0, 2): 2, (1, 2, 0): 3, (2, 0, 1): 4, (2, 1, 0): 5,
}  # fmt: skip
"""Order of the axes of a blob, outermost first -> parameter of `Permute`."""
_END = 2**31 - 1


def convert_concatenation(builder: Builder, node: Node) -> None:
    """`Concat`."""
    names = [_add_part(builder, node, number) for number in range(len(node.inputs))]
    computed = next(name for name in node.inputs if name not in builder.graph.constants)
    builder.add("Concat", node, names, {0: builder.axis(node, node.attributes["axis"], computed)})


def _add_part(builder: Builder, node: Node, number: int) -> str:
    """Return the name of an input, a constant as a blob of its own."""
    name, constant = node.inputs[number], builder.constant(node, number)
    return name if constant is None else builder.add_constant(constant[0])


def convert_split(builder: Builder, node: Node) -> None:
    """`Slice`, with the length of each part."""
    axis = builder.axis(node, node.attributes.get("axis", 0), node.inputs[0])
    lengths = [builder.shape(name)[axis + 1] for name in node.outputs]
    if None in lengths:
        raise reject(node, "its parts depend on the size of the picture")
    builder.add("Slice", node, node.inputs[:1], {0: tuple(int(n or 0) for n in lengths), 1: axis}, outputs=node.outputs)


def convert_slice(builder: Builder, node: Node) -> None:
    """`Crop`. An end beyond the last value means the last one in both."""
    starts, ends = (builder.numbers(node, number, "range") for number in (1, 2))
    given = len(node.inputs) > 3 and node.inputs[3]
    axes = builder.numbers(node, 3, "axes") if given else list(range(len(starts)))
    if len(node.inputs) > 4 and any(step != 1 for step in builder.numbers(node, 4, "step")):
        raise reject(node, "it leaves out values in between")
    axes = [builder.axis(node, axis, node.inputs[0]) for axis in axes]
    ranges = {9: tuple(starts), 10: tuple(min(end, _END) for end in ends), 11: tuple(axes)}
    builder.add("Crop", node, node.inputs[:1], ranges)


def convert_reshape(builder: Builder, node: Node) -> None:
    """`Reshape`."""
    builder.add_reshape(node, node.inputs[0], _read_new_shape(builder, node))


def _read_new_shape(builder: Builder, node: Node) -> Shape:
    """Return the shape that a node makes: as inferred, else as far as the wanted sides say."""
    inferred = builder.graph.shapes.get(node.output)
    if inferred is not None and None not in inferred:
        return inferred
    wanted = builder.numbers(node, 1, "shape")
    old = builder.shape(node.inputs[0])
    if any(side == 0 and place >= len(old) for place, side in enumerate(wanted)):
        raise reject(node, f"it makes the shape {wanted} of {len(old)} sides")
    sides = [old[place] if side == 0 else side for place, side in enumerate(wanted)]
    return tuple(None if side == -1 else side for side in sides)


def convert_flattening(builder: Builder, node: Node) -> None:
    """`Reshape` of Flatten, Squeeze and Unsqueeze."""
    builder.add_reshape(node, node.inputs[0], builder.shape(node.output))


def convert_transposition(builder: Builder, node: Node) -> None:
    """`Permute`."""
    order = tuple(node.attributes["perm"])
    axes = tuple(axis - 1 for axis in order[1:])
    if axes not in _PERMUTATIONS:  # nor is -1, the side of the batch
        raise reject(node, f"it orders the axes {order}")
    builder.add("Permute", node, node.inputs, {0: _PERMUTATIONS[axes]})


def convert_pixel_unshuffle(builder: Builder, node: Node) -> None:
    """`Reorg`."""
    builder.add("Reorg", node, node.inputs, {0: node.attributes["blocksize"], 1: 0})


def convert_depth_to_space(builder: Builder, node: Node) -> None:
    """`PixelShuffle`, which knows both orders of channels."""
    mode = node.attributes.get("mode", b"DCR")
    parameters = {0: int(node.attributes["blocksize"]), 1: int(mode in (b"DCR", "DCR"))}
    builder.add("PixelShuffle", node, node.inputs, parameters)


def convert_padding(builder: Builder, node: Node) -> None:
    """`Padding` of height and width."""
    mode = node.attributes.get("mode", b"constant").decode()
    pads, value = builder.numbers(node, 1, "amount"), builder.constant(node, 2)
    axes = builder.numbers(node, 3, "axes") if len(node.inputs) > 3 and node.inputs[3] else [0, 1, 2, 3]
    if builder.sides(node.inputs[0]) != 4 or mode not in _PADDINGS:
        raise reject(node, f"it pads {builder.sides(node.inputs[0])} axes with {mode}")
    before, after = [0] * 4, [0] * 4
    for place, axis in enumerate(axes):
        before[axis], after[axis] = pads[place], pads[place + len(axes)]
    if any((*before[:2], *after[:2])) or min((*before, *after)) < 0:
        raise reject(node, f"it pads by {pads}")
    sides = {0: before[2], 1: after[2], 2: before[3], 3: after[3]}
    filling = 0.0 if value is None else float(value.ravel()[0])
    builder.add("Padding", node, node.inputs[:1], {**sides, 4: _PADDINGS[mode], 5: filling})


def convert_resizing(builder: Builder, node: Node) -> None:
    """`Interp` by a whole factor, or of any factor with the nearest or a linear neighbour."""
    mode = node.attributes.get("mode", b"nearest").decode()
    centers = node.attributes.get("coordinate_transformation_mode", b"half_pixel").decode()
    scales = builder.constant(node, 2)
    if scales is None or scales.size != 4:
        raise reject(node, "it makes a size that is computed in the graph")
    height, width = (float(scale) for scale in scales[2:])
    nearest = mode == "nearest" and node.attributes.get("nearest_mode", b"round_prefer_floor") == b"floor"
    suits = (nearest and centers == "asymmetric") or (mode == "linear" and centers.endswith("half_pixel"))
    if not suits or tuple(scales[:2]) != (1, 1) or node.attributes.get("antialias", 0):
        raise reject(node, f"it resizes with mode {mode} and {centers}")
    builder.add("Interp", node, node.inputs[:1], {0: _RESIZES[mode], 1: height, 2: width})


def convert_max_pooling(builder: Builder, node: Node) -> None:
    """`Pooling`."""
    (height, width), (down, across) = node.attributes["kernel_shape"], node.attributes.get("strides", (1, 1))
    top, left, bottom, right = node.attributes.get("pads", (0, 0, 0, 0))
    if len(node.outputs) > 1 or any(d != 1 for d in node.attributes.get("dilations", ())):
        raise reject(node, "it returns indices or leaves out values in between")
    window = {0: 0, 1: width, 11: height, 2: across, 12: down, 3: left, 13: top, 14: right, 15: bottom}
    builder.add("Pooling", node, node.inputs, {**window, 5: 0 if node.attributes.get("ceil_mode", 0) else 1})


def convert_reduction(builder: Builder, node: Node) -> None:
    """`Reduction`."""
    if len(node.inputs) < 2 or not node.inputs[1] or not node.attributes.get("keepdims", 1):
        raise reject(node, "it reduces all axes or drops them")
    axes = tuple(builder.axis(node, axis, node.inputs[0]) for axis in builder.numbers(node, 1, "axes"))
    parameters: dict[int, Parameter] = {0: _REDUCTIONS[node.kind], 1: 0, 2: 1.0, 3: axes, 4: 1, 5: 1}
    builder.add("Reduction", node, node.inputs[:1], parameters)


def convert_softmax(builder: Builder, node: Node) -> None:
    """`Softmax`."""
    axis = builder.axis(node, node.attributes.get("axis", -1), node.inputs[0])
    builder.add("Softmax", node, node.inputs, {0: axis, 1: 1})


def pass_identity(builder: Builder, node: Node) -> None:
    """The same blob."""
    builder.pass_on(node, node.inputs[0])


ARRANGEMENT: dict[str, Converter] = {
    **dict.fromkeys(_REDUCTIONS, convert_reduction),
    **dict.fromkeys(("Flatten", "Squeeze", "Unsqueeze"), convert_flattening),
    "Concat": convert_concatenation,
    "DepthToSpace": convert_depth_to_space,
    "Identity": pass_identity,
    "MaxPool": convert_max_pooling,
    "Pad": convert_padding,
    PIXEL_UNSHUFFLE: convert_pixel_unshuffle,
    "Reshape": convert_reshape,
    "Resize": convert_resizing,
    "Slice": convert_slice,
    "Softmax": convert_softmax,
    "Split": convert_split,
    "Transpose": convert_transposition,
}
