"""Which operators TensorRT's ONNX parser rejects, and in which versions.

From onnx/onnx-tensorrt: docs/operators.md of 8.5, 9.2 and 10.15, and docs/Changelog.md up to 10.15. ganrt's TensorRT
backend runs 8.6 to 11; JetPack 5 has 8.5. What is said of OpenVINO was tried on 2026.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx_ir as ir

from ..passes import read_attribute, read_constant, read_shape

_NEVER = """
    AffineGrid Bernoulli BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor CenterCropPad Col2Im Compress
    ConcatFromSequence ConvInteger DFT Det DynamicQuantizeLinear ImageDecoder MatMulInteger MaxRoiPool MaxUnpool
    MelWeightMatrix Multinomial NegativeLogLikelihoodLoss Optional OptionalGetElement OptionalHasElement QLinearConv
    QLinearMatMul RegexFullMatch SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength
    SequenceMap SoftmaxCrossEntropyLoss SplitToSequence StringConcat StringNormalizer StringSplit TfIdfVectorizer
    Unique"""
"""Not supported in 10.15, nor in any of the older tables that know them."""

_SINCE = {
    "LayerNormalization": "8.6",
    "GroupNormalization": "8.6",
    "IsInf": "8.6",
    "Hardmax": "10.0",
    "CastLike": "10.0",
    "DeformConv": "10.1",
    "BlackmanWindow": "10.4",
    "HammingWindow": "10.4",
    "HannWindow": "10.4",
    "STFT": "10.5",
    "Attention": "10.14",
    "RMSNormalization": "10.15",
    "RotaryEmbedding": "10.15",
    "TensorScatter": "10.15",
}
"""First version of the lines 8, 10 and 11 that supports an operator."""

_LISTED_LATE = ("Gelu", "Mish")
"""In the table of 10.15 and not in that of 9.2; the Changelog does not say when they came."""

_COMPUTED_AXES = {
    "Pad": (3, "10.4"),
    "Slice": (3, "10.3"),
    "Squeeze": (1, "10.7"),
    "Unsqueeze": (1, "10.7"),
    "CumSum": (1, "10.8"),
}
"""Which input holds axes, and the first version that takes them when they are no constant."""

_GROUP_NORM_CHANGED = 21
"""Operator set since which GroupNormalization has a scale per channel."""

_NEWEST_OPSETS = (("8.6", 17), ("10.0", 20), ("10.15", 24), ("11", 25))
"""Newest operator set that a version documents."""
_USUAL_OPSET = 20


def list_rejections(node: ir.Node, opset: int) -> Iterator[str]:
    """The reasons why a node of an operator set is rejected, with the versions; none if all versions accept it."""
    operator = node.op_type
    if node.domain not in ("", "ai.onnx"):
        yield f"TensorRT's parser rejects {node.domain}.{operator} without a plugin of that name"
    elif operator in _NEVER.split():
        yield f"TensorRT's parser rejects {operator} in all versions up to 10.15"
    elif operator == "GroupNormalization" and opset >= _GROUP_NORM_CHANGED:
        yield f"TensorRT's parser rejects GroupNormalization of operator set {opset} before version 10.9"
    elif operator in _SINCE:
        yield f"TensorRT's parser rejects {operator} before version {_SINCE[operator]}"
    elif operator in _LISTED_LATE:
        yield f"TensorRT's parser does not list {operator} in version 9.2, and lists it in 10.15"
    elif operator in _CONDITIONS:
        yield from _CONDITIONS[operator](node)
    if operator in _COMPUTED_AXES:
        place, version = _COMPUTED_AXES[operator]
        axes = node.inputs[place] if len(node.inputs) > place else None
        if axes is not None and read_constant(axes) is None:
            yield f"TensorRT's parser rejects {operator} with computed axes before version {version}"


def describe_new_opset(version: int) -> str:
    """A warning for an operator set that is newer than the usual one; "" for others."""
    if version <= _USUAL_OPSET:
        return ""
    newest = ", ".join(f"{name} to {last}" for name, last in _NEWEST_OPSETS)
    return f"operator set {version}: TensorRT documents {newest}. --opset {_USUAL_OPSET} is the safest choice"


def _check_resize(node: ir.Node) -> Iterator[str]:
    modes = ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners")
    coordinates = read_attribute(node, "coordinate_transformation_mode", "half_pixel")
    if read_attribute(node, "antialias", 0):
        yield (
            "TensorRT's parser rejects Resize with antialias in all versions up to 10.15, and OpenVINO 2026.4 makes "
            "another picture of it; interpolate without it"
        )
    if coordinates not in modes:
        yield f"TensorRT's parser rejects Resize with the coordinates {coordinates} in all versions up to 10.15"
    if read_attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        yield "TensorRT's parser rejects Resize that keeps the aspect ratio in all versions up to 10.15"


def _check_pad(node: ir.Node) -> Iterator[str]:
    if read_attribute(node, "mode", "constant") == "wrap":
        yield "TensorRT's parser rejects circular Pad before version 10.0"


def _check_pool(node: ir.Node) -> Iterator[str]:
    if any(step != 1 for step in read_attribute(node, "dilations", ())):
        yield f"TensorRT's parser rejects {node.op_type} with dilation in all versions up to 10.15"
    if len(node.outputs) > 1 and node.outputs[1].uses():
        yield f"TensorRT's parser rejects {node.op_type} with indices in all versions up to 10.15"


def _check_grid_sample(node: ir.Node) -> Iterator[str]:
    if len(read_shape(node.inputs[0])) == 5:
        yield "TensorRT's parser rejects GridSample of volumes in all versions up to 10.15"


def _check_scatter(node: ir.Node) -> Iterator[str]:
    if read_attribute(node, "reduction", "none") != "none":
        if node.op_type == "ScatterND":
            yield "TensorRT's parser rejects ScatterND with a reduction in all versions up to 10.15"
        else:
            yield "TensorRT's parser rejects ScatterElements with a reduction before version 10.0"


def _check_random(node: ir.Node) -> Iterator[str]:
    yield f"TensorRT ignores the seed of {node.op_type}, so pictures cannot be made again"


_CONDITIONS: dict[str, Callable[[ir.Node], Iterator[str]]] = {
    "Resize": _check_resize,
    "Pad": _check_pad,
    "MaxPool": _check_pool,
    "AveragePool": _check_pool,
    "LpPool": _check_pool,
    "GridSample": _check_grid_sample,
    "ScatterND": _check_scatter,
    "ScatterElements": _check_scatter,
    **dict.fromkeys(("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"), _check_random),
}
"""Operators that some settings make unacceptable."""
