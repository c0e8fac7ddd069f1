"""PyTorch's `pixel_unshuffle`, which ONNX has no operator for: its SpaceToDepth orders the channels otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ganrt.feeds import Array
from ganrt.ncnn_format.nodes import Node

PIXEL_UNSHUFFLE = "PixelUnshuffle"
"""Kind of the nodes that `merge_pixel_unshuffles` makes. Channel c, row i and column j of a block become channel
c * blocksize**2 + i * blocksize + j."""
_ORDER = [0, 1, 3, 5, 2, 4]


def merge_pixel_unshuffles(nodes: Sequence[Node], constants: Mapping[str, Array]) -> list[Node]:
    """Return the nodes with one for each Reshape to (N, C, H, b, W, b), Transpose to (N, C, b, b, H, W) and Reshape to
    (N, C * b * b, H, W). What worked out the sizes stays, and may be unused now."""
    makers = {name: node for node in nodes for name in node.outputs}
    found = []
    for node in nodes:
        transposed = makers.get(node.inputs[0]) if node.kind == "Reshape" else None
        split = makers.get(transposed.inputs[0]) if transposed and transposed.kind == "Transpose" else None
        if transposed and split and split.kind == "Reshape" and transposed.attributes["perm"] == _ORDER:
            side = _find_side(makers.get(split.inputs[1]), split.inputs[1], constants)
            if side is not None:
                node = Node(PIXEL_UNSHUFFLE, node.name, split.inputs[:1], node.outputs, {"blocksize": side})
        found.append(node)
    return found


def _find_side(shape: Node | None, name: str, constants: Mapping[str, Array]) -> int | None:
    """Return b of a shape (N, C, H, b, W, b); None for another shape."""
    if name in constants:
        sides = [int(side) for side in constants[name]]
    elif shape is not None and shape.kind == "Concat" and len(shape.inputs) == 6:
        sides = [int(constants[part].item()) if part in constants else -1 for part in shape.inputs]
    else:
        return None
    return sides[3] if len(sides) == 6 and sides[3] == sides[5] > 0 else None
